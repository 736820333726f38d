// SPDX-License-Identifier: Apache-2.0
/// @file
/// Non-owning views of one KV head's keys and values: pointer, element type, shape, row stride.
#pragma once

#include <Eigen/Core>

#include <concepts>
#include <cstddef>
#include <cstdint>

#include "vattention/core/errors.hpp"

namespace vattn {

/// Counts and row numbers in the public interface.
using index_t = std::int64_t;
/// A cache row in a list; a view has fewer than 2^31 rows.
using row_t = std::uint32_t;

/// Element types a view can hold. Arithmetic is in float or better whatever the type. q8_0, as ggml keeps
/// it: blocks of 32 values in 34 bytes, one fp16 scale and then 32 int8; a value is scale * int8, exactly.
enum class element : std::uint8_t { f32, bf16, f16, q8_0 };

constexpr const char* to_string(element type) noexcept {
  constexpr const char* names[] = {"f32", "bf16", "f16", "q8_0"};
  return type <= element::q8_0 ? names[static_cast<int>(type)] : "none known";
}

/// Values that are stored together: a row is a whole number of such blocks.
constexpr index_t block_values(element type) noexcept { return type == element::q8_0 ? 32 : 1; }
/// Bytes of `dim` values, which are whole blocks: of a row, or of what lies before a value in it.
constexpr index_t row_bytes(element type, index_t dim) noexcept {
  return type == element::q8_0 ? (dim >> 5) * 34 : dim * (type == element::f32 ? 4 : 2);
}
/// Bytes of one element of a type whose values stand alone; none of q8_0, see `row_bytes`.
constexpr index_t size_of(element type) noexcept {
  return type == element::q8_0 ? 0 : row_bytes(type, 1);
}

/// The element tag of a C++ type: `float`, `Eigen::bfloat16`, `Eigen::half`.
template <class T>
inline constexpr bool is_element =
    std::same_as<T, float> || std::same_as<T, Eigen::bfloat16> || std::same_as<T, Eigen::half>;
template <class T>
  requires is_element<T>
inline constexpr element element_of = std::same_as<T, float>             ? element::f32
                                      : std::same_as<T, Eigen::bfloat16> ? element::bf16
                                                                         : element::f16;

/// Rows of equal length at a constant stride, `[rows x dim]`. Nothing is owned, copied or converted.
class rows_view {
public:
  rows_view() = default;

  /// `data` points at row 0; `stride` [bytes] leads from one row to the next.
  /// @throws std::invalid_argument if a size is negative, a row is no whole number of blocks, rows
  /// overlap, or memory is missing.
  rows_view(const void* data, element type, index_t rows, index_t dim, index_t stride)
      : data_(static_cast<const std::byte*>(data)),
        rows_(rows),
        dim_(dim),
        stride_(stride),
        type_(type) {
    require(rows >= 0 && rows < (index_t{1} << 31), "rows_view", "0 <= rows < 2^31", rows);
    require(dim >= 1 && dim <= max_dim, "rows_view", "1 <= dim <= 4096", dim);
    require(dim % block_values(type) == 0, "rows_view", "dim a multiple of 32 for q8_0", dim);
    require(stride >= vattn::row_bytes(type, dim), "rows_view",
            "stride of at least one row in bytes", stride);
    require(data != nullptr || rows == 0, "rows_view", "a pointer to the rows", "null");
  }

  /// Typed rows, `stride` in elements.
  template <class T>
    requires is_element<T>
  rows_view(const T* data, index_t rows, index_t dim, index_t stride)
      : rows_view(data, element_of<T>, rows, dim, stride * size_of(element_of<T>)) {}
  /// Typed rows that follow each other without a gap.
  template <class T>
    requires is_element<T>
  rows_view(const T* data, index_t rows, index_t dim) : rows_view(data, rows, dim, dim) {}

  /// An Eigen matrix or map with one cache row per matrix row, or its transpose: what counts is that
  /// a cache row is contiguous, so a column-major matrix is taken as one cache row per *column*.
  /// The view refers to the matrix, which must outlive it.
  template <class Derived>
  explicit rows_view(const Eigen::PlainObjectBase<Derived>& m)
      : rows_view(m.data(), m.outerSize(), m.innerSize(), m.outerStride()) {}
  template <class Plain, int Options, class Stride>
  explicit rows_view(const Eigen::Map<Plain, Options, Stride>& m)
      : rows_view(m.data(), m.outerSize(), m.innerSize(), m.outerStride()) {
    require(m.innerStride() == 1 || m.innerSize() == 1, "rows_view", "rows with inner stride 1",
            m.innerStride());
  }

