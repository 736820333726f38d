// SPDX-License-Identifier: Apache-2.0
/// @file
/// A base sample in proportion to predicted weight.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/poisson_sample.hpp"

namespace vattn::base_sampling {

/// Poisson sample of the residual with probabilities in proportion to what a predictor of log-weights
/// thinks the rows weigh: see `poisson_sample`. Rows of large predicted weight are certain, so no separate
/// top-k is needed. Any predictor that satisfies `proposes_weights` will do; a poor one costs rows.
class proportional {
public:
  using role = vattn::role::base_sampling;
  using takes = proposals;
  static constexpr design scheme = design::independent;

  /// Expected rows: `size` of the residual, within [at_least, at_most].
  /// @throws std::invalid_argument unless 1 <= at_least <= at_most.
  explicit proportional(extent size = fraction(0.01), index_t at_least = 64, index_t at_most = 128)
      : size_(size), at_least_(at_least), at_most_(at_most) {
    require(at_least >= 1 && at_least <= at_most, "base_sampling::proportional",
            "1 <= at_least <= at_most", at_least, at_most);
  }

  index_t size(index_t population) const noexcept {
    return std::min(population, std::clamp(size_.of(population), at_least_, at_most_));
  }

  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    poisson_sample(d).begin(size(d.rest.size()));
  }

private:
  extent size_;
  index_t at_least_, at_most_;
};
static_assert(base_sampling_policy<proportional>);

}  // namespace vattn::base_sampling
