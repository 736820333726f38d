// SPDX-License-Identifier: Apache-2.0
/// @file
/// A call's answer beside the exact one: relative errors, and the softmax mass it read exactly.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <span>

#include "vattention/core/draw.hpp"
#include "vattention/core/index_set.hpp"

namespace vattn {

/// Shares of one query head's softmax denominator, in [0, 1]; NaN where it is not finite.
struct exact_mass {
  /// On the rows that were read exactly, static and predicted ones, and on those drawn by predicted weight.
  double covered = 0.0;
  /// On the static rows and the heaviest others, as many as a perfect predictor may take.
  double attainable = 0.0;
};

/// What the exact answer says of one query head's result; the output's error in the certificate's unit.
struct comparison {
  double output = 0.0, denominator = 0.0;
  exact_mass mass;
  /// ||o|| in the unit of the output's error: 1 for a relative one.
  double size = 1.0;
};

/// The rows of a draw by predicted weight: one whose probabilities differ. None of a uniform one.
inline std::span<const row_t> drawn_by_weight(const sample& drawn) noexcept {
  const std::span<const threshold_t> thresholds = drawn.thresholds();
  const bool differ = std::any_of(thresholds.begin(), thresholds.end(),
                                  [&](threshold_t t) { return t != thresholds.front(); });
  return differ ? drawn.rows() : std::span<const row_t>();
}

/// Rows a head's perfect predictor may take: those predicted, shared by the `heads` they serve, but
/// 1 % of the visible rows at least, so that a call without predictor is compared with something.
inline index_t predictable_rows(index_t predicted, int heads, index_t visible) noexcept {
  return std::max((predicted + heads - 1) / heads, (visible + 99) / 100);
}

/// Mass of the rows `read`, and of those `fixed` with the `best` heaviest others, given one query
/// head's exact logits `[n]` and their log-sum-exp. `drawn` are rows that a sampler chose by predicted
/// weight, for they are the predictor's choice as well. `read` may hold what other heads of the group
/// asked for and then cover more than is attainable. `others` `[n]` is overwritten. O(n) time, no
/// allocation.
inline exact_mass mass_read_exactly(std::span<const float> logits, double log_sum_exp,
                                    std::span<const row_t> read, std::span<const row_t> drawn,
                                    std::span<const row_t> fixed, index_t best,
                                    std::span<float> others) noexcept {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(log_sum_exp)) return {nan, nan};
  const auto mass = [&](float logit) { return std::exp(static_cast<double>(logit) - log_sum_exp); };
  exact_mass share;
  for (const row_t row : read) share.covered += mass(logits[row]);
  for (const row_t row : drawn) share.covered += mass(logits[row]);
  const auto last = std::copy(logits.begin(), logits.end(), others.begin());
  for (const row_t row : fixed) {
    share.attainable += mass(logits[row]);
    others[row] = -std::numeric_limits<float>::infinity();
  }
  const auto cut = others.begin() + std::min(best, static_cast<index_t>(logits.size()));
  if (cut != last) std::nth_element(others.begin(), cut, last, std::greater<>());
  for (auto logit = others.begin(); logit != cut; ++logit) share.attainable += mass(*logit);
  return share;
}

namespace detail {

/// ||x||^2 and ||x - y||^2 of `[dim]`.
inline double squared_norm(const float* x, index_t dim) noexcept {
  double square = 0.0;
  for (index_t j = 0; j < dim; ++j) square += static_cast<double>(x[j]) * static_cast<double>(x[j]);
  return square;
}
inline double squared_distance(const float* x, const float* y, index_t dim) noexcept {
  double square = 0.0;
  for (index_t j = 0; j < dim; ++j) {
    const double d = static_cast<double>(x[j]) - static_cast<double>(y[j]);
    square += d * d;
  }
  return square;
}

}  // namespace detail

/// ||got - want|| / ||want|| of `[dim]`; 0 if they are equal, +inf if only `want` is zero, NaN
/// stays.
inline double relative_distance(const float* got, const float* want, index_t dim) noexcept {
  const double off = detail::squared_distance(got, want, dim);
  return off == 0.0 ? 0.0 : std::sqrt(off / detail::squared_norm(want, dim));
}

/// ||x|| of `[dim]` in units of a certificate; 1 where that is ||x|| itself, so where `unit` is NaN.
inline double size_in_units(const float* x, index_t dim, double unit) noexcept {
  if (std::isnan(unit)) return 1.0;
  const double square = detail::squared_norm(x, dim);
  return square == 0.0 ? 0.0 : std::sqrt(square) / unit;
}

/// ||got - want|| of `[dim]` in units of a certificate: relative to ||want|| where `unit` is NaN.
inline double output_error(const float* got, const float* want, index_t dim, double unit) noexcept {
  if (std::isnan(unit)) return relative_distance(got, want, dim);
  const double off = detail::squared_distance(got, want, dim);
  return off == 0.0 ? 0.0 : std::sqrt(off) / unit;
}

/// |D^ / D - 1| from the logarithms; 0 if they are equal, infinite ones included.
inline double denominator_error(double log_got, double log_want) noexcept {
  return log_got == log_want ? 0.0 : std::fabs(std::expm1(log_got - log_want));
}

}  // namespace vattn
