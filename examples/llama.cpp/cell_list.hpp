// SPDX-License-Identifier: Apache-2.0
/// @file
/// The cells of a cache that one sequence sees, in the order in which they were written: the rows of its attention.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <span>
#include <vector>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/convert.hpp"

namespace vattn_llama_cpp {

using vattn::index_t;

/// When each cell of a stream was last written. Times are numbers that only grow; 0 is never.
class cell_times {
public:
  explicit cell_times(std::size_t cells) : written_(cells, 0) {}

  /// Cells beyond the stream are not counted.
  void write(std::span<const std::uint32_t> cells) noexcept {
    for (const std::uint32_t cell : cells)
      if (cell < written_.size()) written_[cell] = ++now_;
  }
  /// Whatever the cells hold may be another thing from now on; their order stays.
  void rewrite() noexcept { rewritten_ = ++now_; }

  std::uint64_t now() const noexcept { return now_; }
  std::uint64_t of(std::int32_t cell) const noexcept {
    return written_[static_cast<std::size_t>(cell)];
  }
  std::uint64_t rewritten() const noexcept { return rewritten_; }
  std::size_t cells() const noexcept { return written_.size(); }

private:
  std::vector<std::uint64_t> written_;
  std::uint64_t now_ = 0, rewritten_ = 0;
};

/// How one token sees the rows of a `cell_list`.
struct token_sight {
  /// Rows it sees are among the first so many.
  index_t visible = 0;
  /// `[visible]` to be added to the logits, or null.
  const float* bias = nullptr;
};

/// Rows of one sequence. New cells go to the end, in the order in which they were written, wherever they are: what
/// holds of early and late rows (sinks, window) is about the text, and what an index knows of earlier rows stays true
/// when a hole is filled.
class cell_list {
public:
  /// Brings the list to the cells that any of the tokens sees, and returns the first row that is not what it was.
  /// `masks[t]` are f16 numbers, one a cell: -inf hides it, 0 shows it, anything else is added to the logit. O(cells)
  /// for each token.
  index_t follow(std::span<const std::uint16_t* const> masks, index_t cells,
                 const cell_times& times) {
    sights_.assign(masks.size(), {});
    const index_t intact = times.rewritten() > followed_ ? 0 : size();
    index_t first = extend_prefix(masks, cells, times);
    if (first < 0) first = list_anew(masks, cells, times);
    followed_ = times.now();
    return std::min(intact, first);
  }

  index_t size() const noexcept { return static_cast<index_t>(cells_.size()); }
  /// Null where row i is cell i.
  const std::int32_t* cells() const noexcept { return in_place_ ? nullptr : cells_.data(); }
  std::span<const std::int32_t> listed() const noexcept { return cells_; }
  /// Of each token of the last `follow`.
  const token_sight& sight(std::size_t token) const noexcept { return sights_[token]; }

private:
  static constexpr std::uint16_t hides = 0xFC00;

  /// The usual step: every token sees the cells up to some cell, the list has been that all along, no cell of it was
  /// written, and new ones were in their order. -1, and the list as it was, otherwise.
  index_t extend_prefix(std::span<const std::uint16_t* const> masks, index_t cells,
                        const cell_times& times) {
    if (!in_place_) return -1;
    index_t most = 0;
    for (std::size_t t = 0; t < masks.size(); ++t) {
      const std::uint16_t* const mask = masks[t];
      index_t seen = 0;
      while (seen < cells && (mask[seen] & 0x7FFFU) == 0) ++seen;
      bool hidden = true;
      for (index_t i = seen; i < cells; ++i) hidden = hidden && mask[i] == hides;
      if (!hidden) return -1;
      sights_[t].visible = seen;
      most = std::max(most, seen);
    }
    const index_t old = std::min(size(), most);
    const auto time_of = [&](index_t i) { return times.of(static_cast<std::int32_t>(i)); };
    for (index_t i = 0; i < old; ++i)
      if (time_of(i) > followed_) return -1;
    for (index_t i = std::max<index_t>(old, 1); i < most; ++i)
      if (time_of(i) < time_of(i - 1)) return -1;
    cells_.resize(static_cast<std::size_t>(most));
    std::iota(cells_.begin() + old, cells_.end(), static_cast<std::int32_t>(old));
    return old;
  }

  index_t list_anew(std::span<const std::uint16_t* const> masks, index_t cells,
                    const cell_times& times) {
    state_.assign(static_cast<std::size_t>(cells), 0);
    for (const std::uint16_t* const mask : masks)
      for (index_t i = 0; i < cells; ++i)
        state_[static_cast<std::size_t>(i)] |= mask[i] == hides ? 0 : 1;
    // What stays, in its order; `first` is where it begins to differ.
    const std::size_t had = cells_.size();
    std::size_t kept = 0;
    std::size_t first = had;
    for (std::size_t at = 0; at < had; ++at) {
      const std::int32_t cell = cells_[at];
      const bool stays = cell < cells && state_[static_cast<std::size_t>(cell)] == 1 &&
                         times.of(cell) <= followed_;
      if (!stays) {
        first = std::min(first, at);
        continue;
      }
      state_[static_cast<std::size_t>(cell)] = 2;
      cells_[kept++] = cell;
    }
    cells_.resize(kept);
    for (index_t i = 0; i < cells; ++i)
      if (state_[static_cast<std::size_t>(i)] == 1) cells_.push_back(static_cast<std::int32_t>(i));
    std::stable_sort(cells_.begin() + static_cast<std::ptrdiff_t>(kept), cells_.end(),
                     [&](std::int32_t a, std::int32_t b) { return times.of(a) < times.of(b); });
    in_place_ = true;
    for (std::size_t at = 0; at < cells_.size() && in_place_; ++at)
      in_place_ = cells_[at] == static_cast<std::int32_t>(at);
    look(masks);
    return static_cast<index_t>(std::min(first, cells_.size()));
  }

  /// What each token sees of the rows; a bias where that is not a number of first rows.
  void look(std::span<const std::uint16_t* const> masks) {
    bias_.resize(masks.size() * cells_.size());
    for (std::size_t t = 0; t < masks.size(); ++t) {
      float* const bias = bias_.data() + t * cells_.size();
      bool plain = true;
      index_t visible = 0;
      index_t seen = 0;
      for (std::size_t at = 0; at < cells_.size(); ++at) {
        const std::uint16_t x = masks[t][cells_[at]];
        bias[at] = vattn::kernels::f16_to_float(x);
        if (x == hides) continue;
        plain = plain && (x & 0x7FFFU) == 0;
        visible = static_cast<index_t>(at) + 1;
        ++seen;
      }
      sights_[t].visible = visible;
      if (!plain || seen != visible) sights_[t].bias = bias;
    }
  }

  std::vector<std::int32_t> cells_;
  std::vector<std::uint8_t> state_;
  std::vector<float> bias_;
  std::vector<token_sight> sights_;
  std::uint64_t followed_ = 0;
  bool in_place_ = true;
};

}  // namespace vattn_llama_cpp
