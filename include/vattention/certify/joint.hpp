// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bound on the output's relative error through numerator and denominator separately.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "vattention/attention/partial.hpp"
#include "vattention/core/outlook.hpp"
#include "vattention/stats/normal.hpp"

namespace vattn {

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

  /// min over splits of 2 (e1 + e2), where e1 = z1 se(N) / ||N|| and e2 = z2 se(D) / D; +inf unless
  /// e2 < 1/2, as lemma 4.2 asks.
  double bound(double relative_numerator, double relative_denominator) const noexcept {
    double least = std::numeric_limits<double>::infinity();
    for (std::size_t i = 0; i < count; ++i) {
      const double e2 = z_denominator_[i] * relative_denominator;
      if (e2 < 0.5) least = std::min(least, 2.0 * (z_numerator_[i] * relative_numerator + e2));
    }
    return least;
  }

private:
  static constexpr std::size_t count = 63;
  std::array<double, count> z_numerator_{}, z_denominator_{};
};

/// ||N^||, the plug-in scale of the numerator's relative error.
inline double numerator_norm(const partial_view& state) noexcept {
  double square = 0.0;
  for (index_t j = 0; j < state.value_dim(); ++j)
    square += state.numerator()[j] * state.numerator()[j];
  return std::sqrt(square);
}

/// Output bound 2 (e1 + e2) with the best split, from the sample that formed the estimate. Rests on the
/// central limit theorem for both sums and plugs N^ and D^ in for N and D.
inline judgement bound_jointly(const partial_view& state, const delta_splits& splits) noexcept {
  judgement judged;
  judged.enough = state.uncertain() >= fewest_uncertain_rows;
  const double bound = splits.bound(std::sqrt(state.numerator_variance()) / numerator_norm(state),
                                    std::sqrt(state.denominator_variance()) / state.denominator());
  if (bound < 1.0) {
    judged.epsilon = bound;
    judged.bound = bound_kind::joint_normal;
  }
  return judged;
}

}  // namespace vattn