  index_t rows() const noexcept { return rows_; }
  index_t dim() const noexcept { return dim_; }
  element type() const noexcept { return type_; }
  /// Bytes that reading one row touches.
  index_t row_bytes() const noexcept { return vattn::row_bytes(type_, dim_); }
  const void* row(index_t i) const noexcept { return data_ + i * stride_; }

  /// The rows [first, first + count) as a view of their own.
  rows_view slice(index_t first, index_t count) const {
    require(first >= 0 && count >= 0 && first + count <= rows_, "rows_view::slice",
            "rows inside the view", first, count);
    rows_view part = *this;
    part.data_ += first * stride_;
    part.rows_ = count;
    return part;
  }

  static constexpr index_t max_dim = 4096;

private:
  const std::byte* data_ = nullptr;
  index_t rows_ = 0, dim_ = 1, stride_ = 4;
  element type_ = element::f32;
};

/// A cache whose values are rows: each is `value_dim` contiguous elements, somewhere in memory.
template <class View>
concept contiguous_values = requires(const View& kv, row_t row) {
  { kv.value_row(row) } noexcept -> std::same_as<const void*>;
};
/// A cache whose values are not rows: it says where element j of each is; no type with blocks.
template <class View>
concept scattered_values =
    !contiguous_values<View> && requires(const View& kv, row_t row, index_t j) {
      { kv.value_element(row, j) } noexcept -> std::same_as<const void*>;
    };

/// What the pipeline asks of a cache: sizes, and where any key and value is.
///
/// A key is `key_dim` contiguous elements somewhere in memory, and nearly always a value too; a paged
/// cache models the concept by looking its block table up, a shard of a larger cache by naming its first
/// row. O(1) per row, no allocation.
template <class View>
concept cache_view =
    (contiguous_values<View> || scattered_values<View>) && requires(const View& kv, row_t row) {
      { kv.rows() } noexcept -> std::same_as<index_t>;
      { kv.key_dim() } noexcept -> std::same_as<index_t>;
      { kv.value_dim() } noexcept -> std::same_as<index_t>;
      { kv.key_type() } noexcept -> std::same_as<element>;
      { kv.value_type() } noexcept -> std::same_as<element>;
      { kv.key_row(row) } noexcept -> std::same_as<const void*>;
      { kv.first_row() } noexcept -> std::same_as<index_t>;
    };

/// Bytes read when one key is read alone, and when one value is: where its elements are scattered that
/// takes a cache line of 64 bytes each.
template <cache_view View>
index_t key_bytes(const View& kv) noexcept {
  return row_bytes(kv.key_type(), kv.key_dim());
}
template <cache_view View>
index_t value_bytes(const View& kv) noexcept {
  return contiguous_values<View> ? row_bytes(kv.value_type(), kv.value_dim()) : 64 * kv.value_dim();
}

/// Keys `[n x d]` and values `[n x d_v]` of one KV head. Types and dimensions may differ.
class kv_view {
public:
  /// `first_row` is the global number of row 0 when the view is a shard of a longer cache.
  /// @throws std::invalid_argument if keys and values differ in rows or `first_row` is negative.
  kv_view(rows_view keys, rows_view values, index_t first_row = 0)
      : keys_(keys), values_(values), first_row_(first_row) {
    require(keys.rows() == values.rows(), "kv_view", "as many values as keys", keys.rows(),
            values.rows());
    require(first_row >= 0, "kv_view", "first_row >= 0", first_row);
  }
  template <class Keys, class Values>
    requires(!std::same_as<Keys, rows_view> && std::constructible_from<rows_view, const Keys&> &&
             std::constructible_from<rows_view, const Values&>)
  kv_view(const Keys& keys, const Values& values) : kv_view(rows_view(keys), rows_view(values)) {}

  index_t rows() const noexcept { return keys_.rows(); }
  index_t key_dim() const noexcept { return keys_.dim(); }
  index_t value_dim() const noexcept { return values_.dim(); }
  element key_type() const noexcept { return keys_.type(); }
  element value_type() const noexcept { return values_.type(); }
  const void* key_row(row_t i) const noexcept { return keys_.row(i); }
  const void* value_row(row_t i) const noexcept { return values_.row(i); }
  index_t first_row() const noexcept { return first_row_; }
  const rows_view& keys() const noexcept { return keys_; }
  const rows_view& values() const noexcept { return values_; }

  /// The rows [first, first + count) as a shard that knows where it lies in the whole.
  kv_view shard(index_t first, index_t count) const {
    return {keys_.slice(first, count), values_.slice(first, count), first_row_ + first};
  }

private:
  rows_view keys_, values_;
  index_t first_row_;
};

static_assert(cache_view<kv_view>);

}  // namespace vattn
