// SPDX-License-Identifier: Apache-2.0
/// @file
/// What each drawn row of a draw of independent inclusions contributes to a variance.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/outlook.hpp"
#include "vattention/core/value_rows.hpp"

namespace vattn {

namespace detail {

/// exp(logit - max_logit), in place. Without a finite maximum: 0, or NaN where it is +inf or a logit NaN.
inline void exponentiate(const kernels::table& kernels, double max_logit, float* logits,
                         index_t count) noexcept {
  if (std::isfinite(max_logit))
    kernels.exp_shifted(logits, count, static_cast<float>(max_logit), logits);
  else
    for (index_t i = 0; i < count; ++i)
      logits[i] =
          std::isnan(logits[i]) || max_logit > 0.0 ? std::numeric_limits<float>::quiet_NaN() : 0.0F;
}

/// v.o^ of a block of drawn rows; returns |o^|^2.
template <cache_view View>
double project(const attention_call<View>& call, workspace& ws, const partial_view& state,
               index_t at, index_t count, float* along) noexcept {
  const index_t value_dim = call.kv.value_dim();
  double norm = 0.0;
  float* output = ws.sums.data();
  for (index_t j = 0; j < value_dim; ++j) {
    output[j] = static_cast<float>(state.numerator()[j] / state.denominator());
    norm += static_cast<double>(output[j]) * static_cast<double>(output[j]);
  }
  const std::span<const row_t> rows = ws.drawn.rows().subspan(static_cast<std::size_t>(at));
  address_values(
      call.kv, count, 0, [=](index_t i) { return rows[static_cast<std::size_t>(i)]; }, ws);
  call.kernels.dot_rows(call.kv.value_type(), ws.addresses.data(), count, 0, value_dim, output,
                        value_dim, 1, along, workspace::block);
  return norm;
}

}  // namespace detail

/// Squares y_i^2 of what each drawn row contributes to a sum, into ws.squares: w^2, w^2 |v|^2, or
/// w^2 |v - o^|^2, which reads the drawn values again. After `weighted_attention::estimate` of a draw of
/// independent inclusions, which leaves the value norms; one of fixed size needs no squares.
template <cache_view View>
contributions squares_of(const attention_call<View>& call, workspace& ws, int head,
                         contribution what) noexcept {
  const partial_view state = ws.head(head);
  const index_t rows = ws.drawn.size();
  float* w = ws.weights.data();
  float* along = w + workspace::block;
  contributions sum{{ws.squares.data(), static_cast<std::size_t>(rows)}, 0.0};
  for (index_t at = 0; at < rows; at += workspace::block) {
    const index_t count = std::min(workspace::block, rows - at);
    std::copy_n(ws.logits_of(head) + at, count, w);
    detail::exponentiate(call.kernels, state.max_logit(), w, count);
    const double output_norm =
        what == contribution::output ? detail::project(call, ws, state, at, count, along) : 0.0;
    for (index_t i = 0; i < count; ++i) {
      const auto norm = static_cast<double>(ws.sample_norms[at + i]);
      double square = static_cast<double>(w[i]) * static_cast<double>(w[i]);
      if (what == contribution::numerator) square *= norm;
      if (what == contribution::output)
        square *= std::max(0.0, norm - 2.0 * static_cast<double>(along[i]) + output_norm);
      ws.squares[at + i] = static_cast<float>(square);
      sum.total += square;
    }
  }
  return sum;
}

}  // namespace vattn
