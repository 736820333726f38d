// SPDX-License-Identifier: Apache-2.0
/// @file
/// From a bound on ||o^ - o|| to the unit that the error is asked in, and back.
#pragma once

#include "vattention/certify/numerator.hpp"

namespace vattn {

/// Size of the unit, given the mean of ||v||^2: its root, or 1; NaN for the output's norm, which is not known.
template <error_scale Scale>
double unit_of(double value_square) noexcept {
  if constexpr (Scale == error_scale::values) return std::sqrt(value_square);
  return Scale == error_scale::absolute ? 1.0 : std::numeric_limits<double>::quiet_NaN();
}
template <error_scale Scale>
double unit_of(const partial_view& state) noexcept {
  return unit_of<Scale>(state.value_squares() / state.rows_total());
}

/// The bound in the unit of the scale, given ||o^ - o|| <= `error`; +inf if none follows. Relative to ||o||
/// it is error / (||o^|| - error), for ||o|| >= ||o^|| - error.
template <error_scale Scale>
double in_units(const partial_view& state, double error) noexcept {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const double norm = Scale == error_scale::output
                          ? numerator_norm(state) / state.denominator() - error
                          : unit_of<Scale>(state);
  if (Scale != error_scale::output && error == 0.0) return 0.0;
  return norm > 0.0 && error >= 0.0 ? error / norm : infinity;
}

/// The largest ||o^ - o|| of which `asked` units may be said: the inverse of `in_units`.
template <error_scale Scale>
double largest_error(const partial_view& state, double asked) noexcept {
  if constexpr (Scale == error_scale::output)
    return asked / (1.0 + asked) * numerator_norm(state) / state.denominator();
  return asked * unit_of<Scale>(state);
}

}  // namespace vattn
