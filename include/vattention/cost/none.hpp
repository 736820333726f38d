// SPDX-License-Identifier: Apache-2.0
/// @file
/// No thought of cost.
#pragma once

#include "vattention/core/concepts.hpp"

namespace vattn::cost {

/// Never answers densely to save time; the default where a composition names no cost. The functor still
/// reads everything where there is too little to sample or where the budget asks for it.
class none {
public:
  using role = vattn::role::cost;
  bool dense_at_once(const call_prospect& /*call*/) const noexcept { return false; }
  bool dense_from_here(const call_prospect& /*call*/,
                       const growth_prospect& /*growth*/) const noexcept {
    return false;
  }
};
static_assert(cost_policy<none>);

}  // namespace vattn::cost
