// SPDX-License-Identifier: Apache-2.0
/// @file
/// The angle between two vectors, accurate where the cosine is not: near 0 and near pi.
#pragma once

#include <cmath>
#include <numbers>

#include "vattention/core/kv_view.hpp"

namespace vattn {

namespace detail {

/// Sum of `term(j)` over [0, count), in eight chains.
template <class Term>
double sum_in_chains(index_t count, Term term) noexcept {
  double chain[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (index_t c = 0; c < 8; ++c) chain[c] += term(j + c);
  for (; j < count; ++j) chain[0] += term(j);
  return ((chain[0] + chain[4]) + (chain[1] + chain[5])) +
         ((chain[2] + chain[6]) + (chain[3] + chain[7]));
}

}  // namespace detail

/// Angle between x and y `[dim]` [radians, 0 to pi], off by about 1e-15 at any angle: with both scaled to
/// length 1 it is 2 atan2(|x - y|, |x + y|), in double; the shorter of the two is formed term by term, the
/// other one by |x - y|^2 + |x + y|^2 = 4. pi / 2 where one of them is zero, 0 where both are; NaN where
/// one is not finite.
///
/// A plane through the origin with a uniformly random direction has x and y on different sides with
/// probability angle / pi. The rule for zero keeps that true where "on the positive side" means a product
/// above 0: a zero vector is never there, any other one in half of the cases.
/// Source: Kahan, "How futile are mindless assessments of roundoff in floating-point computation?", 2006,
/// section 12.
inline double angle_between(const float* x, const float* y, index_t dim) noexcept {
  const auto at = [](const float* v, index_t j) { return static_cast<double>(v[j]); };
  const double xx = detail::sum_in_chains(dim, [&](index_t j) { return at(x, j) * at(x, j); });
  const double yy = detail::sum_in_chains(dim, [&](index_t j) { return at(y, j) * at(y, j); });
  if (xx == 0.0 || yy == 0.0) return xx == yy ? 0.0 : 0.5 * std::numbers::pi + 0.0 * (xx + yy);
  const double xy = detail::sum_in_chains(dim, [&](index_t j) { return at(x, j) * at(y, j); });
  const double of_x = 1.0 / std::sqrt(xx);
  const double of_y = std::copysign(1.0 / std::sqrt(yy), xy);
  const double shorter = detail::sum_in_chains(dim, [&](index_t j) {
    const double off = at(x, j) * of_x - at(y, j) * of_y;
    return off * off;
  });
  const double half = std::atan2(std::sqrt(shorter), std::sqrt(4.0 - shorter));
  return 2.0 * (xy < 0.0 ? 0.5 * std::numbers::pi - half : half);
}

}  // namespace vattn
