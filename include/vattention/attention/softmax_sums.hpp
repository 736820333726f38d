// SPDX-License-Identifier: Apache-2.0
/// @file
/// The numbers of a running softmax, {max, sum, weighted values} of g heads, and how two of them merge.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// m = largest logit, sum = sum exp(l - m), numerator `[g x d_v]` = sum exp(l - m) v of each head. Without
/// any finite logit m = -inf and all sums are 0. Not owning.
class softmax_sums {
public:
  /// Doubles that a chunk's sums need.
  static constexpr index_t doubles(int heads, index_t value_dim) noexcept {
    return heads * (2 + value_dim);
  }
  /// In one piece of `doubles(heads, value_dim)` numbers.
  softmax_sums(double* numbers, int heads, index_t value_dim) noexcept
      : softmax_sums(numbers, numbers + heads, numbers + std::ptrdiff_t{2} * heads, heads,
                     value_dim) {}
  softmax_sums(double* max, double* sum, double* numerator, int heads, index_t value_dim) noexcept
      : max_(max), sum_(sum), numerator_(numerator), heads_(heads), value_dim_(value_dim) {}

  int heads() const noexcept { return heads_; }
  index_t value_dim() const noexcept { return value_dim_; }
  double& max(int h) const noexcept { return max_[h]; }
  double& sum(int h) const noexcept { return sum_[h]; }
  double* numerator(int h) const noexcept { return numerator_ + h * value_dim_; }

  /// Of no row. `sinks`: a learned logit each head, or null; one that is neither finite nor -inf makes the
  /// sum NaN.
  void clear(const float* sinks = nullptr) const noexcept {
    const double none = -std::numeric_limits<double>::infinity();
    for (int h = 0; h < heads_; ++h) {
      max(h) = none;
      sum(h) = 0.0;
      if (sinks == nullptr) continue;
      const auto sink = static_cast<double>(sinks[h]);
      if (std::isfinite(sink)) {
        max(h) = sink;
        sum(h) = 1.0;
      } else if (sink != none) {
        sum(h) = std::numeric_limits<double>::quiet_NaN();
      }
    }
    std::fill_n(numerator_, heads_ * value_dim_, 0.0);
  }

  /// Brings a head to a larger maximum.
  void raise(int h, double to) const noexcept {
    const double f = sum(h) == 0.0 ? 0.0 : std::exp(max(h) - to);
    sum(h) *= f;
    for (index_t j = 0; j < value_dim_; ++j) numerator(h)[j] *= f;
    max(h) = to;
  }

  /// Adds the sums of other rows. Into empty sums it is a copy, bit for bit; a NaN stays. `other` is
  /// brought to the common maximum, which changes no value.
  void merge(const softmax_sums& other) const noexcept {
    for (int h = 0; h < heads_; ++h) {
      if (other.max(h) > max(h)) raise(h, other.max(h));
      if (max(h) > other.max(h)) other.raise(h, max(h));
      sum(h) += other.sum(h);
      for (index_t j = 0; j < value_dim_; ++j) numerator(h)[j] += other.numerator(h)[j];
    }
  }

private:
  double *max_, *sum_, *numerator_;
  int heads_;
  index_t value_dim_;
};

}  // namespace vattn
