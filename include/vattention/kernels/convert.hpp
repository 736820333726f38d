// SPDX-License-Identifier: Apache-2.0
/// @file
/// Conversions between float and the 16-bit cache elements, by integer arithmetic on the bit
/// patterns.
///
/// To float every conversion is exact, subnormals, infinities and NaN included; none depends on the
/// denormal mode of the thread.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>

#include "vattention/core/kv_view.hpp"

namespace vattn::kernels {

/// The float a bfloat16 bit pattern stands for.
constexpr float bf16_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(std::uint32_t{bits} << 16);
}

/// The float an IEEE half bit pattern stands for.
constexpr float f16_to_float(std::uint16_t bits) noexcept {
  const std::uint32_t sign = (std::uint32_t{bits} & 0x8000u) << 16;
  const std::uint32_t magnitude = (std::uint32_t{bits} & 0x7fffu) << 13;
  const std::uint32_t exponent = magnitude & 0x0f800000u;
  // A subnormal is its fraction in units of 2^-24: put under the exponent 2^-14 it is off by 2^-14.
  const float small = std::bit_cast<float>(magnitude + 0x38800000u) - 0x1p-14f;
  const std::uint32_t rebias = exponent == 0x0f800000u ? 0x70000000u : 0x38000000u;
  const std::uint32_t value =
      exponent == 0 ? std::bit_cast<std::uint32_t>(small) : magnitude + rebias;
  return std::bit_cast<float>(sign | value);
}

/// The nearest bfloat16, ties to even; NaN stays NaN.
constexpr std::uint16_t bf16_nearest(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  return static_cast<std::uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

/// The nearest half, ties to even; from 65520 on infinity, NaN stays NaN.
constexpr std::uint16_t f16_nearest(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
  std::uint32_t half = 0;
  if (magnitude > 0x7f800000u) {
    half = 0x7e00u;
  } else if (magnitude >= 0x477ff000u) {
    half = 0x7c00u;
  } else if (magnitude >= 0x38800000u) {
    half = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  } else {  // the sum with 1/2 rounds to units of 2^-24, those of a subnormal half
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
  }
  return static_cast<std::uint16_t>(sign | half);
}

/// The least half that is not below x: a radius stored this way still covers. NaN stays NaN.
constexpr std::uint16_t f16_up(float x) noexcept {
  const std::uint16_t half = f16_nearest(x);
  if (!(f16_to_float(half) < x)) return half;
  return static_cast<std::uint16_t>((half & 0x8000u) != 0 ? half - 1 : half + 1);
}

/// Element j of a row that need not be aligned.
inline float to_float(element type, const void* row, index_t j) noexcept {
  const char* at = static_cast<const char*>(row) + j * size_of(type);
  if (type == element::f32) {
    float x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }
  std::uint16_t bits;
  std::memcpy(&bits, at, sizeof bits);
  return type == element::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

/// Elements [first, first + count) of a row as floats.
inline void load_slice(element type, const void* row, index_t first, index_t count,
                       float* out) noexcept {
  const char* at = static_cast<const char*>(row) + first * size_of(type);
  if (type == element::f32) {
    std::memcpy(out, at, static_cast<std::size_t>(count) * sizeof(float));
  } else if (type == element::bf16) {
    for (index_t j = 0; j < count; ++j) {
      std::uint16_t bits;
      std::memcpy(&bits, at + 2 * j, sizeof bits);
      out[j] = bf16_to_float(bits);
    }
  } else {
    for (index_t j = 0; j < count; ++j) {
      std::uint16_t bits;
      std::memcpy(&bits, at + 2 * j, sizeof bits);
      out[j] = f16_to_float(bits);
    }
  }
}

/// A whole row of `dim` elements as floats.
inline void load_row(element type, const void* row, index_t dim, float* out) noexcept {
  load_slice(type, row, 0, dim, out);
}

}  // namespace vattn::kernels
