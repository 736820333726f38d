// SPDX-License-Identifier: Apache-2.0
/// @file
/// The prefix of one random permutation, extended as far as a draw grows.
#pragma once

#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"
#include "vattention/core/stream_reader.hpp"

namespace vattn {

/// Fisher-Yates from the front, stopped and resumed at will: the first b ranks are a simple random
/// sample without replacement of size b, and every prefix of a prefix is one too.
///
/// O(rows drawn) a call, not O(n): the array is the identity between calls and only the places that
/// were touched are restored. Integer arithmetic alone, so the ranks are the same on every machine.
class permutation {
public:
  /// Makes room for n ranks. Allocates only if n was never as large.
  void reserve(index_t n) {
    const auto had = place_.size();
    if (static_cast<std::size_t>(n) <= had) return;
    place_.resize(static_cast<std::size_t>(n + n / 2));
    touched_.resize(place_.size());
    std::iota(place_.begin() + static_cast<std::ptrdiff_t>(had), place_.end(),
              static_cast<row_t>(had));
  }

  /// Begins a new permutation of the ranks [0, n).
  void begin(index_t n) noexcept {
    for (index_t i = 0; i < drawn_; ++i) {
      at(place_, i) = static_cast<row_t>(i);
      at(place_, at(touched_, i)) = at(touched_, i);
    }
    n_ = n;
    drawn_ = 0;
  }

  /// Extends the prefix to `count` ranks and returns those that are new, in random order. Step i uses
  /// number `origin + i` of the stream.
  std::span<const row_t> extend(index_t count, const random_stream& stream,
                                std::uint64_t origin = 0) noexcept {
    VATTN_ASSERT(drawn_ <= count && count <= n_);
    const index_t first = drawn_;
    stream_reader numbers(stream);
    for (; drawn_ < count; ++drawn_) {
      const auto left = static_cast<std::uint64_t>(n_ - drawn_);
      const auto offset = numbers.below(origin + static_cast<std::uint64_t>(drawn_), left);
      const auto other = static_cast<row_t>(drawn_) + static_cast<row_t>(offset);
      at(touched_, drawn_) = other;
      std::swap(at(place_, drawn_), at(place_, other));
    }
    return {place_.data() + first, static_cast<std::size_t>(count - first)};
  }

private:
  template <class I>
  static row_t& at(std::vector<row_t>& v, I i) noexcept {
    return v[static_cast<std::size_t>(i)];
  }
  std::vector<row_t> place_, touched_;
  index_t n_ = 0, drawn_ = 0;
};

}  // namespace vattn
