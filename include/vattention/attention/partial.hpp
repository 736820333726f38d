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

/// A partial result as a flat array of doubles, so that it can be sent as it is. Not owning.
class partial_view {
public:
  /// Doubles that a head with values of `value_dim` elements needs.
  static constexpr index_t doubles(index_t value_dim) noexcept {
    return scalars + value_dim + variance_groups * (3 + 2 * value_dim);
  }
  partial_view(double* data, index_t value_dim) noexcept : data_(data), value_dim_(value_dim) {}

  index_t value_dim() const noexcept { return value_dim_; }
  std::span<double> data() const noexcept {
    return {data_, static_cast<std::size_t>(doubles(value_dim_))};
  }

  double& max_logit() const noexcept { return data_[0]; }
  double& denominator() const noexcept { return data_[1]; }
  /// Estimated variance of the denominator, and trace of the numerator's covariance.
  double& denominator_variance() const noexcept { return data_[2]; }
  double& numerator_variance() const noexcept { return data_[3]; }
  /// Sampled rows with probability below 1 that the head may see.
  double& uncertain() const noexcept { return data_[4]; }
  double& rows_total() const noexcept { return data_[5]; }
  double& rows_exact() const noexcept { return data_[6]; }
  double& rows_sampled() const noexcept { return data_[7]; }
  double& bytes_touched() const noexcept { return data_[8]; }
  double& looks() const noexcept { return data_[9]; }

  /// Numerator `[d_v]`.
  double* numerator() const noexcept { return data_ + scalars; }
  double& a(int group) const noexcept { return group_data(group)[0]; }
  double& a_vv(int group) const noexcept { return group_data(group)[1]; }
  double& s(int group) const noexcept { return group_data(group)[2]; }
  double* a_v(int group) const noexcept { return group_data(group) + 3; }
  double* s_v(int group) const noexcept { return group_data(group) + 3 + value_dim_; }

  void clear() const noexcept {
    std::fill_n(data_, doubles(value_dim_), 0.0);
    max_logit() = -std::numeric_limits<double>::infinity();
  }
  /// Clears all but the groups' vectors, for one who sets those himself.
  void clear_sums() const noexcept {
    std::fill_n(data_, scalars + value_dim_, 0.0);
    max_logit() = -std::numeric_limits<double>::infinity();
    for (int g = 0; g < variance_groups; ++g) std::fill_n(group_data(g), 3, 0.0);
  }

  /// Expresses everything relative to a larger maximum; `to` is at least max_logit().
  void rescale(double to) const noexcept {
    if (to == max_logit()) return;
    const double f =
        max_logit() == -std::numeric_limits<double>::infinity() ? 0.0 : std::exp(max_logit() - to);
    denominator() *= f;
    denominator_variance() *= f * f;
    numerator_variance() *= f * f;
    for (index_t j = 0; j < value_dim_; ++j) numerator()[j] *= f;
    for (int g = 0; g < variance_groups; ++g) {
      a(g) *= f * f;
      a_vv(g) *= f * f;
      s(g) *= f;
      for (index_t j = 0; j < value_dim_; ++j) a_v(g)[j] *= f * f;
      for (index_t j = 0; j < value_dim_; ++j) s_v(g)[j] *= f;
    }
    max_logit() = to;
  }

  /// Adds the partial of another, disjoint shard of the same cache. Counts add; looks take the larger.
  /// Associative up to rounding. `other` is brought to the common maximum, which changes no value.
  void merge(const partial_view& other) const noexcept {
    VATTN_ASSERT(other.value_dim_ == value_dim_);
    const double common = std::max(max_logit(), other.max_logit());
    const double most_looks = std::max(looks(), other.looks());
    rescale(common);
    other.rescale(common);
    for (index_t i = 1; i < doubles(value_dim_); ++i) data_[i] += other.data_[i];
    looks() = most_looks;
  }

private:
  static constexpr index_t scalars = 16;
  double* group_data(int group) const noexcept {
    return data_ + scalars + value_dim_ + group * (3 + 2 * value_dim_);
  }
  double* data_;
  index_t value_dim_;
};

/// An owning partial result.
class partial {
public:
  explicit partial(index_t value_dim)
      : data_(static_cast<std::size_t>(partial_view::doubles(value_dim))), value_dim_(value_dim) {
    view().clear();
  }
  explicit partial(const partial_view& from)
      : data_(from.data().begin(), from.data().end()), value_dim_(from.value_dim()) {}
  partial_view view() noexcept { return {data_.data(), value_dim_}; }

private:
  std::vector<double> data_;
  index_t value_dim_;
};

}  // namespace vattn
