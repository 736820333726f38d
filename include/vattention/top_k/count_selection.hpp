// SPDX-License-Identifier: Apache-2.0
/// @file
/// The rows of the k largest counts of each query head by counting, ties by row number.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "vattention/core/attention_call.hpp"
#include "vattention/core/workspace.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

namespace detail {

/// How many of the counts are `first` + j or more, j = 0..3, and how many must be read. Shared by the workers of the
/// call; uses ws.chunk_counts.
struct reaching_counts {
  index_t rows[4] = {};
  index_t must_read = 0;

  reaching_counts(std::span<const std::uint16_t> counts, int first, workspace& ws) noexcept {
    const kernels::table& kernels = kernels::active();
    const row_chunks chunks(static_cast<index_t>(counts.size()));
    index_t* const found = ws.chunk_counts.data();
    ws.workers.for_each(chunks.count(), ws, [&](workspace& /*scratch*/, index_t chunk) {
      const half_open part = chunks[chunk];
      kernels.count_reaching(counts.data() + part.first, part.size(),
                             static_cast<std::uint16_t>(first), found + 5 * chunk);
    });
    for (index_t chunk = 0; chunk < chunks.count(); ++chunk) {
      for (int j = 0; j < 4; ++j) rows[j] += found[5 * chunk + j];
      must_read += found[5 * chunk + 4];
    }
  }
};

/// From every 64th count (of 256 at least, where there are as many): the count that about k rows reach, 1 at least.
inline int count_guess(std::span<const std::uint16_t> counts, int most, index_t k) noexcept {
  constexpr int capacity = 1024;
  VATTN_ASSERT(most < capacity);
  const auto n = static_cast<index_t>(counts.size());
  const index_t stride = std::clamp<index_t>(n / 256, 1, 64);
  std::uint32_t occurs[capacity];
  std::fill_n(occurs, most + 1, 0U);
  for (index_t i = 0; i < n; i += stride)
    ++occurs[std::min<int>(counts[static_cast<std::size_t>(i)], most)];
  index_t reached = occurs[most];
  int count = most;
  for (; count > 1 && reached * stride < k; reached += occurs[count]) --count;
  return count;
}

}  // namespace detail

/// The rows to take of some counts.
struct count_cut {
  /// All above it are taken; 0 if that leaves out none that is free.
  int count;
  /// Of those equal to it, the first ones.
  index_t ties;
};

/// Where the k largest of the counts end. Counts are `predictions::not_free` (never taken), 1 to `most`, at most
/// 1,023, or `must_read` (always taken, beyond k). The count that decides is guessed from some of them and found by
/// counting how many reach it and its neighbours; the result does not depend on the guess.
inline count_cut cut_of(std::span<const std::uint16_t> counts, int most, index_t k,
                        workspace& ws) noexcept {
  if (k == 0) return {predictions::must_read - 1, 0};
  int first = std::max(1, detail::count_guess(counts, most, k) - 1);
  for (;;) {
    const detail::reaching_counts found(counts, first, ws);
    const index_t wanted = k + found.must_read;
    if (found.rows[0] < wanted) {
      if (first == 1) return {0, 0};
      first = std::max(1, first - 3);
      continue;
    }
    int j = 3;
    while (found.rows[j] < wanted) --j;
    if (j < 3) return {first + j, wanted - found.rows[j + 1]};
    first += 3;
  }
}

/// Adds to ws.exact each head's rows of the k largest counts, see `cut_of`, among those not in it yet, the lower row
/// of equals. Fewer free rows than k: all.
template <cache_view View>
void select_most(const attention_call<View>& call, int most, index_t k, workspace& ws) noexcept {
  const row_chunks chunks(call.visible);
  std::uint64_t* const above = ws.marks.data();
  std::uint64_t* const equal = above + (call.visible + 63) / 64;
  ws.seen.exclude_counts(ws.exact.rows());
  for (int h = 0; h < call.heads(); ++h) {
    const auto counts = ws.seen.counts(h).first(static_cast<std::size_t>(call.visible));
    const count_cut cut = cut_of(counts, most, k, ws);
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      call.kernels.mark_reaching(counts.data() + rows.first, rows.size(),
                                 static_cast<std::uint16_t>(cut.count), above + rows.first / 64,
                                 equal + rows.first / 64);
    });
    index_t ties = cut.ties;
    for (index_t word = 0; 64 * word < call.visible; ++word) {
      std::uint64_t taken = above[word];
      for (std::uint64_t left = equal[word]; left != 0 && ties > 0; left &= left - 1, --ties)
        taken |= left & ~(left - 1);
      if (taken != 0) ws.exact.add_word(word, taken);
    }
  }
}

/// Rows that a head does not see are not free; `counts` holds that of row `rows.first` first.
template <cache_view View>
void hide_counts(const attention_call<View>& call, int head, half_open rows,
                 std::uint16_t* counts) noexcept {
  if (call.queries.logits.bias == nullptr && rows.last <= call.visible_to(head)) return;
  for (index_t row = rows.first; row < rows.last; ++row)
    if (call.hides(head, row)) counts[row - rows.first] = predictions::not_free;
}

}  // namespace vattn
