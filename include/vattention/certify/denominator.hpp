// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bound on the softmax denominator's relative error, from the sample that formed it.
#pragma once

#include <cmath>

#include "vattention/attention/partial.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn {

/// |D^ - D| <= z se(D^) with z the two-sided normal quantile (or another, named by `kind`), hence |D^ - D| / D <= e / (1 - e) with
/// e = z se(D^) / D^. Rests on the central limit theorem and on a standard error that a sample which
/// missed a heavy row does not know of; says nothing of the output. Source: arXiv 2510.05688, lemma 4.1
/// with Tr Sigma = sigma^2; the finite population and e / (1 - e) are ours.
inline judgement bound_denominator(const partial_view& state, double z,
                                   bound_kind kind = bound_kind::normal) noexcept {
  judgement judged;
  const double e = z * std::sqrt(state.denominator_variance()) / state.denominator();
  judged.enough = state.uncertain() >= fewest_uncertain_rows;
  if (e < 1.0) {
    judged.epsilon = e / (1.0 - e);
    judged.bound = kind;
  }
  return judged;
}

}  // namespace vattn
