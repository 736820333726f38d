// SPDX-License-Identifier: Apache-2.0
/// @file
/// Conversions between float and the other cache elements, by integer arithmetic on the bit patterns.
///
/// To float every conversion is exact, subnormals, infinities and NaN included; none depends on the
/// denormal mode of the thread.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
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

/// The least bfloat16 that is not below x. NaN stays NaN.
constexpr std::uint16_t bf16_up(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return bf16_nearest(x);
  const bool up = (bits & 0xffffu) != 0 && (bits & 0x80000000u) == 0;
  return static_cast<std::uint16_t>((bits >> 16) + (up ? 1u : 0u));
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

/// The scale of a block of q8_0 that need not be aligned.
inline float scale_of_block(const char* block) noexcept {
  std::uint16_t bits;
  std::memcpy(&bits, block, sizeof bits);
  return f16_to_float(bits);
}

/// Values [first, first + count) of a row of q8_0 as floats. Exact: 11 bits times 8 fit a float, and the
/// least product is 2^-24. A scale that is infinite or NaN makes NaN of a 0.
inline void load_q8_0(const char* row, index_t first, index_t count, float* out) noexcept {
  for (index_t j = 0; j < count;) {
    const char* block = row + row_bytes(element::q8_0, first + j);
    const float scale = scale_of_block(block);
    const index_t begin = (first + j) % 32, end = std::min<index_t>(32, begin + count - j);
    for (index_t k = begin; k < end; ++k)
      out[j++] = scale * static_cast<float>(static_cast<signed char>(block[2 + k]));
  }
}

/// Writes `dim` floats, a multiple of 32, as a row of q8_0 (`row_bytes(element::q8_0, dim)` bytes, of any
/// alignment). The scale is the least half that holds the block's largest magnitude as 127, so a value is
/// off by half of it at most, and by a float rounding. A block with a NaN, or with a magnitude beyond
/// 127 * 65504, becomes NaN throughout.
inline void quantise_q8_0(const float* x, index_t dim, void* row) noexcept {
  char* block = static_cast<char*>(row);
  for (index_t j = 0; j < dim; j += 32, block += 34) {
    float largest = 0;
    for (index_t k = j; k < j + 32; ++k)
      largest = std::isnan(x[k]) || std::fabs(x[k]) > largest ? std::fabs(x[k]) : largest;
    const std::uint16_t bits = f16_up(largest / 127.0f);
    const float scale = f16_to_float(bits);
    std::memcpy(block, &bits, sizeof bits);
    for (index_t k = 0; k < 32; ++k) {
      const float steps = scale > 0 && std::isfinite(scale) ? std::nearbyint(x[j + k] / scale) : 0;
      block[2 + k] =
          static_cast<char>(static_cast<signed char>(std::clamp(steps, -127.0f, 127.0f)));
    }
  }
}

/// Element j of a row that need not be aligned.
inline float to_float(element type, const void* row, index_t j) noexcept {
  if (type == element::q8_0) {
    float x;
    load_q8_0(static_cast<const char*>(row), j, 1, &x);
    return x;
  }
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
  if (type == element::q8_0) {
    load_q8_0(static_cast<const char*>(row), first, count, out);
  } else if (type == element::f32) {
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

/// The `value_dim` floats of a cache's value.
template <cache_view View>
void load_value(const View& kv, row_t row, float* out) noexcept {
  if constexpr (contiguous_values<View>) {
    load_row(kv.value_type(), kv.value_row(row), kv.value_dim(), out);
  } else {
    for (index_t j = 0; j < kv.value_dim(); ++j)
      out[j] = to_float(kv.value_type(), kv.value_element(row, j), 0);
  }
}

}  // namespace vattn::kernels
