// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bounds from a Poisson sample whose weights have known upper bounds: a theorem for any number of rows.
///
/// **Inequality.** X_1, ..., X_n independent, zero mean, in a Hilbert space, ||X_i|| <= R, sum E ||X_i||^2 <=
/// V, S their sum: P(||S|| >= t) <= 2 exp(-t^2 / (2 (V + R t / 3))). Source: Pinelis, Ann. Probab. 22(4), 1994,
/// theorem 3.4 (in Bennett's form, for martingales); on the line it is Bernstein's. Proof: for h = ||s + u x||
/// as a function of u, h'^2 + h h'' = ||x||^2 and h'' >= 0, so (cosh h)'' = h'^2 cosh h + h'' sinh h <= ||x||^2
/// cosh h, as sinh h <= h cosh h. With cosh(a + b) <= e^b cosh a (b >= 0) and Taylor's formula, E cosh ||s +
/// X|| <= (1 + E (e^||X|| - 1 - ||X||)) cosh ||s||, the linear term having mean 0. By induction, scaled by y >
/// 0, E cosh(y ||S||) <= exp(sum E (e^{y ||X_i||} - 1 - y ||X_i||)) <= exp(V (e^{y R} - 1 - y R) / R^2), and
/// cosh(y t) >= e^{y t} / 2; Markov's inequality and the usual y = log(1 + R t / V) / R finish it.
///
/// **Denominator.** With u_i >= w_i for every row left to sample and p_i known before the draw, D^ - D is the
/// sum of X_i = (I_i / p_i - 1) w_i, |X_i| <= u_i / p_i, and V = sum u_i^2 (1 - p_i) / p_i.
///
/// **Output.** o^ - o = S / D^ exactly, S the sum of X_i = (I_i / p_i - 1) w_i (v_i - o), ||X_i|| <= u_i (a_i +
/// ||o||) / p_i with a_i >= ||v_i||. V and R, and with them t, depend on b = ||o|| alone and t(b) is convex
/// and rises, for R(b) = max(1, b / b_0) R and sqrt(V(b)) are a maximum of lines and a norm. On the event
/// ||S|| <= t(||o||), of probability 1 - delta or more, ||o|| <= ||o^|| + t(||o||) / D^; the b that satisfy b <=
/// ||o^|| + t(b) / D^ are an interval that begins at 0, so any b beyond it bounds ||o||. Then ||o^ - o|| <= err =
/// t(b) / D^, and relative to ||o|| it is at most err / (||o^|| - err).
///
/// **Looks.** A look draws with fresh random numbers from the rows that no earlier look has met; those met
/// count as exact. Given the past the theorem holds for each look, so the shares of delta add up. A group
/// draws with the largest of its heads' probabilities, which only lowers V and R.
///
/// Weights count as the floats they are; 2^-16 is added for their sums. Nothing is said of merged partials.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/certify/error_scale.hpp"

namespace vattn {

/// Least t with t^2 >= 2 L (V + R t / 3), L = log(2 / delta).
inline double bernstein_radius(double variance, double largest, double log_term) noexcept {
  const double half = log_term * largest / 3.0;
  return half + std::sqrt(half * half + 2.0 * log_term * variance);
}

/// Room for the rounding of float sums, relative.
inline constexpr double rounding_room = 0x1p-16;

/// |D^ - D| <= t: relative to D at most t / max(floor, D^ - t).
inline judgement bound_denominator_strictly(const partial_view& state, double log_term) noexcept {
  judgement judged;
  judged.enough = true;
  const double t = bernstein_radius(state.spread(0), state.largest_term(), log_term);
  const double least = std::max(state.floor(), state.denominator() - t);
  const double bound = t / least + rounding_room;
  if (state.sampled_shards() <= 1.0 && least > 0.0 && bound < 1.0) {
    judged.epsilon = bound;
    judged.bound = bound_kind::bernstein;
  }
  return judged;
}

/// t(b) for an output of norm b.
inline double output_radius(const partial_view& state, double norm, double log_term) noexcept {
  const double variance =
      state.spread(2) + 2.0 * norm * state.spread(1) + norm * norm * state.spread(0);
  if (state.largest_term() == 0.0) return 0.0;  // nothing was left to chance
  const double largest = state.largest_term() * std::max(1.0, norm / state.reference_norm());
  return bernstein_radius(variance, largest, log_term);
}

/// A norm that ||o|| does not exceed on the event of the bound: beyond every b <= ||o^|| + t(b) / D^. +inf if
/// none is found.
inline double largest_output_norm(const partial_view& state, double norm,
                                  double log_term) noexcept {
  const auto next = [&](double b) {
    return norm + output_radius(state, b, log_term) / state.denominator();
  };
  double b = norm;
  for (int i = 0; i < 30; ++i) b = next(b);
  for (double room = 0x1p-20; room < 1.0; room *= 4.0)
    if (next(b * (1.0 + room)) <= b * (1.0 + room)) return b * (1.0 + room);
  return std::numeric_limits<double>::infinity();
}

/// Room for the rounding of an output, absolute.
inline double output_rounding(const partial_view& state) noexcept {
  const double norm = numerator_norm(state) / state.denominator();
  return rounding_room * std::max(norm, unit_of<error_scale::values>(state));  // norm if NaN
}

/// ||o^ - o|| <= err = t(b) / D^, in units of `Scale`: err / (||o^|| - err) relative to ||o||.
template <error_scale Scale = error_scale::output>
judgement bound_output_strictly(const partial_view& state, double log_term) noexcept {
  judgement judged;
  judged.enough = true;
  const double norm = numerator_norm(state) / state.denominator();
  const double b = largest_output_norm(state, norm, log_term);
  if (!std::isfinite(b)) return judged;
  const double err =
      output_radius(state, b, log_term) / state.denominator() + output_rounding(state);
  const double bound = in_units<Scale>(state, err);
  if (state.sampled_shards() <= 1.0 && std::isfinite(bound)) {
    judged.epsilon = bound;
    judged.bound = bound_kind::bernstein;
  }
  return judged;
}

}  // namespace vattn
