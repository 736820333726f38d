// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows whose values are much longer than the others': what a predictor that looks at keys cannot know of.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/milestones.hpp"

namespace vattn::top_k {

/// ||v||^2 of a row; `scratch` has d_v elements.
template <cache_view View>
double value_square(const View& kv, index_t row, std::vector<float>& scratch) noexcept {
  kernels::load_value(kv, static_cast<row_t>(row), scratch.data());
  double square = 0.0;
  for (const float x : scratch) square += static_cast<double>(x) * static_cast<double>(x);
  return square;
}

/// Rows whose value is more than 8 times as long as the root mean square of the rows before it (of 32 at
/// least). A small weight times a huge value can make the output, and a sample that lacks the row shows
/// nothing of it: such rows are read exactly. Captured heads have none. Depends on the order of the rows
/// alone, so an index grown row by row equals one built at once. Up to 8 bytes a row that is listed.
class long_values {
public:
  /// Looks at the values of rows [rows(), kv.rows()). O(d_v) a row; allocates.
  template <cache_view View>
  void append(const View& kv) {
    std::vector<float> value(static_cast<std::size_t>(kv.value_dim()));
    before_.reserve(kv.rows());
    for (; rows_ < kv.rows(); ++rows_) {
      const double square = value_square(kv, rows_, value);
      const bool is_long =
          rows_ >= 32 && square * static_cast<double>(rows_) > 64.0 * now_.ordinary;
      if (is_long) listed_.push_back(static_cast<row_t>(rows_));
      before_.pass(rows_, now_);
      if (!std::isfinite(square)) continue;
      if (!is_long) now_.ordinary += square;
      now_.all += square;
    }
  }
  /// Forgets the rows from `rows` on, a multiple of 16.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    now_ = before_.back_to(rows, now_);
    listed_.erase(std::lower_bound(listed_.begin(), listed_.end(), static_cast<row_t>(rows)),
                  listed_.end());
    rows_ = rows;
  }

  /// Ascending.
  const std::vector<row_t>& rows() const noexcept { return listed_; }

  /// Mean of ||v||^2 over all rows, a row that is not finite counting 0.
  double mean_square() const noexcept {
    return rows_ == 0 ? 0.0 : now_.all / static_cast<double>(rows_);
  }

  /// Marks those of rows [at, at + count) that are listed as rows that must be read, but for heads that do not see
  /// them: their scores `[heads x stride]` become NaN.
  void mark(index_t at, index_t count, float* scores, index_t stride, int heads) const noexcept {
    auto row = std::lower_bound(listed_.begin(), listed_.end(), static_cast<row_t>(at));
    for (; row != listed_.end() && static_cast<index_t>(*row) < at + count; ++row)
      for (int h = 0; h < heads; ++h)
        if (float& score = scores[h * stride + static_cast<index_t>(*row) - at];
            score > -std::numeric_limits<float>::infinity())
          score = std::numeric_limits<float>::quiet_NaN();
  }

  template <class File>
  void exchange(File& file) {
    file.number(rows_);
    file.ascending(listed_, rows_);
    now_.exchange(file);
    before_.exchange(file);
  }

private:
  /// Sums of ||v||^2: of rows that are not listed, and of all.
  struct sums {
    double ordinary = 0.0, all = 0.0;
    template <class File>
    void exchange(File& file) {
      file.number(ordinary);
      file.number(all);
    }
  };

  std::vector<row_t> listed_;
  sums now_;
  milestones<sums> before_;
  index_t rows_ = 0;
};

}  // namespace vattn::top_k
