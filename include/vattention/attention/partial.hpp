// SPDX-License-Identifier: Apache-2.0
/// @file
/// The mergeable state of one query head: softmax sums, and variance sums that know no output yet.
///
/// The error of the self-normalised estimate o^ = N^ / D^ is, exactly,
///   o^ - o = (1 / D^) sum_i (I_i / p_i - 1) w_i (v_i - o),
/// so its variance is a quadratic in o. Keeping the coefficients, in 32 groups of rows by a hash of the
/// global row number, lets shards of one cache be merged before any of them knows the output: with
/// a = w^2 (1 - p) / p^2 and s = w sqrt(1 - p) / p a group keeps sum a, sum a v, sum a |v|^2, sum s and
/// sum s v. All weights are relative to `max_logit`.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Groups the sampled rows are dealt into for the variance of the variance and the effective rank.
inline constexpr int variance_groups = 32;

/// Fewest uncertain rows to judge a sample by; below, zero spread is no evidence of zero spread.
inline constexpr double fewest_uncertain_rows = 16.0;

/// Group of a row: a hash of its global number, so that shards agree.
inline int variance_group(index_t global_row) noexcept {
  auto x = static_cast<std::uint64_t>(global_row) * 0x9E3779B97F4A7C15ULL;
  x ^= x >> 32U;
  x *= 0xD6E8FEB86659FD93ULL;
  return static_cast<int>(x >> 59U);
}

/// A partial result: numbers in double, the groups' vectors in float. Not owning.
class partial_view {
public:
  /// Doubles that a head needs whose values have `value_dim` elements, its groups' vectors aside.
  static constexpr index_t doubles(index_t value_dim) noexcept {
    return scalars + value_dim + 3 * variance_groups;
  }
  /// Of group i, sum a v lies at `vectors + i * group_stride`, and sum s v `s_offset` floats behind.
  partial_view(double* numbers, float* vectors, index_t group_stride, index_t s_offset,
               index_t value_dim) noexcept
      : numbers_(numbers),
        vectors_(vectors),
        group_stride_(group_stride),
        s_offset_(s_offset),
        value_dim_(value_dim) {}

  index_t value_dim() const noexcept { return value_dim_; }
  std::span<double> numbers() const noexcept {
    return {numbers_, static_cast<std::size_t>(doubles(value_dim_))};
  }

  double& max_logit() const noexcept { return numbers_[0]; }
  double& denominator() const noexcept { return numbers_[1]; }
  /// Estimated variance of the denominator, and trace of the numerator's covariance.
  double& denominator_variance() const noexcept { return numbers_[2]; }
  double& numerator_variance() const noexcept { return numbers_[3]; }
  /// Sampled rows with probability below 1 that the head may see.
  double& uncertain() const noexcept { return numbers_[4]; }
  double& rows_total() const noexcept { return numbers_[5]; }
  double& rows_exact() const noexcept { return numbers_[6]; }
  double& rows_sampled() const noexcept { return numbers_[7]; }
  double& bytes_touched() const noexcept { return numbers_[8]; }
  double& looks() const noexcept { return numbers_[9]; }
  /// Sound upper bound of the largest logit outside the exact rows [natural log]; +inf if unknown.
  /// Known only if the budget asked for it, see `needs_ceiling`.
  double& ceiling() const noexcept { return numbers_[10]; }
  /// Sound lower bound of the denominator, whatever was drawn; the exact rows' share at least.
  double& floor() const noexcept { return numbers_[11]; }
  /// Shards among those merged that drew a sample.
  double& sampled_shards() const noexcept { return numbers_[12]; }
  /// Of the rows that the last look might have drawn, for `certify/strict.hpp`: sum u^2 a^power (1 - p) / p
  /// for power 0, 1, 2; the largest u (a + b) / p (u / p for the denominator) and its b; and drawn rows that
  /// turned out to be above their bounds.
  double& spread(int power) const noexcept { return numbers_[13 + power]; }
  double& largest_term() const noexcept { return numbers_[16]; }
  double& reference_norm() const noexcept { return numbers_[17]; }
  double& violations() const noexcept { return numbers_[18]; }
  /// Sum of ||v||^2 over the visible rows, at the mean of the predictor's index; NaN if that knows none.
  double& value_squares() const noexcept { return numbers_[19]; }
  /// The least error, relative to ||o^||, that may be stated of the sample, see `dynamic_sampling_policy`.
  double& resolution() const noexcept { return numbers_[20]; }
  /// Shards whose sample is not to be believed, see `largest_doubt`.
  double& doubtful() const noexcept { return numbers_[21]; }

