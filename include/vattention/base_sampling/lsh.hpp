// SPDX-License-Identifier: Apache-2.0
/// @file
/// A base sample of rows whose hashes collide with the query's.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/lsh_sample.hpp"

namespace vattn::base_sampling {

/// Rows of the residual that a predictor of hashes (`counts_collisions`; `top_k::lsh`) finds to collide with the query
/// in the most tables, with their true probabilities over the choice of the planes: see `lsh_sample`.
class lsh {
public:
  using role = vattn::role::base_sampling;
  using takes = collisions;
  static constexpr design scheme = design::independent;

  /// Expected rows: `size` of the residual, within [at_least, at_most].
  /// @throws std::invalid_argument unless 1 <= at_least <= at_most.
  explicit lsh(extent size = fraction(0.03), index_t at_least = 64,
               index_t at_most = std::numeric_limits<row_t>::max())
      : size_(size), at_least_(at_least), at_most_(at_most) {
    require(at_least >= 1 && at_least <= at_most, "base_sampling::lsh", "1 <= at_least <= at_most",
            at_least, at_most);
  }

  index_t size(index_t population) const noexcept {
    return std::min(population, std::clamp(size_.of(population), at_least_, at_most_));
  }

  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    lsh_sample(d).begin(size(d.rest.size()));
  }

private:
  extent size_;
  index_t at_least_, at_most_;
};
static_assert(base_sampling_policy<lsh>);

}  // namespace vattn::base_sampling
