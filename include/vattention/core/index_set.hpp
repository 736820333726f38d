// SPDX-License-Identifier: Apache-2.0
/// @file
/// A set of cache rows, listed in ascending order, and the rows that are left outside it.
#pragma once

#include <algorithm>
#include <bit>
#include <span>
#include <vector>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Rows [first, last).
struct half_open {
  index_t first = 0, last = 0;
  index_t size() const noexcept { return last - first; }
};

/// Rows of [0, n), each at most once. A bit a row; adding is O(1), listing O(n / 64 + size).
class index_set {
public:
  /// Empties the set and makes room for rows [0, n). Allocates only if n was never as large.
  void reset(index_t n) {
    const auto words = static_cast<std::size_t>((n + 63) / 64);
    if (words > bits_.size()) bits_.resize(words + words / 2);
    if (static_cast<std::size_t>(n) > listed_.size())
      listed_.resize(static_cast<std::size_t>(n + n / 2));
    std::fill_n(bits_.begin(), words, 0);
    n_ = n;
    size_ = 0;
    listed_size_ = 0;
  }

  /// Adds a row; nothing happens if it is there already.
  void add(row_t row) noexcept {
    VATTN_ASSERT(static_cast<index_t>(row) < n_);
    const std::uint64_t bit = std::uint64_t{1} << (row & 63U);
    std::uint64_t& word = bits_[row >> 6U];
    size_ += (word & bit) == 0 ? 1 : 0;
    word |= bit;
  }
  /// Adds the rows 64 word + i for the bits i that are set.
  void add_word(index_t word, std::uint64_t bits) noexcept {
    VATTN_ASSERT(64 * word + 64 - std::countl_zero(bits) <= n_ || bits == 0);
    std::uint64_t& held = bits_[static_cast<std::size_t>(word)];
    size_ += std::popcount(bits & ~held);
    held |= bits;
  }
  void add_range(index_t first, index_t last) noexcept {
    for (index_t row = first; row < last; ++row) add(static_cast<row_t>(row));
  }

  bool contains(row_t row) const noexcept { return (bits_[row >> 6U] >> (row & 63U) & 1U) != 0; }
  index_t size() const noexcept { return size_; }
  /// Rows the set may hold: [0, universe).
  index_t universe() const noexcept { return n_; }

  /// Brings the list up to date. O(n / 64 + size).
  void list() noexcept {
    row_t* out = listed_.data();
    const index_t words = (n_ + 63) / 64;
    for (index_t word = 0; word < words; ++word)
      for (std::uint64_t left = bits_[static_cast<std::size_t>(word)]; left != 0; left &= left - 1)
        *out++ = static_cast<row_t>(word * 64 + std::countr_zero(left));
    listed_size_ = out - listed_.data();
    VATTN_ASSERT(listed_size_ == size_);
  }
  /// The rows in ascending order, as of the last `list()`.
  std::span<const row_t> rows() const noexcept {
    return {listed_.data(), static_cast<std::size_t>(listed_size_)};
  }

  /// True if the list has a row of [first, last).
  bool lists_any(index_t first, index_t last) const noexcept {
    const std::span<const row_t> all = rows();
    const auto at = std::lower_bound(all.begin(), all.end(), static_cast<row_t>(first));
    return at != all.end() && static_cast<index_t>(*at) < last;
  }

private:
  std::vector<std::uint64_t> bits_;
  std::vector<row_t> listed_;
  index_t n_ = 0, size_ = 0, listed_size_ = 0;
};

/// The residual: visible rows outside a listed set, known by rank (0 = the lowest such row).
class population {
public:
  population(index_t visible, const index_set& exact) noexcept
      : exact_(&exact), size_(visible - exact.size()) {
    VATTN_ASSERT(exact.size() == static_cast<index_t>(exact.rows().size()));
  }
  index_t size() const noexcept { return size_; }

  /// Turns ascending ranks into ascending rows, in place. O(count + set size).
  void to_rows(std::span<row_t> ranks) const noexcept {
    const std::span<const row_t> exact = exact_->rows();
    std::size_t below = 0;
    for (row_t& rank : ranks) {
      while (below < exact.size() && exact[below] <= rank + below) ++below;
      rank += static_cast<row_t>(below);
    }
  }

private:
  const index_set* exact_;
  index_t size_;
};

}  // namespace vattn
