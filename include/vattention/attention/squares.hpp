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

/// Every head's output o^ `[g x d_v]`, into ws.sums, and |o^|^2 `[g]`.
template <cache_view View>
void form_outputs(const attention_call<View>& call, workspace& ws, double* norms) noexcept {
  const index_t value_dim = call.kv.value_dim();
  float* output = ws.sums.data();
  for (int h = 0; h < call.heads(); ++h, output += value_dim) {
    const partial_view state = ws.head(h);
    norms[h] = 0.0;
    for (index_t j = 0; j < value_dim; ++j) {
      output[j] = static_cast<float>(state.numerator()[j] / state.denominator());
      norms[h] += static_cast<double>(output[j]) * static_cast<double>(output[j]);
    }
  }
}

/// v.o^ of a block of drawn rows for every head, `[g x block]`.
template <cache_view View>
void project(const attention_call<View>& call, workspace& ws, index_t at, index_t count,
             float* along) noexcept {
  const index_t value_dim = call.kv.value_dim();
  const std::span<const row_t> rows = ws.drawn.rows().subspan(static_cast<std::size_t>(at));
  address_values(
      call.kv, count, 0, [=](index_t i) { return rows[static_cast<std::size_t>(i)]; }, ws);
  call.kernels.dot_rows(call.kv.value_type(), ws.addresses.data(), count, 0, value_dim,
                        ws.sums.data(), value_dim, call.heads(), along, workspace::block);
}

}  // namespace detail

/// Squares y_i^2 of what each drawn row contributes to a sum of each head, into ws.squares_of(head): w^2,
/// w^2 |v|^2, or w^2 |v - o^|^2, which reads the drawn values again, once for all heads. After
/// `weighted_attention::estimate` of a draw of independent inclusions, which leaves the value norms; one of
/// fixed size needs no squares.
template <cache_view View>
void form_squares(const attention_call<View>& call, workspace& ws, contribution what) noexcept {
  double output_norms[workspace::most_heads] = {};
  float* const along = ws.weights.data();
  float* const w = along + call.heads() * workspace::block;
  if (what == contribution::output) detail::form_outputs(call, ws, output_norms);
  for (index_t at = 0; at < ws.drawn.size(); at += workspace::block) {
    const index_t count = std::min(workspace::block, ws.drawn.size() - at);
    if (what == contribution::output) detail::project(call, ws, at, count, along);
    for (int h = 0; h < call.heads(); ++h) {
      std::copy_n(ws.logits_of(h) + at, count, w);
      detail::exponentiate(call.kernels, ws.head(h).max_logit(), w, count);
      const float* projected = along + h * workspace::block;
      const auto output_norm = static_cast<float>(output_norms[h]);
      float* square = ws.squares_of(h) + at;
      for (index_t i = 0; i < count; ++i) {
        const float norm = ws.sample_norms[at + i];
        square[i] = w[i] * w[i];
        if (what == contribution::numerator) square[i] *= norm;
        if (what == contribution::output)
          square[i] *= std::max(0.0F, norm - 2.0F * projected[i] + output_norm);
      }
    }
  }
}

}  // namespace vattn
