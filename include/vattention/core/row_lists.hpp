// SPDX-License-Identifier: Apache-2.0
/// @file
/// Lists of rows that the workers of a call make together.
#pragma once

#include <algorithm>

#include "vattention/core/workspace.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// All rows whose score is not below the threshold, NaN among them, ascending, to `out`, which has room for as many as
/// there are scores; returns their number. Shared by the workers of the call; uses ws.chunk_counts.
inline index_t list_not_below(std::span<const float> scores, float threshold, workspace& ws,
                              row_t* out) noexcept {
  const kernels::table& kernels = kernels::active();
  const row_chunks chunks(static_cast<index_t>(scores.size()));
  ws.workers.for_each(chunks.count(), ws, [&](workspace& /*scratch*/, index_t chunk) {
    const half_open part = chunks[chunk];
    row_t* to = out + part.first;
    const index_t count = kernels.not_below(scores.data() + part.first, part.size(), threshold, to);
    for (index_t i = 0; i < count; ++i) to[i] += static_cast<row_t>(part.first);
    ws.chunk_counts[chunk] = count;
  });
  index_t count = 0;
  for (index_t chunk = 0; chunk < chunks.count(); ++chunk) {
    const row_t* from = out + chunks[chunk].first;
    std::copy(from, from + ws.chunk_counts[chunk], out + count);
    count += ws.chunk_counts[chunk];
  }
  return count;
}

}  // namespace vattn
