// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bound on the softmax numerator's relative error, from the sample that formed it.
#pragma once

#include <cmath>

#include "vattention/attention/partial.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn {

/// ||N^||, the scale of the numerator's relative error.
inline double numerator_norm(const partial_view& state) noexcept {
  double square = 0.0;
  for (index_t j = 0; j < state.value_dim(); ++j)
    square += state.numerator()[j] * state.numerator()[j];
  return std::sqrt(square);
}

/// ||N^ - N|| <= z sqrt(Tr Cov N^), hence ||N^ - N|| / ||N|| <= e / (1 - e) with e the bound over
/// ||N^||. Two-sided in the sense of a norm: z^2 stands in for chi^2_r / r of the error's rank r,
/// which it bounds for z >= 1.28 (delta <= .2) only. Rests on the central limit theorem and on a
/// variance that a sample which missed a heavy row does not know of. Source: arXiv 2510.05688,
/// lemma 4.1; the form e / (1 - e) is ours.
inline judgement bound_numerator(const partial_view& state, double z) noexcept {
  judgement judged;
  const double e = z * std::sqrt(state.numerator_variance()) / numerator_norm(state);
  judged.enough = state.uncertain() >= fewest_uncertain_rows;
  if (e < 1.0) {
    judged.epsilon = e / (1.0 - e);
    judged.bound = bound_kind::normal;
  }
  return judged;
}

}  // namespace vattn
