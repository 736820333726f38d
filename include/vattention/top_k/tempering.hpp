// SPDX-License-Identifier: Apache-2.0
/// @file
/// From predicted logits to log-weights that a sampler may follow.
#pragma once

#include "vattention/core/attention_call.hpp"
#include "vattention/core/workspace.hpp"

namespace vattn::top_k {

/// t = tau p + kappa s^2 with p the predicted logit and s^2 = scale^2 |q|^2 e^2 / d the variance of its
/// error, e the norm of the key's coding error. A weak code's p is damped, or rare rows that it underrates
/// rule the variance; the second term lifts a key whose code is known to be poor. Constants by bits are
/// measured (bench/results), and so is which codes' certificates hold row by row.
struct tempering {
  float tau, kappa;
};

/// The variance of a prediction per squared error norm.
template <cache_view View>
float error_scale(const attention_call<View>& call, int h) noexcept {
  const float* q = call.queries.data + h * call.queries.stride;
  double square = 0.0;
  for (index_t j = 0; j < call.kv.key_dim(); ++j)
    square += static_cast<double>(q[j]) * static_cast<double>(q[j]);
  const double scale = static_cast<double>(call.scale);
  return static_cast<float>(scale * scale * square / static_cast<double>(call.kv.key_dim()));
}

/// Tempers ws.seen in place; a score of -inf, of a row that cannot weigh anything, stays. O(n) a head.
template <cache_view View, class Index>
void temper_scores(const attention_call<View>& call, const Index& index, tempering by,
                   workspace& ws) noexcept {
  float square[workspace::block];
  float kappa[workspace::most_heads];
  for (int h = 0; h < call.heads(); ++h) kappa[h] = by.kappa * error_scale(call, h);
  for (index_t at = 0; at < call.visible; at += workspace::block) {
    const index_t count = std::min(workspace::block, call.visible - at);
    index.squared_errors(at, count, square);
    for (int h = 0; h < call.heads(); ++h) {
      float* t = ws.seen.scores(h).data() + at;
      for (index_t i = 0; i < count; ++i)
        t[i] = t[i] == attention_call<View>::hidden ? t[i] : by.tau * t[i] + kappa[h] * square[i];
    }
  }
}

}  // namespace vattn::top_k
