// SPDX-License-Identifier: Apache-2.0
/// @file
/// A cache in a ring: the newest row overwrites the oldest one.
#pragma once

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Row i is row (start + i) mod capacity of the store, whose rows are the capacity. Everything that goes
/// by row (random numbers, variance groups, bias, the predictor's index) goes by i, whatever the place;
/// once the ring turns every row has another number, so the index is built anew.
template <class Store = kv_view>
class ring_view {
  static_assert(cache_view<Store>, "vattention: ring_view: the store is no cache_view");

public:
  /// `start` is where the oldest row lies, `first_row` its number in the whole sequence. O(1).
  /// @throws std::invalid_argument if `start` is not in the store, there are more rows than it holds, or
  /// a number is negative.
  ring_view(const Store& store, index_t start, index_t rows, index_t first_row = 0)
      : store_(store), start_(start), rows_(rows), first_row_(first_row) {
    require(rows >= 0 && rows <= store.rows(), "ring_view",
            "rows within the capacity (rows, capacity)", rows, store.rows());
    require(start >= 0 && (start < store.rows() || start == 0), "ring_view",
            "a start within the capacity (start, capacity)", start, store.rows());
    require(first_row >= 0, "ring_view", "first_row >= 0", first_row);
  }

  index_t rows() const noexcept { return rows_; }
  index_t key_dim() const noexcept { return store_.key_dim(); }
  index_t value_dim() const noexcept { return store_.value_dim(); }
  element key_type() const noexcept { return store_.key_type(); }
  element value_type() const noexcept { return store_.value_type(); }
  const void* key_row(row_t i) const noexcept { return store_.key_row(place(i)); }
  const void* value_row(row_t i) const noexcept
    requires contiguous_values<Store>
  {
    return store_.value_row(place(i));
  }
  const void* value_element(row_t i, index_t j) const noexcept
    requires scattered_values<Store>
  {
    return store_.value_element(place(i), j);
  }
  index_t first_row() const noexcept { return first_row_; }

  /// The rows [first, first + count) as a shard that knows where it lies in the whole. O(1).
  /// @throws std::invalid_argument if they are not inside the view.
  ring_view shard(index_t first, index_t count) const {
    require(first >= 0 && count >= 0 && first + count <= rows_, "ring_view::shard",
            "rows inside the view", first, count);
    ring_view part = *this;
    part.start_ = store_.rows() == 0 ? 0 : (start_ + first) % store_.rows();
    part.rows_ = count;
    part.first_row_ += first;
    return part;
  }

private:
  row_t place(row_t i) const noexcept {
    const index_t at = start_ + i, capacity = store_.rows();
    return static_cast<row_t>(at < capacity ? at : at - capacity);
  }

  Store store_;
  index_t start_, rows_, first_row_;
};

static_assert(cache_view<ring_view<>>);

}  // namespace vattn
