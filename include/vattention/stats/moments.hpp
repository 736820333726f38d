// SPDX-License-Identifier: Apache-2.0
/// @file
/// Mean and variance of a stream of numbers in one pass, mergeable.
#pragma once

#include <cmath>
#include <limits>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Count, mean and sum of squared deviations of the numbers seen so far.
///
/// Never subtracts large sums, so it keeps its digits when the mean is far above the spread:
/// relative error of the variance below about n (1 + mean^2 / variance)^(1/2) 1e-16. A NaN or
/// infinite number makes the variance NaN, and the mean not finite, for good. O(1) time and memory
/// a number.
/// Source: Welford, Technometrics 4(3), 1962; merging: Chan, Golub, LeVeque, American Statistician
/// 37(3), 1983.
class moments {
public:
  void add(double x) noexcept {
    ++count_;
    const double off = x - mean_;
    mean_ += off / static_cast<double>(count_);
    squares_ += off * (x - mean_);
  }

  /// As if the numbers of `other` had been added here; the order changes rounding only.
  void merge(const moments& other) noexcept {
    if (other.count_ == 0) return;
    if (count_ == 0) {
      *this = other;
      return;
    }
    const double mine = static_cast<double>(count_);
    const double total = mine + static_cast<double>(other.count_);
    const double share = static_cast<double>(other.count_) / total;
    const double off = other.mean_ - mean_;
    mean_ += off * share;
    squares_ += other.squares_ + off * off * mine * share;
    count_ += other.count_;
  }

  index_t count() const noexcept { return count_; }
  /// NaN if there is no number yet.
  double mean() const noexcept { return count_ > 0 ? mean_ : unknown; }
  /// Unbiased sample variance, divisor n - 1; NaN for fewer than two numbers.
  double variance() const noexcept {
    return count_ > 1 ? squares_ / static_cast<double>(count_ - 1) : unknown;
  }
  /// Standard error of the mean for independent numbers, sqrt(variance / n); NaN below two numbers.
  double standard_error() const noexcept {
    return std::sqrt(variance() / static_cast<double>(count_));
  }

private:
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();
  index_t count_ = 0;
  double mean_ = 0.0, squares_ = 0.0;
};

}  // namespace vattn
