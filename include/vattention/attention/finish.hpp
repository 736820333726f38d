// SPDX-License-Identifier: Apache-2.0
/// @file
/// From a partial result to an output and the numbers of its certificate; partials of shards included.
#pragma once

#include "vattention/attention/result.hpp"

namespace vattn {

namespace detail {

/// Output, log-sum-exp and its error of head `h` into the workspace; false if any of it is not finite.
inline bool write_result(const partial_view& state, int h, workspace& ws) noexcept {
  const double d = state.denominator();
  ws.log_sum_exp[h] = state.max_logit() + std::log(d);
  ws.log_sum_exp_error[h] = d > 0.0 ? std::sqrt(state.denominator_variance()) / d : 0.0;
  return write_output(state.numerator(), d, state.value_dim(),
                      ws.output.data() + h * state.value_dim());
}

/// The part of a certificate that is the same for every budget.
inline certificate describe(const partial_view& state) noexcept {
  certificate c;
  c.max_logit = state.max_logit();
  c.denominator = state.denominator();
  c.denominator_error = std::sqrt(state.denominator_variance());
  c.looks = static_cast<int>(state.looks());
  c.rows_total = static_cast<index_t>(state.rows_total());
  c.rows_exact = static_cast<index_t>(state.rows_exact());
  c.rows_sampled = static_cast<index_t>(state.rows_sampled());
  c.bytes_touched = static_cast<index_t>(state.bytes_touched());
  return c;
}

}  // namespace detail

/// The mergeable partial result of head `head` of the latest call on this workspace. Allocates. Learned
/// sinks are part of it, so pass them with one of the shards only.
inline partial take_partial(workspace& ws, int head, index_t value_dim) {
  const certificate& c = ws.certificates[head];
  if (c.rows_exact < c.rows_total) return partial(ws.head(head));
  partial whole(value_dim);
  const partial_view state = whole.view();
  state.max_logit() = ws.softmax_max[head];
  state.denominator() = ws.softmax_sum[head];
  std::copy_n(ws.softmax_numerator.data() + head * value_dim, value_dim, state.numerator());
  state.rows_total() = static_cast<double>(c.rows_total);
  state.rows_exact() = static_cast<double>(c.rows_exact);
  state.bytes_touched() = static_cast<double>(c.bytes_touched);
  state.looks() = c.looks;
  state.value_squares() = ws.value_square * state.rows_total();
  state.floor() = state.denominator();
  state.ceiling() = -std::numeric_limits<double>::infinity();
  return whole;
}

}  // namespace vattn
