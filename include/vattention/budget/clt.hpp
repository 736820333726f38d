// SPDX-License-Identifier: Apache-2.0
/// @file
/// The paper's budget: as many rows as the central limit theorem asks for the softmax denominator.
#pragma once

#include "vattention/certify/denominator.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/stats/normal.hpp"

namespace vattn::budget {

/// b = (z n sigma / (epsilon D^))^2 with z the two-sided normal quantile, n the residual rows, sigma and
/// D^ from the base sample; drawn once, then certified from the whole sample (arXiv 2510.05688, lemma
/// 4.1 for the denominator, which is what the paper's experiments run). With
/// `correction::finite_population` the budget is b / (1 + b / n) instead.
///
/// The guarantee ends at the denominator: on real heads with near-oracle top-k the *output* misses
/// epsilon = .1 in about a quarter of the calls. Sigma from a small base sample does not know of a heavy
/// row it has not met. Use `budget::output` where the output matters.
class clt {
public:
  using role = vattn::role::budget;

  clt(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()),
        delta_(miss.value()),
        z_(normal_upper_quantile(miss.value() / 2.0)),
        correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::denominator; }
  basis coverage() const noexcept { return basis::measured_on_average; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return no_finer(bound_denominator(state, z_), asked_, state);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    return grow_once(look, [&](int h) {
      const double largest = asked_ * look.state(h).denominator() / z_;
      return size_for_error(look, h, contribution::denominator, largest, correction_);
    });
  }

  status end(const judgement& judged) const noexcept { return end_of_one_draw(judged, asked_); }

private:
  double asked_, delta_, z_;
  correction correction_;
};
static_assert(budget_policy<clt>);

}  // namespace vattn::budget
