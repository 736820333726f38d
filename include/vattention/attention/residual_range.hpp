// SPDX-License-Identifier: Apache-2.0
/// @file
/// The range of the weights that are left to sample, from a predictor's bounds: before anything is drawn.
#pragma once

#include <cmath>

#include "vattention/core/concepts.hpp"

namespace vattn {

namespace detail {

/// Bounds of the rows outside ws.exact, packed in front; returns their number.
inline index_t pack_residual(index_t visible, workspace& ws) noexcept {
  index_t count = 0;
  for (index_t row = 0; row < visible; ++row) {
    if (ws.exact.contains(static_cast<row_t>(row))) continue;
    ws.lower[count] = ws.lower[row];
    ws.upper[count++] = ws.upper[row];
  }
  return count;
}

/// Upper bounds of weights relative to the largest finite one into ws.seen: +inf where a row cannot be
/// bounded, 0 for rows that are read anyway or hidden and for no others: what is far below one loose bound may
/// still be all that counts.
inline void keep_weights(const kernels::table& kernels, index_t visible, int h,
                         workspace& ws) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  float* weight = ws.seen.scores(h).data();
  float ceiling = -infinity;
  for (index_t row = 0; row < visible; ++row) {
    const bool exact = ws.exact.contains(static_cast<row_t>(row));
    weight[row] = exact ? -infinity : ws.upper[row];
    if (exact || !std::isfinite(ws.upper[row])) continue;
    ceiling = std::max(ceiling, ws.upper[row]);
  }
  ws.ranges[2 * h] = static_cast<double>(ceiling);
  if (ceiling == -infinity) ceiling = 0.0F;
  kernels.exp_shifted(weight, visible, ceiling, weight);
  for (index_t row = 0; row < visible; ++row) {
    weight[row] *= 1.0F + 0x1p-16F;
    const bool counts = ws.upper[row] > -infinity && !ws.exact.contains(static_cast<row_t>(row));
    if (counts) weight[row] = std::max(weight[row], std::numeric_limits<float>::min());
    if (std::isnan(ws.upper[row])) weight[row] = infinity;
  }
}

}  // namespace detail

/// For each head into ws.ranges: a ceiling c of the logits outside ws.exact (listed), and a lower bound
/// of sum exp(l - c) over them; +inf and 0 if some row cannot be bounded, -inf and 0 if the head sees
/// none. Sound to 2^-16 of the sum, for weights are floats. Looks at every code once more a head: O(n d)
/// a head, no key is read, nothing allocated after `workspace::reserve_bounds`.
///
/// With `keep`, for samplers that follow the bounds: rows that cannot be bounded do not count, as they are
/// drawn for certain, and ws.seen gets the upper bounds of all weights.
template <bounds_scores Predictor, cache_view View>
void bound_residual(const Predictor& top_k, const attention_call<View>& call,
                    const typename Predictor::index_type& index, bool keep,
                    workspace& ws) noexcept {
  for (int h = 0; h < call.heads(); ++h) {
    top_k.bounds(call, index, h, ws.lower.first(call.visible), ws.upper.first(call.visible), ws);
    if (keep) detail::keep_weights(call.kernels, call.visible, h, ws);
    const index_t count = detail::pack_residual(call.visible, ws);
    double* range = ws.ranges.data() + 2 * h;
    if (!keep) range[0] = static_cast<double>(call.kernels.max_of(ws.upper.data(), count));
    range[1] = 0.0;
    if (std::isfinite(range[0]))
      range[1] =
          (1.0 - 0x1p-16) * call.kernels.exp_shifted(ws.lower.data(), count,
                                                     static_cast<float>(range[0]), ws.lower.data());
  }
}

/// Puts a head's two numbers into its state, whose floor is that of the exact rows so far.
inline void set_range(const partial_view& state, const double* range) noexcept {
  state.ceiling() = range[0];
  if (std::isfinite(range[0])) state.floor() += range[1] * std::exp(range[0] - state.max_logit());
}

}  // namespace vattn
