// SPDX-License-Identifier: Apache-2.0
/// @file
/// No static rows.
#pragma once

#include "vattention/core/concepts.hpp"

namespace vattn::static_indices {

/// Takes no row; the default where a composition names no static indices.
class none {
public:
  using role = vattn::role::static_indices;
  void select(index_t /*visible*/, index_set& /*out*/) const noexcept {}
};
static_assert(static_indices_policy<none>);

}  // namespace vattn::static_indices
