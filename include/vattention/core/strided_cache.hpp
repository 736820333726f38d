// SPDX-License-Identifier: Apache-2.0
/// @file
/// The keys and values of a whole batch as an engine keeps them: one tensor each, of any strides.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Sizes of a cache tensor `[batches x heads x rows x dim]`; the order in memory is that of the strides.
struct cache_extents {
  index_t batches = 1, heads = 1, rows = 0, dim = 1;
};
/// Bytes from one batch entry, KV head and row to the next. 0 shares one memory among batches or heads.
struct cache_strides {
  index_t batch = 0, head = 0, row = 0;
};

/// The keys, or the values, of all batches and KV heads. Nothing is owned or copied.
class cache_tensor {
public:
  /// `data` points at row 0 of head 0 of batch 0.
  /// @throws std::invalid_argument if a size or stride is negative, rows overlap, a row is no whole
  /// number of blocks, or memory is missing.
  cache_tensor(const void* data, element type, cache_extents extents, cache_strides strides)
      : first_(data, type, extents.rows, extents.dim, strides.row),
        extents_(extents),
        strides_(strides) {
    require(extents.batches >= 1, "cache_tensor", "batches >= 1", extents.batches);
    require(extents.heads >= 1, "cache_tensor", "heads >= 1", extents.heads);
    require(strides.batch >= 0 && strides.head >= 0, "cache_tensor",
            "strides >= 0 bytes (of batches and heads)", strides.batch, strides.head);
    require(rows_apart(), "cache_tensor",
            "strides at which no rows overlap (of batches, heads and rows, bytes)", strides.batch,
            strides.head, strides.row);
  }

  const cache_extents& extents() const noexcept { return extents_; }
  const cache_strides& strides() const noexcept { return strides_; }

  /// The first `count` rows of one head.
  /// @throws std::invalid_argument if there is no such batch, head or row.
  rows_view rows(index_t batch, index_t head, index_t count) const {
    require(batch >= 0 && batch < extents_.batches, "cache_tensor",
            "a batch of the cache (batch, batches)", batch, extents_.batches);
    require(head >= 0 && head < extents_.heads, "cache_tensor", "a head of the cache (head, heads)",
            head, extents_.heads);
    require(count >= 0 && count <= extents_.rows, "cache_tensor",
            "rows of the cache (wanted, there)", count, extents_.rows);
    const auto* data = static_cast<const std::byte*>(first_.row(0));
    if (data != nullptr) data += batch * strides_.batch + head * strides_.head;
    return {data, first_.type(), count, extents_.dim, strides_.row};
  }

private:
  /// True if each stride steps over everything that smaller ones reach. O(1).
  bool rows_apart() const noexcept {
    std::array<std::pair<index_t, index_t>, 3> steps{{{strides_.batch, extents_.batches},
                                                      {strides_.head, extents_.heads},
                                                      {strides_.row, extents_.rows}}};
    std::sort(steps.begin(), steps.end());
    index_t reach = first_.row_bytes();
    for (const auto& [stride, count] : steps) {
      if (count <= 1 || stride == 0) continue;
      if (stride < reach) return false;
      reach += stride * (count - 1);
    }
    return true;
  }

  rows_view first_;
  cache_extents extents_;
  cache_strides strides_;
};

/// Keys and values of all batches and KV heads; hands out the view of one. Types and dimensions of keys
/// and values may differ. For example
///   `[batch, head, row, dim]` (torch SDPA)  strides {h r d s, r d s, d s} for elements of s bytes
///   `[batch, row, head, dim]` (flash-attention)  strides {r h d s, d s, h d s}
class strided_cache {
public:
  /// @throws std::invalid_argument if keys and values differ in batches, heads or rows.
  strided_cache(const cache_tensor& keys, const cache_tensor& values)
      : keys_(keys), values_(values) {
    const cache_extents &k = keys.extents(), &v = values.extents();
    require(k.batches == v.batches, "strided_cache", "as many batches of values as of keys",
            k.batches, v.batches);
    require(k.heads == v.heads, "strided_cache", "as many heads of values as of keys", k.heads,
            v.heads);
    require(k.rows == v.rows, "strided_cache", "as many values as keys", k.rows, v.rows);
  }

  index_t batches() const noexcept { return keys_.extents().batches; }
  index_t heads() const noexcept { return keys_.extents().heads; }
  index_t rows() const noexcept { return keys_.extents().rows; }

  /// The first `rows` rows of one batch entry and KV head: those that hold something. O(1).
  /// @throws std::invalid_argument if there is no such batch, head or row.
  kv_view view(index_t batch, index_t head, index_t rows) const {
    return {keys_.rows(batch, head, rows), values_.rows(batch, head, rows)};
  }
  kv_view view(index_t batch, index_t head) const { return view(batch, head, rows()); }

private:
  cache_tensor keys_, values_;
};

}  // namespace vattn
