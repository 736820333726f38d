// SPDX-License-Identifier: Apache-2.0
/// @file
/// A cache with holes: the rows of a sequence are listed cells of a store.
#pragma once

#include <span>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Row i is cell `cells[i]` of the store; cells that no row names are left out and never read. The list is
/// not copied: it must outlive the view and stay as it is. Everything that goes by row (random numbers,
/// variance groups, bias, the predictor's index) goes by the place in the list, whatever the cell; an
/// index describes the rows it took in, so it is built anew when one of them is dropped.
template <class Store = kv_view>
class cell_view {
  static_assert(cache_view<Store>, "vattention: cell_view: the store is no cache_view");

public:
  /// `first_row` is the global number of row 0 when the view is a shard of a longer cache. O(rows).
  /// @throws std::invalid_argument if a cell is not in the store, or `first_row` is negative.
  cell_view(const Store& store, std::span<const std::int32_t> cells, index_t first_row = 0)
      : store_(store), cells_(cells), first_row_(first_row) {
    require(first_row >= 0, "cell_view", "first_row >= 0", first_row);
    require(rows() < (index_t{1} << 31), "cell_view", "rows < 2^31", rows());
    for (index_t at = 0; at < rows(); ++at)
      require(cell(at) >= 0 && cell(at) < store.rows(), "cell_view",
              "a cell of the store (cell, its place in the list, cells)", cell(at), at,
              store.rows());
  }

  index_t rows() const noexcept { return static_cast<index_t>(cells_.size()); }
  index_t key_dim() const noexcept { return store_.key_dim(); }
  index_t value_dim() const noexcept { return store_.value_dim(); }
  element key_type() const noexcept { return store_.key_type(); }
  element value_type() const noexcept { return store_.value_type(); }
  const void* key_row(row_t i) const noexcept {
    return store_.key_row(static_cast<row_t>(cell(i)));
  }
  const void* value_row(row_t i) const noexcept
    requires contiguous_values<Store>
  {
    return store_.value_row(static_cast<row_t>(cell(i)));
  }
  const void* value_element(row_t i, index_t j) const noexcept
    requires scattered_values<Store>
  {
    return store_.value_element(static_cast<row_t>(cell(i)), j);
  }
  index_t first_row() const noexcept { return first_row_; }

  /// The rows [first, first + count) as a shard that knows where it lies in the whole. O(1).
  /// @throws std::invalid_argument if they are not inside the view.
  cell_view shard(index_t first, index_t count) const {
    require(first >= 0 && count >= 0 && first + count <= rows(), "cell_view::shard",
            "rows inside the view", first, count);
    cell_view part = *this;
    part.cells_ = cells_.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(count));
    part.first_row_ += first;
    return part;
  }

private:
  index_t cell(index_t i) const noexcept { return cells_[static_cast<std::size_t>(i)]; }

  Store store_;
  std::span<const std::int32_t> cells_;
  index_t first_row_;
};

static_assert(cache_view<cell_view<>>);

}  // namespace vattn
