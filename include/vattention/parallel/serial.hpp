// SPDX-License-Identifier: Apache-2.0
/// @file
/// The calling thread alone.
#pragma once

#include "vattention/parallel/executor.hpp"

namespace vattn::parallel {

/// Items one after the other, on the thread that asks.
class serial {
public:
  int workers() const noexcept { return 1; }
  template <item_body Body>
  void run(index_t count, const Body& body) const noexcept {
    for (index_t item = 0; item < count; ++item) body(0, item);
  }
};
static_assert(executor<serial>);
static_assert(executor<const serial>);

}  // namespace vattn::parallel
