// SPDX-License-Identifier: Apache-2.0
/// @file
/// A base sample in which every residual row is equally likely.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/simple_random_sample.hpp"

namespace vattn::base_sampling {

/// Simple random sample without replacement of the residual: the prefix of the dynamic sample, and part
/// of the estimate. Rows or a share of the residual, and at least `at_least` rows.
class uniform {
public:
  using role = vattn::role::base_sampling;
  static constexpr design scheme = design::fixed_size;

  /// @throws std::invalid_argument if `at_least` is negative.
  explicit uniform(extent size, index_t at_least = 0) : size_(size), at_least_(at_least) {
    require(at_least >= 0, "base_sampling::uniform", "at_least >= 0", at_least);
  }

  index_t size(index_t population) const noexcept {
    return std::min(population, std::max(at_least_, size_.of(population)));
  }

  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    grow_simple_random_sample(d, size(d.rest.size()));
  }

private:
  extent size_;
  index_t at_least_;
};
static_assert(base_sampling_policy<uniform>);

}  // namespace vattn::base_sampling
