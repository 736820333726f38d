// SPDX-License-Identifier: Apache-2.0
/// @file
/// What is asked of a call: strong types for an error, delta, and sizes in rows or as a fraction.
#pragma once

#include <cmath>
#include <concepts>
#include <cstdint>

#include "vattention/core/errors.hpp"
#include "vattention/core/kv_view.hpp"

namespace vattn {

/// What an output's error ||o^ - o|| is measured in.
enum class error_scale : std::uint8_t {
  output,    ///< ||o||: the relative error
  values,    ///< root mean square of ||v|| over the rows of the predictor's index
  absolute,  ///< the unit of the values
};

/// Largest relative error asked for, in (0, 1).
class epsilon {
public:
  static constexpr error_scale scale = error_scale::output;
  /// @throws std::invalid_argument outside (0, 1).
  explicit epsilon(double value) : value_(value) {
    require(value > 0.0 && value < 1.0, "epsilon", "0 < epsilon < 1", value);
  }
  double value() const noexcept { return value_; }

private:
  double value_;
};

/// Largest error asked for as a share of the values' root mean square norm, in (0, 1). Where attention is
/// flat, values cancel: ||o|| is far below ||v||, and an error relative to ||o|| costs most.
class epsilon_of_values {
public:
  static constexpr error_scale scale = error_scale::values;
  /// @throws std::invalid_argument outside (0, 1).
  explicit epsilon_of_values(double value) : value_(value) {
    require(value > 0.0 && value < 1.0, "epsilon_of_values", "0 < epsilon < 1", value);
  }
  double value() const noexcept { return value_; }

private:
  double value_;
};

/// Largest ||o^ - o|| asked for, in the unit of the values.
class absolute_error {
public:
  static constexpr error_scale scale = error_scale::absolute;
  /// @throws std::invalid_argument unless positive and finite.
  explicit absolute_error(double value) : value_(value) {
    require(value > 0.0 && std::isfinite(value), "absolute_error", "a positive finite error",
            value);
  }
  double value() const noexcept { return value_; }

private:
  double value_;
};

/// Largest share of calls that may miss epsilon, in (0, 1).
class delta {
public:
  /// @throws std::invalid_argument outside (0, 1).
  explicit delta(double value) : value_(value) {
    require(value > 0.0 && value < 1.0, "delta", "0 < delta < 1", value);
  }
  double value() const noexcept { return value_; }

private:
  double value_;
};

/// A number of rows, or a fraction of a population that is known only at the call.
class extent {
public:
  /// That many rows. @throws std::invalid_argument if negative.
  static extent rows(index_t count) {
    require(count >= 0, "extent::rows", "count >= 0", count);
    return {static_cast<double>(count), false};
  }
  /// That share of the population, rounded up. @throws std::invalid_argument outside [0, 1].
  static extent fraction(double share) {
    require(share >= 0.0 && share <= 1.0, "extent::fraction", "0 <= share <= 1", share);
    return {share, true};
  }
  /// Rows of a population; never more than it has.
  index_t of(index_t population) const noexcept {
    const double wanted = relative_ ? std::ceil(value_ * static_cast<double>(population)) : value_;
    return wanted < static_cast<double>(population) ? static_cast<index_t>(wanted) : population;
  }

private:
  extent(double value, bool relative) : value_(value), relative_(relative) {}
  double value_;
  bool relative_;
};

/// An error that may be asked of an output: `epsilon`, `epsilon_of_values`, `absolute_error`.
template <class T>
concept output_target = requires(const T& t) {
  { T::scale } -> std::convertible_to<error_scale>;
  { t.value() } noexcept -> std::same_as<double>;
};

/// Shorthands for extents: `rows(128)`, `fraction(0.02)`.
inline extent rows(index_t count) { return extent::rows(count); }
inline extent fraction(double share) { return extent::fraction(share); }

}  // namespace vattn
