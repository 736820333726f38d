// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bound on the output's relative error through numerator and denominator separately.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "vattention/certify/numerator.hpp"
#include "vattention/stats/normal.hpp"

namespace vattn {

/// How errors of numerator and denominator add up to one of the output.
enum class joint_form : std::uint8_t {
  paper,  ///< 2 (e1 + e2), e2 < 1/2: arXiv 2510.05688, lemma 4.2
  tight,  ///< (e1 + e2) / (1 - e1), see `delta_splits::bound`
};

/// Splits of delta between numerator and denominator, as pairs of two-sided normal quantiles.
/// Theorem 4.3 of arXiv 2510.05688 minimises over the split; 63 equal steps are tried here. The
/// numerator's part counts as .2 at most: z^2 bounds chi^2_r / r, of any rank, up to there only.
class delta_splits {
public:
  explicit delta_splits(double delta) {
    for (std::size_t i = 0; i < count; ++i) {
      const double share = static_cast<double>(i + 1) / (count + 1);
      z_numerator_[i] = normal_upper_quantile(std::min(delta * share, 0.2) / 2.0);
      z_denominator_[i] = normal_upper_quantile(delta * (1.0 - share) / 2.0);
    }
  }

  /// The least bound over the splits, where e1 = z1 se(N) / ||N^|| and e2 = z2 se(D) / D^; +inf if
  /// none.
  ///
  /// `paper`: 2 (e1 + e2) for e2 < 1/2, which takes N^ and D^ for N and D in e1 and e2. `tight`: o^
  /// - o = ((N^ - N) - (D^ - D) o) / D^ exactly. Where ||N^ - N|| <= a ||N|| and |D^ - D| <= c D,
  /// D^ >= (1 - c) D gives ||o^ - o|| <= (a + c) / (1 - c) ||o||. Errors relative to what was
  /// observed, ||N^ - N|| <= e1 ||N^|| and |D^ - D| <= e2 D^, give ||o^ - o|| <= e1 ||o^|| + e2
  /// ||o||, and with ||o^|| <= ||o|| + ||o^ - o|| at last (e1 + e2) / (1 - e1), nothing plugged in.
  /// Less than half of `paper`.
  double bound(double relative_numerator, double relative_denominator,
               joint_form form = joint_form::paper) const noexcept {
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < count; ++i) {
      const double e1 = z_numerator_[i] * relative_numerator;
      const double e2 = z_denominator_[i] * relative_denominator;
      if (form == joint_form::paper && e2 < 0.5) least = std::min(least, 2.0 * (e1 + e2));
      if (form == joint_form::tight && e1 < 1.0) least = std::min(least, (e1 + e2) / (1.0 - e1));
    }
    return least;
  }

private:
  static constexpr std::size_t count = 63;
  std::array<double, count> z_numerator_{}, z_denominator_{};
};

/// Output bound with the best split, from the sample that formed the estimate. Rests on the central
/// limit theorem for both sums.
inline judgement bound_jointly(const partial_view& state, const delta_splits& splits,
                               joint_form form = joint_form::paper) noexcept {
  judgement judged;
  judged.enough = state.uncertain() >= fewest_uncertain_rows;
  const double bound =
      splits.bound(std::sqrt(state.numerator_variance()) / numerator_norm(state),
                   std::sqrt(state.denominator_variance()) / state.denominator(), form);
  if (bound < 1.0) {
    judged.epsilon = bound;
    judged.bound = bound_kind::joint_normal;
  }
  return judged;
}

}  // namespace vattn
