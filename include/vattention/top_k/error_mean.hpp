// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far the codes of an index are off, all in all.
#pragma once

#include <cmath>

namespace vattn::top_k {

/// Mean of the squared error norms of coded keys, those aside that have no finite one.
class error_mean {
public:
  void clear() noexcept { *this = {}; }
  void add(float norm) noexcept {
    if (!std::isfinite(norm)) return;
    sum_ += static_cast<double>(norm) * static_cast<double>(norm);
    ++count_;
  }
  /// 0 of none.
  double square() const noexcept { return count_ == 0 ? 0.0 : sum_ / static_cast<double>(count_); }

private:
  double sum_ = 0.0;
  long long count_ = 0;
};

}  // namespace vattn::top_k
