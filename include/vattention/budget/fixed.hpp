// SPDX-License-Identifier: Apache-2.0
/// @file
/// A given number of sampled rows, whatever they turn out to be worth.
#pragma once

#include "vattention/certify/output.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::budget {

/// Draws a fixed number of rows of the residual (at least the base sample) and reports the output bound
/// they support at delta. No epsilon is asked, so the status is `no_target`.
class fixed {
public:
  using role = vattn::role::budget;

  explicit fixed(extent size, vattn::delta miss = vattn::delta{0.1})
      : size_(size), delta_(miss.value()) {}

  double asked() const noexcept { return std::numeric_limits<double>::quiet_NaN(); }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::output; }
  basis coverage() const noexcept { return basis::measured_per_row; }

  judgement judge(const partial_view& state, workspace& ws) const noexcept {
    return bound_output(state, delta_, ws);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    return grow_once(look, [&](int) { return size_.of(look.population()); });
  }

  status end(const judgement& judged) const noexcept {
    return judged.enough ? status::no_target : status::sample_too_small;
  }

private:
  extent size_;
  double delta_;
};
static_assert(budget_policy<fixed>);

}  // namespace vattn::budget
