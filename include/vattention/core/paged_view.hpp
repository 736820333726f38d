// SPDX-License-Identifier: Apache-2.0
/// @file
/// A cache in pages, found through a block table: the layouts of vLLM and flashinfer.
#pragma once

#include <bit>
#include <span>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Where the pages of one KV head are: counts in pages and rows, strides in bytes.
struct page_layout {
  index_t pages = 0, page_size = 0, page_stride = 0, row_stride = 0;
};

/// The pages of the keys, or of the values, of one KV head: row r of page p at data + p * page_stride +
/// r * row_stride. For h heads of `dim` elements of s bytes and pages of z rows, a row being d = dim * s:
///   NHD `[pages, z, h, dim]`  row_stride h d, page_stride z h d, head k from k d on
///   HND `[pages, h, z, dim]`  row_stride d, page_stride h z d, head k from k z d on
/// Where keys and values share a tensor (`[pages, 2, ...]`) page_stride is twice that.
class page_pool {
public:
  /// `data` points at row 0 of page 0 of this head.
  /// @throws std::invalid_argument if a size is out of range, a row is no whole number of blocks, rows
  /// or pages overlap, or memory is missing.
  page_pool(const void* data, element type, index_t dim, page_layout layout)
      : data_(static_cast<const std::byte*>(data)), dim_(dim), layout_(layout), type_(type) {
    require(layout.page_size > 0 && layout.page_size < (index_t{1} << 31), "page_pool",
            "1 <= page size < 2^31", layout.page_size);
    require(layout.pages >= 0 && layout.pages < (index_t{1} << 31), "page_pool",
            "0 <= pages < 2^31", layout.pages);
    const rows_view page(data, type, layout.pages > 0 ? layout.page_size : 0, dim,
                         layout.row_stride);
    const index_t bytes = (layout.page_size - 1) * layout.row_stride + page.row_bytes();
    require(layout.page_stride >= bytes, "page_pool",
            "a page stride of at least one page of this head (stride, page, bytes)",
            layout.page_stride, bytes);
  }

  index_t dim() const noexcept { return dim_; }
  element type() const noexcept { return type_; }
  const page_layout& layout() const noexcept { return layout_; }
  const void* row(index_t page, index_t i) const noexcept {
    return data_ + page * layout_.page_stride + i * layout_.row_stride;
  }

private:
  const std::byte* data_;
  index_t dim_;
  page_layout layout_;
  element type_;
};

/// Keys and values of one sequence and KV head in pages. The block table, one page number for every
/// `page_size` rows, is not copied: it must outlive the view and stay as it is. Entries behind the last
/// row are not looked at. Memory of a page is only read where it holds rows of the sequence.
///
/// A row costs one look at the table, a shift if the page size is a power of two and a division if not.
class paged_view {
public:
  /// `first_row` is the global number of row 0 when the view is a shard of a longer cache.
  /// O(rows / page_size).
  /// @throws std::invalid_argument if keys and values differ in pages or page size, the table has too few
  /// entries, or an entry is no page.
  paged_view(page_pool keys, page_pool values, std::span<const std::int32_t> table, index_t rows,
             index_t first_row = 0)
      : keys_(keys), values_(values), table_(table.data()), rows_(rows), first_row_(first_row) {
    const page_layout &k = keys.layout(), &v = values.layout();
    require(k.page_size == v.page_size, "paged_view", "pages of one size (keys, values)",
            k.page_size, v.page_size);
    require(k.pages == v.pages, "paged_view", "as many pages of values as of keys", k.pages,
            v.pages);
    require(rows >= 0 && rows < (index_t{1} << 31), "paged_view", "0 <= rows < 2^31", rows);
    require(first_row >= 0, "paged_view", "first_row >= 0", first_row);
    const index_t used = (rows + k.page_size - 1) / k.page_size;
    const auto entries = static_cast<index_t>(table.size());
    require(entries >= used, "paged_view", "a table entry for every page of rows (needed, there)",
            used, entries);
    for (index_t at = 0; at < used; ++at) {
      const index_t page = table[static_cast<std::size_t>(at)];
      require(page >= 0 && page < k.pages, "paged_view",
              "a page of the pool (page, its place in the table, pages)", page, at, k.pages);
    }
    if (std::has_single_bit(static_cast<std::uint64_t>(k.page_size)))
      shift_ = std::countr_zero(static_cast<std::uint64_t>(k.page_size));
  }

  index_t rows() const noexcept { return rows_; }
  index_t key_dim() const noexcept { return keys_.dim(); }
  index_t value_dim() const noexcept { return values_.dim(); }
  element key_type() const noexcept { return keys_.type(); }
  element value_type() const noexcept { return values_.type(); }
  const void* key_row(row_t i) const noexcept { return find(keys_, i); }
  const void* value_row(row_t i) const noexcept { return find(values_, i); }
  index_t first_row() const noexcept { return first_row_; }

  /// The rows [first, first + count) as a shard that knows where it lies in the whole; it need not begin
  /// with a page. O(1).
  /// @throws std::invalid_argument if they are not inside the view.
  paged_view shard(index_t first, index_t count) const {
    require(first >= 0 && count >= 0 && first + count <= rows_, "paged_view::shard",
            "rows inside the view", first, count);
    paged_view part = *this;
    part.begin_ += first;
    part.rows_ = count;
    part.first_row_ += first;
    return part;
  }

private:
  const void* find(const page_pool& pool, row_t i) const noexcept {
    const index_t row = begin_ + i, size = pool.layout().page_size;
    const index_t at = shift_ >= 0 ? row >> shift_ : row / size;
    return pool.row(table_[at], shift_ >= 0 ? row & (size - 1) : row - at * size);
  }

  page_pool keys_, values_;
  const std::int32_t* table_;
  index_t rows_, first_row_;
  /// Row 0 of the view, counted from the first row of the table.
  index_t begin_ = 0;
  /// log2 of the page size, or -1.
  int shift_ = -1;
};

static_assert(cache_view<paged_view>);

}  // namespace vattn
