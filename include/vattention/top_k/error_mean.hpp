// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far the codes of an index are off, all in all.
#pragma once

#include <cmath>

#include "vattention/top_k/milestones.hpp"

namespace vattn::top_k {

/// Mean of the squared error norms of coded keys, those aside that have no finite one.
class error_mean {
public:
  void clear() noexcept { forget(0); }
  void reserve(index_t rows) { before_.reserve(rows); }
  /// Adds the norm of key `row`, the next one. Allocates unless there is room.
  void add(index_t row, float norm) {
    before_.pass(row, {sum_, count_});
    if (!std::isfinite(norm)) return;
    sum_ += static_cast<double>(norm) * static_cast<double>(norm);
    ++count_;
  }
  /// Forgets the norms from row `rows` on, a multiple of 16.
  void forget(index_t rows) noexcept {
    const sums then = before_.back_to(rows, {sum_, count_});
    sum_ = then.sum;
    count_ = then.count;
  }
  /// 0 of none.
  double square() const noexcept { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

  template <class File>
  void exchange(File& file) {
    file.number(sum_);
    file.number(count_);
    before_.exchange(file);
  }

private:
  struct sums {
    double sum = 0.0;
    std::int64_t count = 0;
    template <class File>
    void exchange(File& file) {
      file.number(sum);
      file.number(count);
    }
  };

  double sum_ = 0.0;
  std::int64_t count_ = 0;
  milestones<sums> before_;
};

}  // namespace vattn::top_k
