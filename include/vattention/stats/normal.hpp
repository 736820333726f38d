// SPDX-License-Identifier: Apache-2.0
/// @file
/// The standard normal's upper tail and its inverse, both in terms of the small tail itself.
#pragma once

#include <cmath>
#include <limits>

namespace vattn {

namespace detail {

/// c[0] + c[1] x + ... + c[7] x^7, over the like with d.
inline double rational_7_7(double x, const double (&c)[8], const double (&d)[8]) noexcept {
  double above = c[7];
  double below = d[7];
  for (int i = 6; i >= 0; --i) {
    above = above * x + c[i];
    below = below * x + d[i];
  }
  return above / below;
}

/// z for a tail within .425 of one half, as a multiple of q = .5 - tail.
inline double normal_quantile_centre(double q) noexcept {
  constexpr double a[8] = {3.3871328727963666080e0, 1.3314166789178437745e2,
                           1.9715909503065514427e3, 1.3731693765509461125e4,
                           4.5921953931549871457e4, 6.7265770927008700853e4,
                           3.3430575583588128105e4, 2.5090809287301226727e3};
  constexpr double b[8] = {1.0,
                           4.2313330701600911252e1,
                           6.8718700749205790830e2,
                           5.3941960214247511077e3,
                           2.1213794301586595867e4,
                           3.9307895800092710610e4,
                           2.8729085735721942674e4,
                           5.2264952788528545610e3};
  return q * rational_7_7(0.180625 - q * q, a, b);
}

/// z for r = sqrt(-log tail) in (1.6, 5].
inline double normal_quantile_middle(double r) noexcept {
  constexpr double c[8] = {1.42343711074968357734e0,  4.63033784615654529590e0,
                           5.76949722146069140550e0,  3.64784832476320460504e0,
                           1.27045825245236838258e0,  2.41780725177450611770e-1,
                           2.27238449892691845833e-2, 7.74545014278341407640e-4};
  constexpr double d[8] = {1.0,
                           2.05319162663775882187e0,
                           1.67638483018380384940e0,
                           6.89767334985100004550e-1,
                           1.48103976427480074590e-1,
                           1.51986665636164571966e-2,
                           5.47593808499534494600e-4,
                           1.05075007164441684324e-9};
  return rational_7_7(r - 1.6, c, d);
}

/// z for r = sqrt(-log tail) above 5.
inline double normal_quantile_far(double r) noexcept {
  constexpr double e[8] = {6.65790464350110377720e0,  5.46378491116411436990e0,
                           1.78482653991729133580e0,  2.96560571828504891230e-1,
                           2.65321895265761230930e-2, 1.24266094738807843860e-3,
                           2.71155556874348757815e-5, 2.01033439929228813265e-7};
  constexpr double f[8] = {1.0,
                           5.99832206555887937690e-1,
                           1.36929880922735805310e-1,
                           1.48753612908506148525e-2,
                           7.86869131145613259100e-4,
                           1.84631831751005468180e-5,
                           1.42151175831644588870e-7,
                           2.04426310338993978564e-15};
  return rational_7_7(r - 5.0, e, f);
}

}  // namespace detail

/// P(Z > z) of a standard normal Z. Relative error below (3 + z^2) 1e-15 for z <= 37; NaN stays
/// NaN.
inline double normal_upper_tail(double z) noexcept {
  return 0.5 * std::erfc(z * 0.70710678118654752440);
}

/// The z with P(Z > z) = `tail`.
///
/// Takes the tail itself, never one minus it, so that small tails keep all their digits: relative
/// error below 1e-14 for tails in [1e-300, .5], decreasing in the tail to within that error. For a
/// two-sided statement at level delta pass delta / 2. NaN outside (0, 1).
/// Source: Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37(3), 1988.
inline double normal_upper_quantile(double tail) noexcept {
  if (!(tail > 0.0 && tail < 1.0)) return std::numeric_limits<double>::quiet_NaN();
  const double q = 0.5 - tail;
  if (std::abs(q) <= 0.425) return detail::normal_quantile_centre(q);
  const double r = std::sqrt(-std::log(q > 0.0 ? tail : 1.0 - tail));
  const double z = r <= 5.0 ? detail::normal_quantile_middle(r) : detail::normal_quantile_far(r);
  return q > 0.0 ? z : -z;
}

}  // namespace vattn
