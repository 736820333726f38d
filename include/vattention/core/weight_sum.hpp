// SPDX-License-Identifier: Apache-2.0
/// @file
/// The sum of the weights that log-weights stand for.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// Log-weight that stands for a row which could not be predicted, and is certain to be drawn.
inline constexpr float certain_weight = std::numeric_limits<float>::max();

/// sum_i exp(t_i - largest).
struct weight_sum {
  float largest = -std::numeric_limits<float>::infinity();
  double sum = 0.0;
};

namespace detail {

/// A block at a time, while it is in the first-level cache. NaN or infinite where a log-weight is.
inline weight_sum plain_weight_sum(const kernels::table& kernels, const float* t,
                                   index_t count) noexcept {
  constexpr index_t step = 2048;
  constexpr float none = -std::numeric_limits<float>::infinity();
  weight_sum all;
  for (index_t at = 0; at < count; at += step) {
    const index_t size = std::min(step, count - at);
    const float top = kernels.max_of(t + at, size);
    if (!(top <= std::numeric_limits<float>::max())) return {top, HUGE_VAL};
    if (top > all.largest) {
      all.sum *= std::exp(static_cast<double>(all.largest) - static_cast<double>(top));
      all.largest = top;
    }
    if (all.largest > none) all.sum += kernels.exp_shifted(t + at, size, all.largest, nullptr);
  }
  return all;
}

}  // namespace detail

/// The sum over log-weights `t`; those that are NaN or +inf are left out and set to `certain_weight`. `odd` has
/// room for `count`. O(count).
inline weight_sum sum_weights(const kernels::table& kernels, float* t, index_t count,
                              row_t* odd) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const weight_sum plain = detail::plain_weight_sum(kernels, t, count);
  if (std::isfinite(plain.sum)) return plain;
  const index_t odd_rows = kernels.not_below(t, count, infinity, odd);
  for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = -infinity;
  const weight_sum rest = detail::plain_weight_sum(kernels, t, count);
  for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = certain_weight;
  return rest;
}

}  // namespace vattn