  /// Numerator `[d_v]`.
  double* numerator() const noexcept { return numbers_ + scalars; }
  double& a(int group) const noexcept { return group_numbers(group)[0]; }
  double& a_vv(int group) const noexcept { return group_numbers(group)[1]; }
  double& s(int group) const noexcept { return group_numbers(group)[2]; }
  float* a_v(int group) const noexcept { return vectors_ + group * group_stride_; }
  float* s_v(int group) const noexcept { return a_v(group) + s_offset_; }

  void clear() const noexcept {
    clear_numbers();
    for (int g = 0; g < variance_groups; ++g) {
      std::fill_n(a_v(g), value_dim_, 0.0F);
      std::fill_n(s_v(g), value_dim_, 0.0F);
    }
  }
  /// Clears the numbers, for one who sets the groups' vectors himself.
  void clear_numbers() const noexcept {
    std::fill_n(numbers_, doubles(value_dim_), 0.0);
    max_logit() = -std::numeric_limits<double>::infinity();
    ceiling() = std::numeric_limits<double>::infinity();
  }

  /// Expresses everything relative to a larger maximum; `to` is at least max_logit().
  void rescale(double to) const noexcept {
    if (to == max_logit()) return;
    const double f =
        max_logit() == -std::numeric_limits<double>::infinity() ? 0.0 : std::exp(max_logit() - to);
    denominator() *= f;
    floor() *= f;
    largest_term() *= f;
    for (int power = 0; power < 3; ++power) spread(power) *= f * f;
    denominator_variance() *= f * f;
    numerator_variance() *= f * f;
    for (index_t j = 0; j < value_dim_; ++j) numerator()[j] *= f;
    for (int g = 0; g < variance_groups; ++g) {
      a(g) *= f * f;
      a_vv(g) *= f * f;
      s(g) *= f;
      for (index_t j = 0; j < value_dim_; ++j) a_v(g)[j] *= static_cast<float>(f * f);
      for (index_t j = 0; j < value_dim_; ++j) s_v(g)[j] *= static_cast<float>(f);
    }
    max_logit() = to;
  }

  /// Adds the partial of another, disjoint shard of the same cache. Counts add; looks, resolution and
  /// ceiling take the larger, where a partial without rows does not count. Associative up to
  /// rounding. `other` is brought to the common maximum, which changes no value.
  void merge(const partial_view& other) const noexcept {
    VATTN_ASSERT(other.value_dim_ == value_dim_);
    const double common = std::max(max_logit(), other.max_logit());
    const double most_looks = std::max(looks(), other.looks());
    const double coarsest = std::max(resolution(), other.resolution());
    const double highest = other.rows_total() == 0.0 ? ceiling()
                           : rows_total() == 0.0     ? other.ceiling()
                                                     : std::max(ceiling(), other.ceiling());
    rescale(common);
    other.rescale(common);
    for (index_t i = 1; i < doubles(value_dim_); ++i) numbers_[i] += other.numbers_[i];
    for (int g = 0; g < variance_groups; ++g) {
      for (index_t j = 0; j < value_dim_; ++j) a_v(g)[j] += other.a_v(g)[j];
      for (index_t j = 0; j < value_dim_; ++j) s_v(g)[j] += other.s_v(g)[j];
    }
    looks() = most_looks;
    resolution() = coarsest;
    ceiling() = highest;
  }

private:
  static constexpr index_t scalars = 24;
  double* group_numbers(int group) const noexcept {
    return numbers_ + scalars + value_dim_ + std::ptrdiff_t{3} * group;
  }
  double* numbers_;
  float* vectors_;
  index_t group_stride_, s_offset_, value_dim_;
};

/// An owning partial result: two flat arrays, which can be sent as they are.
class partial {
public:
  explicit partial(index_t value_dim)
      : numbers_(static_cast<std::size_t>(partial_view::doubles(value_dim))),
        vectors_(static_cast<std::size_t>(2 * variance_groups * value_dim)),
        value_dim_(value_dim) {
    view().clear();
  }
  explicit partial(const partial_view& from) : partial(from.value_dim()) {
    std::copy(from.numbers().begin(), from.numbers().end(), numbers_.begin());
    for (int g = 0; g < variance_groups; ++g) {
      std::copy_n(from.a_v(g), value_dim_, view().a_v(g));
      std::copy_n(from.s_v(g), value_dim_, view().s_v(g));
    }
  }
  partial_view view() noexcept {
    return {numbers_.data(), vectors_.data(), 2 * value_dim_, value_dim_, value_dim_};
  }
  /// `24 + d_v + 96` doubles and `[32 x 2 x d_v]` floats.
  std::span<double> numbers() noexcept { return numbers_; }
  std::span<float> vectors() noexcept { return vectors_; }

private:
  std::vector<double> numbers_;
  std::vector<float> vectors_;
  index_t value_dim_;
};

}  // namespace vattn
