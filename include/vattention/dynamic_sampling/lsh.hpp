// SPDX-License-Identifier: Apache-2.0
/// @file
/// Growth of a sample of rows whose hashes collide with the query's.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/lsh_sample.hpp"

namespace vattn::dynamic_sampling {

/// Asks for fewer collisions, behind `base_sampling::lsh`, until the sample of the whole group is expected to have the
/// rows that any head asks for; in the end for none, so that every row is certain. See `lsh_sample`.
class lsh {
public:
  using role = vattn::role::dynamic_sampling;
  using takes = collisions;
  static constexpr design scheme = design::independent;

  template <class Drawing>
  void grow(const Drawing& d, std::span<const index_t> sizes) const noexcept {
    lsh_sample(d).grow(sizes);
  }

  template <class Drawing>
  index_t size(const Drawing& d, int /*head*/) const noexcept {
    return lsh_sample(d).size();
  }

  template <class Drawing>
  double variance_at(const Drawing& d, int /*head*/, const contributions& y, index_t size,
                     correction finite) const noexcept {
    return lsh_sample(d).variance_at(y, size, finite);
  }

  template <class Drawing>
  double resolution(const Drawing& d, int head) const noexcept {
    return 0.2 / std::sqrt(static_cast<double>(size(d, head)));
  }
};
static_assert(dynamic_sampling_policy<lsh>);

}  // namespace vattn::dynamic_sampling
