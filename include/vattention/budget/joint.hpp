// SPDX-License-Identifier: Apache-2.0
/// @file
/// The paper's full budget: numerator and denominator at once, for the output.
#pragma once

#include "vattention/certify/joint.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::budget {

/// The least b for which some split has 2 (e1 + e2) <= epsilon, with e1 = z1 n sqrt(Tr Sigma / b) / ||N^||
/// and e2 = z2 n sigma / (sqrt(b) D^) from the base sample; drawn once, then certified from the whole
/// sample. Two-sided, for the output. Source: arXiv 2510.05688, lemma 4.2 and theorem 4.3.
///
/// Safe on the heads measured but dear: it needs several times the rows of `budget::output`. Both
/// variances come from the base sample and know nothing of a heavy row it missed.
class joint {
public:
  using role = vattn::role::budget;

  joint(epsilon asked, vattn::delta miss, correction population = correction::none)
      : asked_(asked.value()),
        delta_(miss.value()),
        splits_(miss.value()),
        correction_(population) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::output; }
  basis coverage() const noexcept { return basis::measured_on_average; }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    return bound_jointly(state, splits_);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    if (look.look() > 1) return decision::stop;
    bool more = false;
    for (int h = 0; h < look.heads(); ++h) {
      const partial_view state = look.state(h);
      const double norm = numerator_norm(state);
      look.sizes()[static_cast<std::size_t>(h)] =
          least_size(look.drawn(h) - 1, look.population(), [&](index_t size) {
            const auto error = [&](contribution what) {
              return std::sqrt(look.variance(h, what, size, correction_));
            };
            return splits_.bound(error(contribution::numerator) / norm,
                                 error(contribution::denominator) / state.denominator()) <= asked_;
          });
      more = more || look.sizes()[static_cast<std::size_t>(h)] > look.drawn(h);
    }
    return more ? decision::grow : decision::stop;
  }

  status end(const judgement& judged) const noexcept {
    if (!judged.enough) return status::sample_too_small;
    return judged.epsilon <= asked_ ? status::met : status::not_met;
  }

private:
  double asked_, delta_;
  delta_splits splits_;
  correction correction_;
};
static_assert(budget_policy<joint>);

}  // namespace vattn::budget
