// SPDX-License-Identifier: Apache-2.0
/// @file
/// ggml's tensors as the library sees them: types, and one KV head's cells as a cache view.
///
/// Needs no header of ggml: anything with ggml_tensor's members `type`, `ne`, `nb`, `data` will do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "vattention/core/kv_view.hpp"

namespace vattn_llama_cpp {

using vattn::index_t;

/// The element type that a number of ggml's `ggml_type` stands for; none for types that the library does not read.
constexpr std::optional<vattn::element> element_of_ggml(int type) noexcept {
  switch (type) {
    case 0: return vattn::element::f32;
    case 1: return vattn::element::f16;
    case 8: return vattn::element::q8_0;
    case 30: return vattn::element::bf16;
    default: return std::nullopt;
  }
}

/// Why a cache tensor `[dim, heads, cells, streams]` cannot be viewed; null if it can.
template <class Tensor>
const char* why_no_view(const Tensor& t) noexcept {
  const std::optional<vattn::element> type = element_of_ggml(static_cast<int>(t.type));
  if (!type) return "its type is none of f32, f16, bf16, q8_0";
  if (t.ne[0] < 1 || t.ne[0] > vattn::rows_view::max_dim) return "its heads are too long";
  if (t.ne[0] % vattn::block_values(*type) != 0) return "its heads are no whole blocks";
  const auto row = static_cast<std::size_t>(vattn::row_bytes(*type, t.ne[0]));
  const auto first = static_cast<std::size_t>(vattn::row_bytes(*type, vattn::block_values(*type)));
  if (t.nb[0] != first || (t.ne[1] > 1 && t.nb[1] < row) || t.nb[2] < row)
    return "its rows are not contiguous";
  return nullptr;
}

/// The rows of one head and stream of such a tensor, all of its cells.
/// @throws std::invalid_argument where `why_no_view` is not null, or the head or stream is not there.
template <class Tensor>
vattn::rows_view rows_of(const Tensor& t, index_t head, index_t stream) {
  const char* const why = why_no_view(t);
  vattn::require(why == nullptr, "rows_of", "a cache tensor", why == nullptr ? "" : why);
  vattn::require(head >= 0 && head < t.ne[1] && stream >= 0 && stream < t.ne[3], "rows_of",
                 "a head and a stream of the tensor", head, stream);
  const auto* first = static_cast<const std::byte*>(t.data) +
                      static_cast<std::size_t>(head) * t.nb[1] +
                      static_cast<std::size_t>(stream) * t.nb[3];
  return {first, *element_of_ggml(static_cast<int>(t.type)), t.ne[2], t.ne[0],
          static_cast<index_t>(t.nb[2])};
}

/// One KV head's keys and values: row i is cell `cells[i]`, or cell i where no list is given. Nothing is owned.
class head_cells {
public:
  /// @throws std::invalid_argument if keys and values differ in cells, or there are more rows than cells.
  head_cells(const vattn::rows_view& keys, const vattn::rows_view& values,
             const std::int32_t* cells, index_t rows)
      : store_(keys, values), cells_(cells), rows_(rows) {
    vattn::require(rows >= 0 && rows <= store_.rows(), "head_cells",
                   "as many rows as cells at most", rows, store_.rows());
  }

  index_t rows() const noexcept { return rows_; }
  index_t key_dim() const noexcept { return store_.key_dim(); }
  index_t value_dim() const noexcept { return store_.value_dim(); }
  vattn::element key_type() const noexcept { return store_.key_type(); }
  vattn::element value_type() const noexcept { return store_.value_type(); }
  const void* key_row(vattn::row_t i) const noexcept { return store_.key_row(cell(i)); }
  const void* value_row(vattn::row_t i) const noexcept { return store_.value_row(cell(i)); }
  index_t first_row() const noexcept { return 0; }
  /// The first rows alone, as many as there are at most.
  head_cells first(index_t rows) const { return {store_.keys(), store_.values(), cells_, rows}; }

private:
  vattn::row_t cell(vattn::row_t i) const noexcept {
    return cells_ == nullptr ? i : static_cast<vattn::row_t>(cells_[i]);
  }

  vattn::kv_view store_;
  const std::int32_t* cells_;
  index_t rows_;
};
static_assert(vattn::cache_view<head_cells>);

}  // namespace vattn_llama_cpp
