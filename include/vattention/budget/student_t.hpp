// SPDX-License-Identifier: Apache-2.0
/// @file
/// The denominator's budget with Student's quantile in place of the normal one.
#pragma once

#include "vattention/certify/denominator.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/stats/student_t.hpp"

namespace vattn::budget {

/// b = (t n sigma / (epsilon D^))^2 with t the two-sided quantile of Student's t with b0 - 1
/// degrees of freedom, for sigma is known from b0 base rows only; drawn once, then certified from
/// the whole sample of b rows with b - 1 degrees. For the denominator. Source: Stein, Ann. Math.
/// Statist. 16(3), 1945 (two stages); "Student", Biometrika 6(1), 1908.
///
/// Exact where the residual weights are normal. They are not: on real heads their kurtosis is 50 to
/// 800, so a sample of hundreds misses the rows that make the variance, and no quantile of t pays
/// for that.
class student_t {
public:
  using role = vattn::role::budget;

  student_t(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()), delta_(miss.value()), correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::denominator; }
  basis coverage() const noexcept { return basis::measured_on_average; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return no_finer(bound_denominator(state, quantile(state.uncertain()), bound_kind::student_t),
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
  double quantile(double rows) const noexcept {
    return student_t_upper_quantile(delta_ / 2.0, std::max(1.0, rows - 1.0));
  }

  double asked_, delta_;
  correction correction_;
};
static_assert(budget_policy<student_t>);

}  // namespace vattn::budget
