// SPDX-License-Identifier: Apache-2.0
/// @file
/// Keys in rows and values transposed, `[d_v x n]`, as engines without flash attention keep them.
#pragma once

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Rows stored as columns, `[dim x rows]`: element j of row i lies at data + j * stride + i * size_of(type).
/// Nothing is owned, copied or converted.
class columns_view {
public:
  columns_view() = default;

  /// `stride` [bytes] leads from element j of all rows to element j + 1 of all rows.
  /// @throws std::invalid_argument if a size is out of range, the type keeps elements in blocks, columns
  /// overlap, or memory is missing.
  columns_view(const void* data, element type, index_t rows, index_t dim, index_t stride)
      : data_(static_cast<const std::byte*>(data)),
        rows_(rows),
        dim_(dim),
        stride_(stride),
        type_(type) {
    require(block_values(type) == 1, "columns_view", "f32, bf16 or f16", "q8_0");
    require(rows >= 0 && rows < (index_t{1} << 31), "columns_view", "0 <= rows < 2^31", rows);
    require(dim >= 1 && dim <= rows_view::max_dim, "columns_view", "1 <= dim <= 4096", dim);
    require(stride >= rows * size_of(type), "columns_view",
            "stride of at least one element of each row in bytes (stride, rows)", stride, rows);
    require(data != nullptr || rows == 0, "columns_view", "a pointer to the rows", "null");
  }
  /// Typed elements, `stride` in elements.
  template <class T>
    requires is_element<T>
  columns_view(const T* data, index_t rows, index_t dim, index_t stride)
      : columns_view(data, element_of<T>, rows, dim, stride * size_of(element_of<T>)) {}

  index_t rows() const noexcept { return rows_; }
  index_t dim() const noexcept { return dim_; }
  element type() const noexcept { return type_; }
  const void* at(index_t i, index_t j) const noexcept {
    return data_ + j * stride_ + i * size_of(type_);
  }

  /// The rows [first, first + count) as a view of their own.
  /// @throws std::invalid_argument if they are not inside the view.
  columns_view slice(index_t first, index_t count) const {
    require(first >= 0 && count >= 0 && first + count <= rows_, "columns_view::slice",
            "rows inside the view", first, count);
    columns_view part = *this;
    part.data_ += first * size_of(type_);
    part.rows_ = count;
    return part;
  }

private:
  const std::byte* data_ = nullptr;
  index_t rows_ = 0, dim_ = 1, stride_ = 0;
  element type_ = element::f32;
};

/// Keys `[n x d]` and transposed values `[d_v x n]` of one KV head.
///
/// A value that is read alone touches d_v cache lines, 64 bytes an element, and `bytes_touched` counts
/// them for every row that a sparse call reads; a dense pass reads each line once. Sampling saves time
/// only where it reads fewer rows than a line holds elements, so prefer rows where the engine can.
class transposed_view {
public:
  /// @throws std::invalid_argument if keys and values differ in rows or `first_row` is negative.
  transposed_view(rows_view keys, columns_view values, index_t first_row = 0)
      : keys_(keys), values_(values), first_row_(first_row) {
    require(keys.rows() == values.rows(), "transposed_view", "as many values as keys", keys.rows(),
            values.rows());
    require(first_row >= 0, "transposed_view", "first_row >= 0", first_row);
  }

  index_t rows() const noexcept { return keys_.rows(); }
  index_t key_dim() const noexcept { return keys_.dim(); }
  index_t value_dim() const noexcept { return values_.dim(); }
  element key_type() const noexcept { return keys_.type(); }
  element value_type() const noexcept { return values_.type(); }
  const void* key_row(row_t i) const noexcept { return keys_.row(i); }
  const void* value_element(row_t i, index_t j) const noexcept { return values_.at(i, j); }
  index_t first_row() const noexcept { return first_row_; }

  /// The rows [first, first + count) as a shard that knows where it lies in the whole.
  transposed_view shard(index_t first, index_t count) const {
    return {keys_.slice(first, count), values_.slice(first, count), first_row_ + first};
  }

private:
  rows_view keys_;
  columns_view values_;
  index_t first_row_;
};

static_assert(cache_view<transposed_view> && scattered_values<transposed_view>);

}  // namespace vattn
