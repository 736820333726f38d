// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention sinks and sliding window: the first and the last rows of the cache.
#pragma once

#include <algorithm>

#include "vattention/core/concepts.hpp"

namespace vattn::static_indices {

/// First `sinks` and last `window` visible rows, read exactly. If sinks + window >= n, all n rows are
/// taken. O(sinks + window), no allocation. Source: arXiv 2309.17453 (sinks), arXiv 2510.05688 (I_s, I_l).
class sink_window {
public:
  using role = vattn::role::static_indices;

  /// @throws std::invalid_argument if a count is negative.
  sink_window(index_t sinks, index_t window) : sinks_(sinks), window_(window) {
    require(sinks >= 0 && window >= 0, "sink_window", "counts >= 0", sinks, window);
  }

  void select(index_t visible, index_set& out) const noexcept {
    const index_t first = std::min(sinks_, visible);
    out.add_range(0, first);
    out.add_range(std::max(first, visible - std::min(window_, visible)), visible);
  }

private:
  index_t sinks_, window_;
};
static_assert(static_indices_policy<sink_window>);

}  // namespace vattn::static_indices
