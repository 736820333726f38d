// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bounds on the softmax denominator from the range of the sampled weights: theorems without a
/// limit.
///
/// All are for a simple random sample of b of n rows, b fixed beforehand, whose weights lie in [0,
/// U] with U known beforehand; |D^ - D| <= t fails with probability at most delta. Weights count as
/// the floats they are, and D^, D_F and the variance as exact: float sums add up to about 2^-16 to
/// a relative error.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/attention/partial.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn {

/// A simple random sample without replacement of weights within [0, width].
struct range_sample {
  double population = 0.0, drawn = 0.0, width = 0.0;
};

/// What a head's state says of its sample, weights relative to its largest logit.
inline range_sample range_of(const partial_view& state) noexcept {
  return {state.rows_total() - state.rows_exact(), state.rows_sampled(),
          std::exp(state.ceiling() - state.max_logit())};
}

/// What sampling without replacement takes off the variance term: 1 - (b - 1) / n up to half of the
/// population, (1 - b / n) (1 + 1 / b) beyond. Source: Bardenet and Maillard, Bernoulli 21(3),
/// 2015.
inline double serfling_factor(const range_sample& s, correction finite) noexcept {
  if (finite == correction::none) return 1.0;
  const double share = s.drawn / s.population;
  return share <= 0.5 ? 1.0 - (s.drawn - 1.0) / s.population
                      : (1.0 - share) * (1.0 + 1.0 / s.drawn);
}

/// t = n U sqrt(rho ln(2 / delta) / (2 b)), two-sided.
///
/// `correction::none`: rho = 1, the inequality for independent draws (Hoeffding, JASA 58, 1963,
/// theorem 2), which holds without replacement as well (his theorem 4). `finite_population`: rho as
/// in `serfling_factor` (Serfling, Ann. Statist. 2(1), 1974; Bardenet and Maillard, 2015, corollary
/// 2.5).
inline double hoeffding_deviation(const range_sample& s, double delta, correction finite) noexcept {
  const double rho = serfling_factor(s, finite);
  return s.population * s.width * std::sqrt(rho * std::log(2.0 / delta) / (2.0 * s.drawn));
}

/// Half-width from the sample's own variance (divisor b), two-sided: the empirical Bernstein bound
/// of Maurer and Pontil (COLT 2009, theorem 4) in a form that is proved without replacement too.
///
/// With a^2 = 2 L / b, mean m and variance s^2 of the population (divisor n): |X - m| <= a s + U
/// a^2 / 3 but with probability 2 e^-L (Bernstein), and the mean Z of (x_i - m)^2, which lie in [0,
/// U^2], is below s^2 - a U s with probability e^-L (the lower tail of sums of nonnegative numbers
/// with E z^2 <= U^2 s^2). Both are Chernoff bounds of sums, so theorem 4 of Hoeffding (1963)
/// carries them over to draws without replacement; the concentration of the variance that Maurer
/// and Pontil use is none. As the sample's variance is Z - (X - m)^2, (1 - a^2) s^2 - (a U + 2 a^3
/// U / 3) s <= variance + U^2 a^4 / 9, which bounds s; s <= U / 2 always. L = ln(3 / delta).
inline double bernstein_deviation(const range_sample& s, double variance, double delta) noexcept {
  const double square = 2.0 * std::log(3.0 / delta) / s.drawn;
  const double a = std::sqrt(square);
  const double lead = 1.0 - square;
  const double linear = s.width * a * (1.0 + 2.0 * square / 3.0);
  const double rest = variance + s.width * s.width * square * square / 9.0;
  const double root = std::sqrt(linear * linear + 4.0 * lead * rest);
  const double deviation =
      lead > 0.0 ? std::min(0.5 * s.width, (linear + root) / (2.0 * lead)) : 0.5 * s.width;
  return s.population * (a * deviation + s.width * square / 3.0);
}

/// The same for draws without replacement proper: n (sd sqrt(2 rho L / b) + kappa U L / b), with L
/// = ln(10 / delta), kappa = 7/3 + 3 / sqrt 2. Better than the above only where much of the
/// population is drawn. Source: Bardenet and Maillard, 2015, theorem 4.3 (1 - 5 delta, one-sided),
/// both sides.
inline double bernstein_serfling_deviation(const range_sample& s, double variance,
                                           double delta) noexcept {
  constexpr double kappa = 7.0 / 3.0 + 2.1213203435596424;
  const double per_row = std::log(10.0 / delta) / s.drawn;
  const double rho = serfling_factor(s, correction::finite_population);
  return s.population * (std::sqrt(2.0 * rho * per_row * variance) + kappa * s.width * per_row);
}

/// Variance (divisor b) of the sampled weights, from the variance n^2 (1/b - 1/n) S^2 of the
/// denominator; 2^-18 of a squared mean weight stands in for what float sums cannot resolve.
inline double weight_variance(const partial_view& state) noexcept {
  const range_sample s = range_of(state);
  const double mean = state.denominator() / s.population;
  const double scale = s.population * s.population * (1.0 / s.drawn - 1.0 / s.population);
  return (s.drawn - 1.0) / s.drawn * state.denominator_variance() / scale + 0x1p-18 * mean * mean;
}

/// |D^ - D| <= t gives D >= D^ - t, and D >= floor whatever was drawn: the relative error is at
/// most t / max(floor, D^ - t). Nothing is said of partials merged from several samples: their rows
/// were not drawn as one.
inline judgement bound_in_range(const partial_view& state, double t, bound_kind kind) noexcept {
  judgement judged;
  const bool nothing_left = state.ceiling() == -std::numeric_limits<double>::infinity();
  judged.enough = state.uncertain() > 0.0 || nothing_left;
  const double least = std::max(state.floor(), state.denominator() - t);
  const double bound = t / least;
  if (state.sampled_shards() <= 1.0 && least > 0.0 && bound < 1.0) {
    judged.epsilon = bound;
    judged.bound = kind;
  }
  return judged;
}

}  // namespace vattn
