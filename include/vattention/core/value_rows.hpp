// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where the kernels find values: in the cache, or in copies where a cache scatters their elements.
#pragma once

#include <algorithm>
#include <cstring>

#include "vattention/core/workspace.hpp"

namespace vattn {

namespace detail {

/// Copies values of elements of `Size` bytes to `out` `[count x d_v]`. Rows go in tiles, so that those
/// that follow each other in a cache line are taken from it together.
template <std::size_t Size, scattered_values View, class RowOf>
void copy_values(const View& kv, index_t count, RowOf row_of, char* out) noexcept {
  constexpr index_t tile = 32, size = Size;
  const index_t dim = kv.value_dim();
  for (index_t first = 0; first < count; first += tile) {
    const index_t last = std::min(count, first + tile);
    row_t rows[tile];
    for (index_t i = first; i < last; ++i) rows[i - first] = row_of(i);
    for (index_t j = 0; j < dim; ++j)
      for (index_t i = first; i < last; ++i)
        std::memcpy(out + (i * dim + j) * size, kv.value_element(rows[i - first], j), Size);
  }
}

}  // namespace detail

/// Puts the addresses of the values of `count` rows, at most a block, into ws.addresses; `row_of(i)` is
/// the i-th. Values that a cache scatters are copied into the workspace first: d_v cache lines a row, less
/// where rows follow each other. Behind them the addresses of up to `upcoming` more rows (at most
/// `workspace::upcoming`), to prefetch; none of scattered values. Returns the number of addresses.
template <cache_view View, class RowOf>
index_t address_values(const View& kv, index_t count, index_t upcoming, RowOf row_of,
                       workspace& ws) noexcept {
  if constexpr (contiguous_values<View>) {
    for (index_t i = 0; i < count + upcoming; ++i) ws.addresses[i] = kv.value_row(row_of(i));
    return count + upcoming;
  } else {
    char* copies = static_cast<char*>(static_cast<void*>(ws.value_copies.data()));
    if (kv.value_type() == element::f32)
      detail::copy_values<4>(kv, count, row_of, copies);
    else
      detail::copy_values<2>(kv, count, row_of, copies);
    const index_t bytes = row_bytes(kv.value_type(), kv.value_dim());
    for (index_t i = 0; i < count; ++i) ws.addresses[i] = copies + i * bytes;
    return count;
  }
}

}  // namespace vattn
