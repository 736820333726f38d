// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows within reach of a sample in proportion to predicted weight, and the rates that say which those are.
#pragma once

#include <algorithm>
#include <limits>
#include <span>

#include "vattention/core/kv_view.hpp"
#include "vattention/core/scratch.hpp"

namespace vattn {

/// Rates at which rows are reached [natural logarithms]: a row of log-weight t at the predictor's first level is if
/// log u <= max(weight + t, even), and up to its reach beyond.
struct reach_rates {
  double weight = -std::numeric_limits<double>::infinity();
  double even = -std::numeric_limits<double>::infinity();

  bool cover(const reach_rates& other) const noexcept {
    return other.weight <= weight && other.even <= even;
  }
  void raise(const reach_rates& to) noexcept {
    weight = std::max(weight, to.weight);
    even = std::max(even, to.even);
  }
  reach_rates within(const reach_rates& most) const noexcept {
    return {std::min(weight, most.weight), std::min(even, most.even)};
  }
};

/// Rows within reach of a sample in proportion to predicted weight: the upper halves of their random numbers, and a
/// logarithm for each head, `[g x stride]`.
struct reached_rows {
  scratch<row_t> rows;
  scratch<std::uint16_t> numbers;
  scratch<float> logs;
  index_t count = 0, stride = 0;

  float* logs_of(int h) noexcept { return logs.data() + h * stride; }
  const float* logs_of(int h) const noexcept { return logs.data() + h * stride; }
  /// Empty, with room for `room` rows. Allocates only if it never was as large.
  void reset(int heads, index_t room) {
    rows.reserve(room);
    numbers.reserve(room);
    logs.reserve(heads * room);
    count = 0;
    stride = room;
  }
  /// Appends the entries of a list at the places `list`, counted from `first`.
  void append(const reached_rows& other, index_t first, std::span<const row_t> list,
              int heads) noexcept {
    const auto copy = [&](const auto* from, auto* to) {
      for (const row_t place : list) *to++ = from[place];
    };
    copy(other.rows.data() + first, rows.data() + count);
    copy(other.numbers.data() + first, numbers.data() + count);
    for (int h = 0; h < heads; ++h) copy(other.logs_of(h) + first, logs_of(h) + count);
    count += static_cast<index_t>(list.size());
  }
  /// Takes out the entries at the places `list`, counted from `first` and ascending: the last ones fill the gaps.
  void remove(index_t first, std::span<const row_t> list, int heads) noexcept {
    const index_t left = count - static_cast<index_t>(list.size());
    const auto fill = [&](auto* all) {
      index_t last = count;
      for (std::size_t i = list.size(); i > 0; --i) all[first + list[i - 1]] = all[--last];
    };
    fill(rows.data());
    fill(numbers.data());
    for (int h = 0; h < heads; ++h) fill(logs_of(h));
    count = left;
  }
  /// Appends the `size` entries that lie from place `from` on.
  void close_up(index_t from, index_t size, int heads) noexcept {
    const auto move = [&](auto* all) { std::copy(all + from, all + from + size, all + count); };
    move(rows.data());
    move(numbers.data());
    for (int h = 0; h < heads; ++h) move(logs_of(h));
    count += size;
  }
};

}  // namespace vattn
