// SPDX-License-Identifier: Apache-2.0
/// @file
/// A random orthogonal map that spreads every direction over all coordinates, for any dimension.
#pragma once

#include <bit>
#include <cmath>
#include <vector>

#include "vattention/core/drawing.hpp"

namespace vattn {

/// Two rounds of random signs and normalised Hadamard transforms. Where the dimension is no power of two
/// each round transforms the first and then the last p coordinates, p the largest power of two in it.
/// Orthogonal, so dot products and norms are kept up to rounding. O(d log d); additions and one product a
/// coordinate, so the result does not depend on the compiler's choice of fused operations.
class rotation {
public:
  rotation(index_t dim, std::uint64_t seed) : signs_(static_cast<std::size_t>(2 * dim)), dim_(dim) {
    const random_stream stream({.seed = seed}, static_cast<std::uint32_t>(purpose::projection));
    for (std::size_t i = 0; i < signs_.size(); ++i)
      signs_[i] = (stream.u32(i) >> 31U) != 0 ? -1.0F : 1.0F;
  }

  index_t dim() const noexcept { return dim_; }

  /// Rotates `x` `[dim]` in place.
  void apply(float* x) const noexcept {
    const auto p = static_cast<index_t>(std::bit_floor(static_cast<std::uint64_t>(dim_)));
    for (index_t round = 0; round < 2; ++round) {
      const float* signs = signs_.data() + round * dim_;
      for (index_t j = 0; j < dim_; ++j) x[j] *= signs[j];
      hadamard(x, p);
      if (p < dim_) hadamard(x + dim_ - p, p);
    }
  }

private:
  static void hadamard(float* x, index_t p) noexcept {
    for (index_t half = 1; half < p; half *= 2)
      for (index_t start = 0; start < p; start += 2 * half)
        for (index_t j = start; j < start + half; ++j) {
          const float a = x[j];
          const float b = x[j + half];
          x[j] = a + b;
          x[j + half] = a - b;
        }
    const float norm = 1.0F / std::sqrt(static_cast<float>(p));
    for (index_t j = 0; j < p; ++j) x[j] *= norm;
  }

  std::vector<float> signs_;
  index_t dim_;
};

}  // namespace vattn
