// SPDX-License-Identifier: Apache-2.0
/// @file
/// The denominator's budget with the variance at its upper confidence limit.
#pragma once

#include "vattention/certify/denominator.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/stats/chi_square.hpp"
#include "vattention/stats/normal.hpp"

namespace vattn::budget {

/// b = (z n sigma_u / (epsilon D^))^2, where sigma_u^2 = (b0 - 1) s^2 / x bounds the variance
/// behind the base sample's s^2 with probability 1 - delta / 2 (x the delta / 2 quantile of
/// chi-square with b0 - 1 degrees of freedom), and z is the two-sided normal quantile of the other
/// delta / 2; drawn once, then certified in the same way from the whole sample of b rows. For the
/// denominator. Source: Cochran, Proc. Camb. Phil. Soc. 30(2), 1934, for the distribution of s^2;
/// the equal split is ours.
///
/// The limit on the variance assumes normal weights. On real heads the kurtosis of the residual is
/// 50 to 800 and s^2 falls below the variance by far more than chi-square allows: the limit then
/// fails.
class chi_square {
public:
  using role = vattn::role::budget;

  chi_square(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()),
        delta_(miss.value()),
        z_(normal_upper_quantile(miss.value() / 4.0)),
        correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::denominator; }
  basis coverage() const noexcept { return basis::measured_on_average; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return no_finer(bound_denominator(state, quantile(state.uncertain()), bound_kind::chi_square),
                    asked_, state);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    return grow_once(look, [&](int h) {
      const double largest =
          asked_ * look.state(h).denominator() / quantile(static_cast<double>(look.drawn(h)));
      return size_for_error(look, h, contribution::denominator, largest, correction_);
    });
  }

  status end(const judgement& judged) const noexcept { return end_of_one_draw(judged, asked_); }

private:
  /// z sigma_u / s of a sample.
  double quantile(double rows) const noexcept {
    const double freedom = std::max(1.0, rows - 1.0);
    return z_ * std::sqrt(freedom / chi_square_lower_quantile(delta_ / 2.0, freedom));
  }

  double asked_, delta_, z_;
  correction correction_;
};
static_assert(budget_policy<chi_square>);

}  // namespace vattn::budget
