// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows whose keys are not finite: what no predictor can score.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "vattention/core/attention_call.hpp"
#include "vattention/core/predictions.hpp"

namespace vattn::top_k {

/// Lists the rows with a NaN or infinite key, ascending, so that they are read exactly.
class odd_rows {
public:
  const std::vector<row_t>& rows() const noexcept { return listed_; }

  /// Takes in row `row`, the next one, if its key is not finite; returns whether it is.
  bool add(index_t row, std::span<const float> key) {
    const bool finite =
        std::all_of(key.begin(), key.end(), [](float x) { return std::isfinite(x); });
    if (!finite) listed_.push_back(static_cast<row_t>(row));
    return !finite;
  }

  void forget(index_t rows) noexcept {
    listed_.erase(std::lower_bound(listed_.begin(), listed_.end(), static_cast<row_t>(rows)),
                  listed_.end());
  }
  /// Of an index of `rows` rows.
  template <class File>
  void exchange(File& file, index_t rows) {
    file.ascending(listed_, rows);
  }

  /// Marks those of rows [first, last) as rows that must be read, but for a head that does not see them: their
  /// scores, of which `scores` holds that of row `first` first, become NaN.
  void mark(index_t first, index_t last, float* scores) const noexcept {
    mark(first, last, scores, -std::numeric_limits<float>::infinity(),
         std::numeric_limits<float>::quiet_NaN());
  }
  /// The same of counts.
  void mark(index_t first, index_t last, std::uint16_t* counts) const noexcept {
    mark(first, last, counts, predictions::not_free, predictions::must_read);
  }

private:
  template <class T>
  void mark(index_t first, index_t last, T* scores, T hidden, T must_read) const noexcept {
    auto row = std::lower_bound(listed_.begin(), listed_.end(), static_cast<row_t>(first));
    for (; row != listed_.end() && static_cast<index_t>(*row) < last; ++row)
      if (T& score = scores[static_cast<index_t>(*row) - first]; score != hidden) score = must_read;
  }

  std::vector<row_t> listed_;
};

}  // namespace vattn::top_k
