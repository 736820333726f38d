// SPDX-License-Identifier: Apache-2.0
/// @file
/// Centroids of the parts of vectors, as they are handed in.
#pragma once

#include <vector>

#include "support/prepared_call.hpp"

namespace vattn::test {

/// `[d 2^bits]` normal numbers.
inline std::vector<float> made_up_centroids(index_t dim, int bits) {
  const prepared_call of({.rows = index_t{1} << bits, .dim = dim, .seed = 77});
  const float* all = of.head.keys.data();
  return {all, all + of.head.keys.size()};
}

}  // namespace vattn::test
