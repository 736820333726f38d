// SPDX-License-Identifier: Apache-2.0
/// @file
/// One key as codes, a factor and an error norm.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/kernels/convert.hpp"
#include "vattention/kernels/scalar_proposals.hpp"
#include "vattention/top_k/code_book.hpp"

namespace vattn::top_k {

/// Factor f and norm e, fp16, of a coded key: ||x - f level|| <= e. f = ||x||^2 / (x.level) makes the
/// estimate unbiased over random rotations (Gao and Long, RaBitQ, SIGMOD 2024).
struct coded_key {
  static constexpr std::uint16_t not_a_number = 0x7E00;
  static constexpr std::uint16_t infinite = 0x7C00;

  /// Of a key that is not finite, or too large to code: it must be read.
  std::uint16_t factor = not_a_number, error = infinite;
};

/// Codes x `[dim]`, a rotated and centred key, into `codes` `[dim]`; they mean nothing if the factor is NaN.
/// O(dim).
inline coded_key code_key(const code_book& book, const float* x, index_t dim,
                          std::uint8_t* codes) noexcept {
  double square = 0.0;
  float largest = 0.0F;
  for (index_t j = 0; j < dim; ++j) {
    square += static_cast<double>(x[j]) * static_cast<double>(x[j]);
    largest = std::max(largest, std::fabs(x[j]));
  }
  const auto rms = static_cast<float>(std::sqrt(square / static_cast<double>(dim)));
  if (!std::isfinite(square) || !std::isfinite(rms)) return {};
  double along = 0.0;
  for (index_t j = 0; j < dim; ++j) {
    codes[j] = static_cast<std::uint8_t>(book.code(x[j], rms, largest));
    along += static_cast<double>(x[j]) * book.level(codes[j]);
  }
  const std::uint16_t factor =
      kernels::f16_nearest(along > 0.0 ? static_cast<float>(square / along) : 0.0F);
  const auto f = static_cast<double>(kernels::f16_to_float(factor));
  if (!std::isfinite(f)) return {};
  double error = 0.0;
  for (index_t j = 0; j < dim; ++j) {
    const double off = static_cast<double>(x[j]) - f * book.level(codes[j]);
    error += off * off;
  }
  // x itself is off by at most 60 float roundings, and the sums here by far less.
  const double bound = std::sqrt(error) + 0x1p-18 * std::sqrt(square);
  return {factor, kernels::f16_up(static_cast<float>(bound))};
}

/// An error norm in one byte, in steps of a quarter octave from 2^-31.75 to 2^31.5 and rounded up; 0 is
/// none, 255 is +inf.
class error_byte {
public:
  static float decode(std::uint8_t byte) noexcept { return kernels::scalar::byte_norm(byte); }
  static std::uint8_t up(float norm) noexcept {
    if (!(norm > 0.0F)) return 0;
    const float steps = std::ceil(4.0F * std::log2(norm)) + 128.0F;
    auto byte = static_cast<std::uint8_t>(std::clamp(steps, 1.0F, 255.0F));
    while (decode(byte) < norm) ++byte;
    while (byte > 1 && !(decode(static_cast<std::uint8_t>(byte - 1)) < norm)) --byte;
    return byte;
  }
};

}  // namespace vattn::top_k
