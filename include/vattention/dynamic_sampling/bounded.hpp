// SPDX-License-Identifier: Apache-2.0
/// @file
/// Further looks of a sample in proportion to sound upper bounds.
#pragma once

#include "vattention/core/bounded_sample.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::dynamic_sampling {

/// For `budget::strict`: each growth takes what was drawn as exact and draws about `size` further rows with
/// fresh random numbers. See `bounded_sample`.
template <quantity What>
class bounded {
public:
  using role = vattn::role::dynamic_sampling;
  using takes = score_bounds;
  static constexpr design scheme = design::independent;
  static constexpr quantity what = What;

  template <class Drawing>
  void grow(const Drawing& d, std::span<const index_t> sizes) const noexcept {
    bounded_sample<What, Drawing>(d).grow(sizes);
  }
  template <class Drawing>
  index_t size(const Drawing& d, int head) const noexcept {
    return bounded_sample<What, Drawing>(d).size(head);
  }
  /// Notes what the strict bounds need in the head's state; `aim` is the error ||o^ - o|| to be reached.
  template <class Drawing>
  void describe(const Drawing& d, int head, double aim) const noexcept {
    bounded_sample<What, Drawing>(d).describe(head, aim);
  }
  /// The radius that a look of about `size` further rows would give, at once or exactly in O(n).
  template <class Drawing>
  double radius_at(const Drawing& d, int head, index_t size, double log_term,
                   bool exactly) const noexcept {
    const bounded_sample<What, Drawing> sample(d);
    return exactly ? sample.exact_radius_at(head, size, log_term)
                   : sample.radius_at(head, size, log_term);
  }
  /// Nothing is foretold from the sample itself: `radius_at` knows beforehand.
  template <class Drawing>
  double variance_at(const Drawing& /*d*/, int /*head*/, const contributions& /*y*/,
                     index_t /*size*/, correction /*finite*/) const noexcept {
    return std::numeric_limits<double>::infinity();
  }
  /// What a proof states needs no guard.
  template <class Drawing>
  double resolution(const Drawing& /*d*/, int /*head*/) const noexcept {
    return 0.0;
  }
};
static_assert(dynamic_sampling_policy<bounded<quantity::output>>);

}  // namespace vattn::dynamic_sampling
