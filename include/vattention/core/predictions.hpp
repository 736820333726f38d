// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a predictor found in its one look at the query group; selection and samplers read it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "vattention/core/index_set.hpp"

namespace vattn {

/// One score a query head and row, `[heads x rows]`. Larger means likelier to weigh much; whether a
/// score is also a log-weight (a logit up to a constant) is the predictor's to say. NaN means that the
/// row cannot be predicted and must be read; -inf that it cannot weigh anything or is fixed already.
///
/// A predictor that counts (equal signs, say) keeps counts instead, in the same memory: `must_read` and `not_free` are
/// its NaN and -inf.
class predictions {
public:
  static constexpr std::uint16_t not_free = 0, must_read = 0xFFFF;

  /// Makes room. Allocates only if it never was as large.
  void reset(int heads, index_t rows) {
    const auto wanted = static_cast<std::size_t>(heads) * static_cast<std::size_t>(rows);
    if (wanted * sizeof(float) > memory_.size())
      memory_.resize((wanted + wanted / 2) * sizeof(float));
    heads_ = heads;
    rows_ = rows;
  }

  int heads() const noexcept { return heads_; }
  index_t rows() const noexcept { return rows_; }
  std::span<float> scores(int head) noexcept { return head_of<float>(memory_.data(), head); }
  std::span<const float> scores(int head) const noexcept {
    return head_of<const float>(memory_.data(), head);
  }
  std::span<std::uint16_t> counts(int head) noexcept {
    return head_of<std::uint16_t>(memory_.data(), head);
  }
  std::span<const std::uint16_t> counts(int head) const noexcept {
    return head_of<const std::uint16_t>(memory_.data(), head);
  }

  /// Takes rows out of the running: their scores become -inf for every head.
  void exclude(std::span<const row_t> rows) noexcept {
    for (int head = 0; head < heads_; ++head)
      for (const row_t row : rows) scores(head)[row] = -std::numeric_limits<float>::infinity();
  }
  /// The same of counts.
  void exclude_counts(std::span<const row_t> rows) noexcept {
    for (int head = 0; head < heads_; ++head)
      for (const row_t row : rows) counts(head)[row] = not_free;
  }

private:
  /// Of bytes, in which numbers of either type come to be by being written.
  template <class T, class Byte>
  std::span<T> head_of(Byte* memory, int head) const noexcept {
    return {reinterpret_cast<T*>(memory) + head * rows_, static_cast<std::size_t>(rows_)};
  }

  std::vector<std::byte> memory_;
  int heads_ = 0;
  index_t rows_ = 0;
};

}  // namespace vattn
