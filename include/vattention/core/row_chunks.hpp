// SPDX-License-Identifier: Apache-2.0
/// @file
/// The rows of a cache in chunks that depend on their number alone: what threads share, and still add up alike.
#pragma once

#include <algorithm>

#include "vattention/core/index_set.hpp"

namespace vattn {

/// Rows [0, n) as chunks of `size` rows, the last one shorter. A pass over all rows that forms a partial
/// result a chunk and merges them in the order of the chunks has the same bits on any number of threads.
class row_chunks {
public:
  /// Rows of a chunk: 16 blocks of the kernels. A merge costs as much as a twentieth of a row or less.
  static constexpr index_t size = 4096;

  explicit row_chunks(index_t rows) noexcept : rows_(rows) {}

  index_t count() const noexcept { return (rows_ + size - 1) / size; }
  half_open operator[](index_t chunk) const noexcept {
    return {chunk * size, std::min(rows_, (chunk + 1) * size)};
  }

private:
  index_t rows_;
};

}  // namespace vattn
