// SPDX-License-Identifier: Apache-2.0
/// @file
/// As many rows as the central limit theorem asks for the softmax numerator.
#pragma once

#include <algorithm>

#include "vattention/certify/numerator.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/stats/normal.hpp"

namespace vattn::budget {

/// b = (z n sqrt(Tr Sigma) / (epsilon ||N^||))^2 with z the two-sided normal quantile and Sigma the
/// covariance of w v in the base sample; drawn once, then certified from the whole sample (arXiv
/// 2510.05688, lemma 4.1). delta counts as .2 at most, see `bound_numerator`.
///
/// The guarantee is about the numerator alone. It knows nothing of a heavy row that the base sample
/// missed.
class numerator {
public:
  using role = vattn::role::budget;

  numerator(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()),
        delta_(miss.value()),
        z_(normal_upper_quantile(std::min(miss.value(), 0.2) / 2.0)),
        correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::numerator; }
  basis coverage() const noexcept { return basis::measured_on_average; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return no_finer(bound_numerator(state, z_), asked_, state);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    return grow_once(look, [&](int h) {
      const double largest = asked_ * numerator_norm(look.state(h)) / z_;
      return size_for_error(look, h, contribution::numerator, largest, correction_);
    });
  }

  status end(const judgement& judged) const noexcept { return end_of_one_draw(judged, asked_); }

private:
  double asked_, delta_, z_;
  correction correction_;
};
static_assert(budget_policy<numerator>);

}  // namespace vattn::budget
