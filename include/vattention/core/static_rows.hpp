// SPDX-License-Identifier: Apache-2.0
/// @file
/// The rows that a call reads whatever its queries say.
#pragma once

#include "vattention/core/attention_call.hpp"
#include "vattention/core/index_set.hpp"

namespace vattn {

/// Adds the static rows of every query's position, and the rows that only some of the queries see: none of
/// these is left to a sampler, so that all queries see all of the residual.
template <class StaticIndices, cache_view View>
void select_static(const StaticIndices& policy, const attention_call<View>& call,
                   index_set& rows) noexcept {
  index_t had = 0;
  for (int h = 0; h < call.heads(); ++h)
    if (call.visible_to(h) != had) policy.select(had = call.visible_to(h), rows);
  rows.add_range(call.shared, call.visible);
}

}  // namespace vattn
