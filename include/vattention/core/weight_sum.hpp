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

/// sum_i exp(t_i - largest) over some log-weights; infinite or NaN where one of them is NaN or +inf.
struct weight_sum {
  float largest = -std::numeric_limits<float>::infinity();
  double sum = 0.0;

  /// Adds the sum over others.
  void add(const weight_sum& other) noexcept {
    if (!(other.largest <= largest)) {
      sum = sum > 0.0 ? sum * factor(largest, other.largest) : sum;
      largest = other.largest;
    }
    sum += other.sum == 0.0 ? 0.0 : other.sum * factor(other.largest, largest);
  }

private:
  static double factor(float from, float to) noexcept {
    return std::exp(static_cast<double>(from) - static_cast<double>(to));
  }
};

/// The sum over `count` log-weights, in steps that stay in the first-level cache.
inline weight_sum sum_weights(const kernels::table& kernels, const float* t,
                              index_t count) noexcept {
  constexpr index_t step = 2048;
  weight_sum all;
  for (index_t at = 0; at < count; at += step) {
    const index_t size = std::min(step, count - at);
    const float top = kernels.max_of(t + at, size);
    if (top > std::numeric_limits<float>::max()) return {top, HUGE_VAL};
    const bool weighs = top > -std::numeric_limits<float>::infinity();
    const double sum = kernels.exp_shifted(t + at, size, weighs ? top : 0.0F, nullptr);
    if (weighs || std::isnan(sum)) all.add({top, sum});
  }
  return all;
}

/// The sum over those log-weights that are neither NaN nor +inf; these are set to `certain_weight`. `odd` has room
/// for `count`.
inline weight_sum sum_predicted(const kernels::table& kernels, float* t, index_t count,
                                row_t* odd) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const index_t odd_rows = kernels.not_below(t, count, infinity, odd);
  for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = -infinity;
  const weight_sum rest = sum_weights(kernels, t, count);
  for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = certain_weight;
  return rest;
}

}  // namespace vattn
