// SPDX-License-Identifier: Apache-2.0
/// @file
/// The lower tail of chi-square and its inverse: how far below the variance a sample's may fall.
#pragma once

#include <cmath>
#include <limits>
#include <numbers>

#include "vattention/stats/binomial.hpp"

namespace vattn {

namespace detail {

/// log Gamma(a + 1) less Stirling's formula a log a - a + log(2 pi a) / 2, for any a > 0.
inline double stirling_rest_at(double a) noexcept {
  double shift = 0.0;
  for (; a < 16.0; a += 1.0) shift += (a + 0.5) * std::log1p(1.0 / a) - 1.0;
  const double s = 1.0 / (a * a);
  return shift + (1.0 / 12 - (1.0 / 360 - (1.0 / 1260 - (1.0 / 1680 - s / 1188) * s) * s) * s) / a;
}

/// log of x^a e^-x / Gamma(a + 1).
inline double log_gamma_factor(double a, double x) noexcept {
  return -deviance(a, x) - 0.5 * std::log(2.0 * std::numbers::pi * a) - stirling_rest_at(a);
}

/// 1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ...
inline double gamma_series(double a, double x) noexcept {
  double sum = 1.0;
  double term = 1.0;
  for (double k = 1.0; term > 1e-17 * sum && k < 1e6; k += 1.0) {
    term *= x / (a + k);
    sum += term;
  }
  return sum;
}

}  // namespace detail

/// log P(X <= x) of chi-square with `freedom` degrees of freedom, x > 0. Absolute error (the
/// relative one of P) below 1e-12 for x <= freedom, freedom in [1, 1e6]. NaN unless x > 0 and
/// freedom >= 1. O(sqrt(freedom)) time.
inline double log_chi_square_lower_tail(double x, double freedom) noexcept {
  if (!(x > 0.0 && freedom >= 1.0)) return std::numeric_limits<double>::quiet_NaN();
  const double a = 0.5 * freedom;
  return detail::log_gamma_factor(a, 0.5 * x) + std::log(detail::gamma_series(a, 0.5 * x));
}

/// The x with P(X <= x) = `tail` of chi-square with `freedom` degrees of freedom.
///
/// With s^2 the variance of freedom + 1 independent normal numbers, freedom s^2 / x bounds their
/// variance from above with probability 1 - tail. Relative error below 1e-11 for tails in [1e-12,
/// .5] and freedom in [1, 1e6]. NaN outside (0, .5] or for freedom below 1.
inline double chi_square_lower_quantile(double tail, double freedom) noexcept {
  if (!(tail > 0.0 && tail <= 0.5 && freedom >= 1.0))
    return std::numeric_limits<double>::quiet_NaN();
  const double a = 0.5 * freedom;
  // P <= (x/2)^a / Gamma(a + 1), so this begins below; log P is concave in log x, so Newton's steps
  // stay below the solution.
  const double log_gamma = a * std::log(a) - a + 0.5 * std::log(2.0 * std::numbers::pi * a) +
                           detail::stirling_rest_at(a);
  double half = std::exp((std::log(tail) + log_gamma) / a);
  for (int i = 0; i < 100; ++i) {
    const double log_tail = log_chi_square_lower_tail(2.0 * half, freedom);
    // x times the density is a times the factor.
    const double slope = a * std::exp(detail::log_gamma_factor(a, half) - log_tail);
    const double step = (std::log(tail) - log_tail) / slope;
    half *= std::exp(step);
    if (std::fabs(step) < 1e-14) break;
  }
  return 2.0 * half;
}

}  // namespace vattn
