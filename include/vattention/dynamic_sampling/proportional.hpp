// SPDX-License-Identifier: Apache-2.0
/// @file
/// Growth of a sample in proportion to predicted weight.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/poisson_sample.hpp"

namespace vattn::dynamic_sampling {

/// Raises the scale of every query head that asks for more rows, behind `base_sampling::proportional`.
/// Probabilities are the largest of any head's, so every row counts for the whole group. Sizes are
/// expected rows of a head's own.
class proportional {
public:
  using role = vattn::role::dynamic_sampling;
  using takes = proposals;
  static constexpr design scheme = design::independent;

  template <class Drawing>
  void grow(const Drawing& d, std::span<const index_t> sizes) const noexcept {
    poisson_sample(d).grow(sizes);
  }

  template <class Drawing>
  index_t size(const Drawing& d, int head) const noexcept {
    return poisson_sample(d).size(head);
  }

  template <class Drawing>
  double variance_at(const Drawing& d, int head, const contributions& y, index_t size,
                     correction finite) const noexcept {
    return poisson_sample(d).variance_at(head, y, size, finite);
  }
};
static_assert(dynamic_sampling_policy<proportional>);

}  // namespace vattn::dynamic_sampling
