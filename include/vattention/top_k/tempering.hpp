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

/// Tempers the scores of rows [at, at + count), at most 256, in place; a score of -inf, of a row that cannot
/// weigh anything, stays. `norms` are the rows' coding errors, `per_square` the head's `error_scale`.
inline void temper_scores(float* score, const float* norms, index_t count, tempering by,
                          float per_square) noexcept {
  constexpr float hidden = -std::numeric_limits<float>::infinity();
  const float kappa = by.kappa * per_square;
  for (index_t i = 0; i < count; ++i)
    score[i] = score[i] == hidden ? hidden : by.tau * score[i] + kappa * (norms[i] * norms[i]);
}

/// The logit that a tempered score was made of.
inline float untempered(float t, float norm, tempering by, float per_square) noexcept {
  return (t - by.kappa * per_square * (norm * norm)) / by.tau;
}

}  // namespace vattn::top_k
