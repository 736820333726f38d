// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a predictor found in its one look at the query group; selection and samplers read it.
#pragma once

#include <limits>
#include <span>
#include <vector>

#include "vattention/core/index_set.hpp"

namespace vattn {

/// One score a query head and row, `[heads x rows]`. Larger means likelier to weigh much; whether a
/// score is also a log-weight (a logit up to a constant) is the predictor's to say. NaN means that the
/// row cannot be predicted and must be read; -inf that it cannot weigh anything or is fixed already.
class predictions {
public:
  /// Makes room. Allocates only if it never was as large.
  void reset(int heads, index_t rows) {
    const auto wanted = static_cast<std::size_t>(heads) * static_cast<std::size_t>(rows);
    if (wanted > scores_.size()) scores_.resize(wanted + wanted / 2);
    heads_ = heads;
    rows_ = rows;
  }

  int heads() const noexcept { return heads_; }
  index_t rows() const noexcept { return rows_; }
  std::span<float> scores(int head) noexcept {
    return {scores_.data() + head * rows_, static_cast<std::size_t>(rows_)};
  }
  std::span<const float> scores(int head) const noexcept {
    return {scores_.data() + head * rows_, static_cast<std::size_t>(rows_)};
  }

  /// Takes rows out of the running: their scores become -inf for every head.
  void exclude(std::span<const row_t> rows) noexcept {
    for (int head = 0; head < heads_; ++head)
      for (const row_t row : rows) scores(head)[row] = -std::numeric_limits<float>::infinity();
  }

private:
  std::vector<float> scores_;
  int heads_ = 0;
  index_t rows_ = 0;
};

}  // namespace vattn
