// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which rows a sample by collisions takes, and with what probability over the choice of the hash planes.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "vattention/core/draw.hpp"
#include "vattention/stats/binomial.hpp"

namespace vattn {

/// A row whose hash agrees with the query's in N of L tables of K random sign bits each is drawn if its own random
/// number is at most `threshold(N)`: for certain from `least` tables on, with a smaller chance at least - 1, with a
/// smaller one yet for any N. `least` = 0: every row.
///
/// Planes are independent with uniformly random directions, so that N is binomial: of L, with p^K, where
/// p = 1 - angle / pi is the chance that query and key lie on the same side of a plane. Then
///   P(drawn) = even + (edge - even) P(N = least - 1) + (1 - even) P(N >= least).
/// `least` may depend on anything but on the planes that hash the row. Source of p: Goemans, Williamson, J. ACM 42(6),
/// 1995; Charikar, STOC 2002. MagicPIG (arXiv 2410.16179) has least = 2 and edge = even = 0.
struct collision_rule {
  int tables = 1, bits = 1;
  int least = 0;
  threshold_t edge = 0, even = 0;

  threshold_t threshold(int collisions) const noexcept {
    return collisions >= least ? certain : collisions == least - 1 ? edge : even;
  }

  /// Probability of a row that lies on the query's side of a plane with probability `same_side`; to about 1e-13 of it.
  /// NaN for NaN. O(sqrt tables).
  double chance(double same_side) const noexcept {
    if (least <= 0) return 1.0;
    const double agree = power(std::min(same_side, 1.0));
    const double from_least = binomial_upper_tail(tables, agree, least);
    return probability(even) + (1.0 - probability(even)) * from_least +
           (probability(edge) - probability(even)) * point(agree, least - 1);
  }

  /// Lets about `share` of some rows through, in [0, 1]: `floor` of it with equal chances for every row, the rest by
  /// collisions. `counts[N]`, N = 0 .. tables, says in how many tables such rows collide; without any row, all are
  /// certain. A larger share never lowers a threshold.
  void set(double share, double floor, std::span<const index_t> counts) noexcept {
    index_t rows = 0;
    for (const index_t count : counts) rows += count;
    least = 0;
    edge = even = certain;
    if (!(share < 1.0) || rows == 0) return;
    even = threshold_of(floor * share);
    const double wanted =
        static_cast<double>(rows) * (share - floor * share) / (1.0 - floor * share);
    double taken = 0.0;
    for (int n = tables; n >= 0; --n) {
      const auto here = static_cast<double>(counts[static_cast<std::size_t>(n)]);
      if (taken + here > wanted) {
        least = n + 1;
        const double part = (wanted - taken) / here;
        edge = std::max(even, threshold_of(floor * share + (1.0 - floor * share) * part));
        return;
      }
      taken += here;
    }
  }

private:
  /// P(N = n) for n of 0 .. tables, with chance `agree` a table.
  double point(double agree, int n) const noexcept {
    if (agree == 0.0 || agree == 1.0) return n == (agree == 0.0 ? 0 : tables) ? 1.0 : 0.0;
    if (tables == 0) return 1.0;
    return std::exp(detail::log_binomial_point(tables, agree, 1.0 - agree, n));
  }
  double power(double base) const noexcept {
    double product = 1.0;
    for (int k = 0; k < bits; ++k) product *= base;
    return product;
  }
};

}  // namespace vattn
