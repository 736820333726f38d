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
/// deviations of what it will draw, so the limit is exceeded by chance only, and then by a few rows; the next
/// growth comes nearer. Rows that a group's heads share count once, see `rows_of_doubling`.
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

  /// True if so many rows of so many bytes may be read: all that there are, before anything is drawn.
  bool allows_all(index_t rows, index_t bytes) const noexcept {
    return kind_ == kind::none ||
           (kind_ == kind::bytes ? static_cast<double>(bytes) <= bytes_ : rows <= rows_.of(rows));
  }

  /// True if reading every row would exceed the limit.
  template <outlook Look>
  bool binds(Look& look) const noexcept {
    const partial_view state = widest(look);
    const double unread = state.rows_total() - state.rows_exact() - state.rows_sampled();
    const double each = kind_ == kind::bytes ? look.row_bytes() : 1.0;
    return kind_ != kind::none && most(look) < touched(look) + unread * each;
  }

  /// How many times as large the sample of each head may become, 1 at least.
  template <outlook Look>
  double growth(Look& look) const noexcept {
    const double drawn = look.state(0).rows_sampled();
    const double left = most(look) - touched(look);
    if (!(left > 0.0) || drawn == 0.0) return 1.0;
    const double cost = kind_ == kind::bytes ? (touched(look) - look.fixed_bytes()) / drawn : 1.0;
    const double new_rows = std::sqrt(left / cost + 2.25) - 1.5;  // x + 3 sqrt(x) = left / cost
    return 1.0 + new_rows * new_rows / rows_of_doubling(look);
  }

private:
  enum class kind : std::uint8_t { none, rows, bytes };
  read_limit(kind what, extent rows, double bytes) noexcept
      : kind_(what), rows_(rows), bytes_(bytes) {}

  template <outlook Look>
  double most(Look& look) const noexcept {
    if (kind_ == kind::bytes) return bytes_;
    return static_cast<double>(rows_.of(static_cast<index_t>(widest(look).rows_total())));
  }
  /// The state of the query that sees most rows: the others of a group miss some of what is read.
  template <outlook Look>
  static partial_view widest(Look& look) noexcept {
    int head = 0;
    for (int h = 1; h < look.heads(); ++h)
      if (look.state(h).rows_total() > look.state(head).rows_total()) head = h;
    return look.state(head);
  }
  /// What the call has read so far.
  template <outlook Look>
  double touched(Look& look) const noexcept {
    const partial_view state = widest(look);
    return kind_ == kind::bytes ? state.bytes_touched() : state.rows_exact() + state.rows_sampled();
  }

  /// Rows that the group would draw if every head's size doubled: those of one head at least, those of all
  /// heads at most. In between: a head that has S certain rows of its m has to raise its probabilities by
  /// m / (m - S), and the group's uncertain rows, with room for their chance, grow no faster.
  template <outlook Look>
  static double rows_of_doubling(Look& look) noexcept {
    double of_one = 0.0, of_all = 0.0, uncertain = 0.0;
    for (int h = 0; h < look.heads(); ++h) {
      const auto size = static_cast<double>(look.drawn(h));
      of_one = std::max(of_one, size);
      of_all += size;
      uncertain = std::max(uncertain, look.state(h).uncertain());
    }
    const double settled = std::max(0.0, look.state(0).rows_sampled() - uncertain);
    uncertain += 3.0 * std::sqrt(uncertain);
    double shared = of_one;
    for (int h = 0; h < look.heads(); ++h) {
      const auto size = static_cast<double>(look.drawn(h));
      shared = size > settled ? std::max(shared, size * uncertain / (size - settled)) : of_all;
      if (shared >= of_all) return of_all;
    }
    return shared;
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
