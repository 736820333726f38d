// SPDX-License-Identifier: Apache-2.0
/// @file
/// A proved budget for the denominator, fixed before a row is drawn: from the range of the weights
/// alone.
#pragma once

#include "vattention/certify/range.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::budget {

/// The least b with t(b) <= epsilon D_low, t the two-sided deviation of Hoeffding (1963), or, with
/// `correction::finite_population`, of Serfling (1974) in the form of Bardenet and Maillard (2015);
/// see `hoeffding_deviation`. Two-sided, for the denominator.
///
/// A theorem: U = exp(ceiling) and D_low = `floor()` (exact rows and the predictor's lower bounds)
/// do not depend on the draw, hence neither does b, nor the largest b of a query group, which is
/// what is drawn: the inequality applies to that size (rounding of the unit may move b by a row).
/// On the event |D^ - D| <= t, of probability 1 - delta or more, D >= max(D_low, D^ - t) as well,
/// so the bound t / max(D_low, D^ - t) that is reported holds on the very same event. It needs no
/// second look, no minimum of rows, and no luck with heavy rows.
///
/// Where it ends: at the denominator, in real arithmetic (floats add 2^-16 or so). Dear: b is (U n
/// / D)^2 / epsilon^2 times ln(2 / delta) / 2, with U / (D / n) the largest residual weight over
/// the mean one, so where single residual weights are large, or with a code whose radius is large,
/// it asks for everything, which is then read. On captured heads at delta = .1, 8-bit codes and top-k
/// 2 %: 36 % of the rows at epsilon = .1 and 7.3 % at .3 (Serfling's form 23 and 7.1 %).
class hoeffding {
public:
  using role = vattn::role::budget;
  static constexpr bool needs_ceiling = true;

  hoeffding(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()), delta_(miss.value()), correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::denominator; }
  basis coverage() const noexcept { return basis::proved; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return bound_in_range(
        state, hoeffding_deviation(range_of(state), delta_, correction_),
        correction_ == correction::none ? bound_kind::hoeffding : bound_kind::hoeffding_serfling);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    return grow_once(look, [&](int h) {
      const double largest = asked_ * look.state(h).floor();
      range_sample s = range_of(look.state(h));
      return least_size(look.drawn(h) - 1, look.population(), [&](index_t size) {
        s.drawn = static_cast<double>(size);
        return hoeffding_deviation(s, delta_, correction_) <= largest;
      });
    });
  }

  status end(const judgement& judged) const noexcept { return end_of_one_draw(judged, asked_); }

private:
  double asked_, delta_;
  correction correction_;
};
static_assert(needs_ceiling<hoeffding>);

}  // namespace vattn::budget
