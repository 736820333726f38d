// SPDX-License-Identifier: Apache-2.0
/// @file
/// Binomial tails without underflow: how many failures in n trials are still believable?
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "vattention/core/kv_view.hpp"

namespace vattn {

namespace detail {

/// log n! less Stirling's formula n log n - n + log(2 pi n) / 2, for n >= 1.
inline double stirling_rest(index_t n) noexcept {
  const double x = static_cast<double>(n);
  if (n >= 16) {
    const double s = 1.0 / (x * x);
    return (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - s / 1188) * s) * s) * s) / x;
  }
  double factorial = 1.0;
  for (index_t i = 2; i <= n; ++i) factorial *= static_cast<double>(i);
  return std::log(factorial) - (x * std::log(x) - x + 0.5 * std::log(2 * std::numbers::pi * x));
}

/// x log(x / m) + m - x, the deviance of x from its mean m > 0, without cancellation near x = m.
inline double deviance(double x, double m) noexcept {
  const double v = (x - m) / (x + m);
  if (std::abs(v) > 0.1) return x * std::log(x / m) + m - x;
  double sum = (x - m) * v;  // then 2 x (v^3 / 3 + v^5 / 5 + ...)
  double term = 2.0 * x * v;
  for (int j = 3; j < 40; j += 2) {
    term *= v * v;
    sum += term / j;
  }
  return sum;
}

/// log P(X = k) for X ~ Binomial(n, p), 0 <= k <= n, 0 < p < 1, where q = 1 - p.
inline double log_binomial_point(index_t n, double p, double q, index_t k) noexcept {
  const double all = static_cast<double>(n);
  const double x = static_cast<double>(k);
  const double y = static_cast<double>(n - k);
  if (k == 0) return all * (p < 0.5 ? std::log1p(-p) : std::log(q));
  if (k == n) return all * (q < 0.5 ? std::log1p(-q) : std::log(p));
  return stirling_rest(n) - stirling_rest(k) - stirling_rest(n - k) - deviance(x, all * p) -
         deviance(y, all * q) + 0.5 * std::log(all / (2 * std::numbers::pi * x * y));
}

/// log P(X >= k) summed from k upwards, for k above the mean, where the terms fall.
inline double log_binomial_far_tail(index_t n, double p, double q, index_t k) noexcept {
  double sum = 1.0;  // in units of P(X = k)
  double term = 1.0;
  for (index_t i = k; i < n && term > 1e-17 * sum; ++i) {
    term *= static_cast<double>(n - i) / static_cast<double>(i + 1) * (p / q);
    sum += term;
  }
  return log_binomial_point(n, p, q, k) + std::log(sum);
}

}  // namespace detail

/// log P(X >= k) for X ~ Binomial(n, p): 0 for k <= 0, -inf for k > n. NaN unless n >= 0 and p is
/// in [0, 1].
///
/// Exact sum, no approximation; relative error of the probability, or of one minus it if that is
/// smaller, below 2e-13 for n up to 1e6, also where it is far below the smallest double. O(sqrt n)
/// time, no allocation.
/// Source of the point probability: Loader, "Fast and accurate computation of binomial
/// probabilities", 2000.
inline double log_binomial_upper_tail(index_t n, double p, index_t k) noexcept {
  if (!(n >= 0 && p >= 0.0 && p <= 1.0)) return std::numeric_limits<double>::quiet_NaN();
  if (k <= 0) return 0.0;
  if (k > n || p == 0.0) return -std::numeric_limits<double>::infinity();
  if (p == 1.0) return 0.0;
  const double q = 1.0 - p;
  if (static_cast<double>(k) > static_cast<double>(n) * p)
    return detail::log_binomial_far_tail(n, p, q, k);
  // P(X < k) = P(n - X >= n - k + 1), with n - X ~ Binomial(n, q)
  return std::log1p(-std::exp(detail::log_binomial_far_tail(n, q, p, n - k + 1)));
}

/// P(X >= k), 0 where it is below the smallest double.
inline double binomial_upper_tail(index_t n, double p, index_t k) noexcept {
  return std::exp(log_binomial_upper_tail(n, p, k));
}

/// The least k with P(X > k) <= `false_alarm`: with more than k events in n trials, a probability
/// of at most p is refuted at that level. n for `false_alarm` <= 0; -1 for NaN or p outside [0, 1].
/// O(sqrt n log n) time.
inline index_t binomial_upper_point(index_t n, double p, double false_alarm) noexcept {
  if (!(n >= 0 && p >= 0.0 && p <= 1.0) || std::isnan(false_alarm)) return -1;
  if (false_alarm <= 0.0) return n;
  const double level = std::log(false_alarm);
  index_t too_few = -1;
  index_t enough = n;
  while (enough - too_few > 1) {
    const index_t k = too_few + (enough - too_few) / 2;
    (log_binomial_upper_tail(n, p, k + 1) <= level ? enough : too_few) = k;
  }
  return enough;
}

/// A range of probabilities.
struct proportion_interval {
  double lower = 0.0, upper = 1.0;
};

/// Clopper and Pearson's interval for the probability behind `events` in `trials`; it misses with
/// probability at most `miss`, half of it on either side, whatever the probability is.
/// Conservative: for few events it is wider than it need be. [0, 1] for no trial; NaN unless 0 <=
/// events <= trials and 0 < miss < 1. Bisection to the last digit, O(sqrt n) each.
/// Source: Clopper, Pearson, Biometrika 26(4), 1934.
inline proportion_interval clopper_pearson(index_t events, index_t trials, double miss) noexcept {
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  if (!(events >= 0 && events <= trials && miss > 0.0 && miss < 1.0)) return {nan, nan};
  // The p at which P(X >= k) = miss / 2; the tail rises with p.
  const auto solve = [&](index_t k) {
    const double level = std::log(miss / 2);
    double below = 0.0;
    double above = 1.0;
    for (double p = 0.5; p > below && p < above; p = below + (above - below) / 2)
      (log_binomial_upper_tail(trials, p, k) < level ? below : above) = p;
    return above;
  };
  return {events == 0 ? 0.0 : solve(events), events == trials ? 1.0 : 1.0 - solve(trials - events)};
}

}  // namespace vattn
