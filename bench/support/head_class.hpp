// SPDX-License-Identifier: Apache-2.0
/// @file
/// Three classes of softmax rows, by the share of the keys that the weight is spread over.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace vattn_bench {

inline constexpr std::array<const char*, 3> class_names{"sharp", "mid", "wide"};

/// By exp(entropy) / n: sharp below .2 %, wide above 1 %, mid between.
inline std::size_t class_of(double entropy_share) noexcept {
  return entropy_share < 0.002 ? 0 : entropy_share <= 0.01 ? 1 : 2;
}

/// The value below which a share of the numbers lies (nearest rank); NaN for none.
inline double quantile_of(std::vector<double> numbers, double share) {
  if (numbers.empty()) return std::numeric_limits<double>::quiet_NaN();
  const auto last = static_cast<double>(numbers.size() - 1);
  const auto at = numbers.begin() + static_cast<std::ptrdiff_t>(std::lround(share * last));
  std::nth_element(numbers.begin(), at, numbers.end());
  return *at;
}

}  // namespace vattn_bench
