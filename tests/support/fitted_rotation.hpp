// SPDX-License-Identifier: Apache-2.0
/// @file
/// The directions of a hash, fitted to the rows of matrices.
#pragma once

#include "vattention/testing/heads.hpp"
#include "vattention/top_k/fit_hash_rotation.hpp"

namespace vattn::test {

/// To queries and keys that are rows of `[n x d]`.
inline top_k::hash_rotation fitted_to(const synthetic_head::matrix& queries,
                                      const synthetic_head::matrix& keys, int bits,
                                      int iterations = 50, std::uint64_t seed = 1) {
  return top_k::fit_hash_rotation(queries.data(), queries.rows(), keys.data(), keys.rows(),
                                  keys.cols(), bits, iterations, seed);
}

}  // namespace vattn::test
