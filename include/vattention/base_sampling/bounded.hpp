// SPDX-License-Identifier: Apache-2.0
/// @file
/// The first look of a sample in proportion to sound upper bounds.
#pragma once

#include "vattention/core/bounded_sample.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::base_sampling {

/// For `budget::strict`. The denominator's budget needs no base sample: nothing is drawn. For the output a
/// pilot tells how large the output is; its rows count as exact afterwards. See `bounded_sample`.
template <quantity What>
class bounded {
public:
  using role = vattn::role::base_sampling;
  using takes = score_bounds;
  static constexpr design scheme = design::independent;
  static constexpr quantity what = What;
  static_assert(What == quantity::denominator || What == quantity::output);

  /// Expected rows of the pilot; unused for the denominator. @throws std::invalid_argument unless positive.
  explicit bounded(index_t pilot = 96) : pilot_(What == quantity::output ? pilot : 0) {
    require(pilot >= 1, "base_sampling::bounded", "pilot >= 1", pilot);
  }

  index_t size(index_t population) const noexcept { return std::min(population, pilot_); }

  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    bounded_sample<What, Drawing>(d).begin(size(d.rest.size()));
  }

private:
  index_t pilot_;
};
static_assert(base_sampling_policy<bounded<quantity::output>>);

}  // namespace vattn::base_sampling
