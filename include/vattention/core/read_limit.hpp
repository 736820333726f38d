// SPDX-License-Identifier: Apache-2.0
/// @file
/// The most that a call may read: rows, or bytes.
#pragma once

#include <cmath>

#include "vattention/core/guarantee.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn {

/// A limit on the rows of a call, exact and sampled ones, or on its bytes of keys, values and codes:
/// `certificate::density()` or `bytes_touched`, which are shared by the heads of a group. The static rows, the
/// predictor's scan and the base sample are read whatever the limit; so are caches too short to sample and
/// logits that are not finite, which the dense kernel takes.
///
/// The size of a Poisson sample is random. A growth aims at what is left of the limit less three standard
/// deviations of what it will take, so the limit is exceeded by chance only (3 in 1,000 growths at most by the
/// normal law, and then by a few rows); the next growth comes nearer.
class read_limit {
public:
  /// No limit.
  read_limit() noexcept = default;
  /// Rows of all that are visible.
  static read_limit rows(extent most) noexcept { return {kind::rows, most, 0.0}; }
  /// @throws std::invalid_argument if negative.
  static read_limit bytes(index_t most) {
    require(most >= 0, "read_limit::bytes", "bytes >= 0", most);
    return {kind::bytes, extent::fraction(1.0), static_cast<double>(most)};
  }

  /// True if reading every row would exceed the limit.
  template <outlook Look>
  bool binds(Look& look) const noexcept {
    return kind_ != kind::none && most(look) < look.state(0).rows_total() * each(look);
  }

  /// How many times as large the sample may become, 1 at least.
  template <outlook Look>
  double growth(Look& look) const noexcept {
    const partial_view state = look.state(0);
    const double drawn = state.rows_sampled();
    const double fixed = kind_ == kind::bytes ? look.fixed_bytes() : state.rows_exact();
    const double touched = kind_ == kind::bytes ? state.bytes_touched() : fixed + drawn;
    const double left = most(look) - touched;
    if (!(left > 0.0) || !(touched > fixed) || drawn == 0.0) return 1.0;
    const double by = left / (touched - fixed);
    const double unsure = 3.0 * by * std::sqrt(1.0 / drawn + 1.0 / (by * drawn));
    return 1.0 + std::max(0.0, by - unsure);
  }

private:
  enum class kind : std::uint8_t { none, rows, bytes };
  read_limit(kind what, extent rows, double bytes) noexcept
      : kind_(what), rows_(rows), bytes_(bytes) {}

  template <outlook Look>
  double each(Look& look) const noexcept {
    return kind_ == kind::bytes ? look.row_bytes() : 1.0;
  }
  template <outlook Look>
  double most(Look& look) const noexcept {
    if (kind_ == kind::bytes) return bytes_;
    return static_cast<double>(rows_.of(static_cast<index_t>(look.state(0).rows_total())));
  }

  kind kind_ = kind::none;
  extent rows_ = extent::fraction(1.0);
  double bytes_ = 0.0;
};

/// `wanted` rows, but no more than `room` times those drawn; those drawn if that is hardly more.
inline index_t limited_size(double room, index_t drawn, index_t wanted) noexcept {
  constexpr double worthwhile = 1.05;
  const double most = room * static_cast<double>(drawn);
  if (static_cast<double>(wanted) > most) wanted = static_cast<index_t>(most);
  return room < worthwhile || wanted <= drawn ? drawn : wanted;
}

/// Shorthands: `at_most(fraction(0.05))`, `at_most(rows(500))`, `at_most_bytes(1 << 20)`.
inline read_limit at_most(extent rows) noexcept { return read_limit::rows(rows); }
inline read_limit at_most_bytes(index_t bytes) { return read_limit::bytes(bytes); }

}  // namespace vattn
