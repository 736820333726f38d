// SPDX-License-Identifier: Apache-2.0
/// @file
/// Lists of rows that the workers of a call make together.
#pragma once

#include <algorithm>

#include "vattention/core/workspace.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// Writes to `out`, which has room for `rows`, what `list(part, to)` writes to `to` for each of the `row_chunks` of
/// [0, rows), one after the other: at most as many rows as the part has, and it returns their number. Uses
/// ws.chunk_counts.
template <class List>
index_t list_rows(index_t rows, workspace& ws, row_t* out, const List& list) noexcept {
  const row_chunks chunks(rows);
  ws.workers.for_each(chunks.count(), ws, [&](workspace& /*scratch*/, index_t chunk) {
    ws.chunk_counts[chunk] = list(chunks[chunk], out + chunks[chunk].first);
  });
  index_t count = 0;
  for (index_t chunk = 0; chunk < chunks.count(); ++chunk) {
    const row_t* from = out + chunks[chunk].first;
    std::copy(from, from + ws.chunk_counts[chunk], out + count);
    count += ws.chunk_counts[chunk];
  }
  return count;
}

/// All rows whose score is not below the threshold, NaN among them, ascending.
inline index_t list_not_below(std::span<const float> scores, float threshold, workspace& ws,
                              row_t* out) noexcept {
  const kernels::table& kernels = kernels::active();
  return list_rows(static_cast<index_t>(scores.size()), ws, out, [&](half_open part, row_t* to) {
    const index_t count = kernels.not_below(scores.data() + part.first, part.size(), threshold, to);
    for (index_t i = 0; i < count; ++i) to[i] += static_cast<row_t>(part.first);
    return count;
  });
}

}  // namespace vattn
