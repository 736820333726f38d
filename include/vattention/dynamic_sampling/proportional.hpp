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

  /// .2 / sqrt(size). On captured heads rows that the predictor underrates made errors of up to .1 /
  /// sqrt(size) where the sample told of less.
  template <class Drawing>
  double resolution(const Drawing& d, int head) const noexcept {
    return 0.2 / std::sqrt(static_cast<double>(size(d, head)));
  }
};
static_assert(dynamic_sampling_policy<proportional>);

}  // namespace vattn::dynamic_sampling
