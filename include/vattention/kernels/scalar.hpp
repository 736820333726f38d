// SPDX-License-Identifier: Apache-2.0
/// @file
/// The portable row of kernels, and the specification of the other rows; contracts in kernels.hpp.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "vattention/core/kv_view.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/kernels/convert.hpp"

namespace vattn::kernels::scalar {

/// Elements converted at a time, and rows summed from zero before they are added to the output.
inline constexpr index_t slice = 64, row_block = 64;
/// Keys of a block of packed codes, and bytes of one of its words.
inline constexpr int block_keys = 16, word_bytes = 64;

/// Dot product of two float arrays; eight chains, so that the loop is not bound by latency.
inline float dot(const float* a, const float* b, index_t count) noexcept {
  float chain[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8) {
    for (index_t c = 0; c < 8; ++c) chain[c] += a[j + c] * b[j + c];
  }
  for (; j < count; ++j) chain[0] += a[j] * b[j];
  return ((chain[0] + chain[4]) + (chain[1] + chain[5])) +
         ((chain[2] + chain[6]) + (chain[3] + chain[7]));
}

inline void dot_rows(element type, const void* const* rows, index_t count, index_t /*upcoming*/,
                     index_t dim, const float* x, index_t x_stride, int heads, float* out,
                     index_t out_stride) noexcept {
  float part[slice];
  for (index_t i = 0; i < count; ++i) {
    for (int h = 0; h < heads; ++h) out[h * out_stride + i] = 0;
    for (index_t first = 0; first < dim; first += slice) {
      const index_t size = std::min(slice, dim - first);
      load_slice(type, rows[i], first, size, part);
      for (int h = 0; h < heads; ++h) {
        out[h * out_stride + i] += dot(part, x + h * x_stride + first, size);
      }
    }
  }
}

/// One slice of one block of rows for all heads: the rows are converted once.
inline void sum_slice(element type, const void* const* rows, index_t count, index_t first,
                      index_t size, const float* weights, index_t weight_stride, int heads,
                      float* out, index_t out_stride) noexcept {
  float part[row_block * slice];
  for (index_t i = 0; i < count; ++i) load_slice(type, rows[i], first, size, part + i * slice);
  for (int h = 0; h < heads; ++h) {
    float sum[slice] = {};
    for (index_t i = 0; i < count; ++i) {
      const float w = weights[h * weight_stride + i];
      for (index_t j = 0; j < size; ++j) sum[j] += w * part[i * slice + j];
    }
    for (index_t j = 0; j < size; ++j) out[h * out_stride + first + j] += sum[j];
  }
}

/// Square norms of rows.
inline void square_norms(element type, const void* const* rows, index_t count, index_t dim,
                         float* out) noexcept {
  float part[slice];
  for (index_t i = 0; i < count; ++i) {
    out[i] = 0;
    for (index_t first = 0; first < dim; first += slice) {
      const index_t size = std::min(slice, dim - first);
      load_slice(type, rows[i], first, size, part);
      out[i] += dot(part, part, size);
    }
  }
}

inline void sum_rows(element type, const void* const* rows, index_t count, index_t /*upcoming*/,
                     index_t dim, const float* weights, index_t weight_stride, int heads,
                     float* out, index_t out_stride, float* norms) noexcept {
  if (norms != nullptr) square_norms(type, rows, count, dim, norms);
  for (index_t i = 0; i < count; i += row_block) {
    const index_t block = std::min(row_block, count - i);
    for (index_t first = 0; first < dim; first += slice) {
      sum_slice(type, rows + i, block, first, std::min(slice, dim - first), weights + i,
                weight_stride, heads, out, out_stride);
    }
  }
}

inline float max_of(const float* x, index_t count) noexcept {
  float largest = -std::numeric_limits<float>::infinity();
  for (index_t i = 0; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

inline double exp_shifted(const float* x, index_t count, float shift, float* out) noexcept {
  double sum = 0;
  for (index_t i = 0; i < count; ++i) {
    const float e = std::exp(x[i] - shift);
    if (out != nullptr) out[i] = e;
    sum += static_cast<double>(e);
  }
  return sum;
}

/// The level of field f of a byte of codes.
inline std::uint8_t field_level(int bits, std::uint8_t byte, int field,
                                const std::uint8_t* levels) noexcept {
  const int code = (byte >> (bits * field)) & ((1 << bits) - 1);
  return bits == 2 || bits == 4 ? levels[code] : static_cast<std::uint8_t>(code);
}

/// The levels of field f of one word of codes, byte for byte.
inline void decode_word(int bits, const std::uint8_t* word, int field, const std::uint8_t* levels,
                        std::uint8_t* out) noexcept {
  for (int c = 0; c < word_bytes; ++c) out[c] = field_level(bits, word[c], field, levels);
}

inline void scan_codes(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                       const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                       int heads, std::int32_t* out, index_t out_stride) noexcept {
  const int fields = 8 / bits;
  std::uint8_t level[word_bytes];
  for (index_t block = 0; block < blocks; ++block) {
    std::int32_t* at = out + block * block_keys;
    for (int h = 0; h < heads; ++h) std::fill_n(at + h * out_stride, block_keys, 0);
    for (index_t step = 0; step < words * fields; ++step) {
      decode_word(bits, codes + (block * words + step / fields) * word_bytes,
                  static_cast<int>(step % fields), levels, level);
      for (int h = 0; h < heads; ++h) {
        const std::int8_t* q = x + h * x_stride + 4 * step;
        for (int k = 0; k < block_keys; ++k) {
          const std::uint8_t* l = level + 4 * k;
          at[h * out_stride + k] += l[0] * q[0] + l[1] * q[1] + l[2] * q[2] + l[3] * q[3];
        }
      }
    }
  }
}

inline void dot_codes(int bits, const void* const* rows, index_t count, index_t /*upcoming*/,
                      index_t words, const std::uint8_t* levels, const std::int8_t* x,
                      index_t x_stride, int heads, std::int32_t* out, index_t out_stride) noexcept {
  const int fields = 8 / bits;
  for (index_t i = 0; i < count; ++i) {
    const auto* codes = static_cast<const std::uint8_t*>(rows[i]);
    for (int h = 0; h < heads; ++h) out[h * out_stride + i] = 0;
    for (index_t at = 0; at < 4 * words; ++at)
      for (int field = 0; field < fields; ++field) {
        const int level = field_level(bits, codes[at], field, levels);
        const index_t dim = 4 * (at / 4 * fields + field) + at % 4;
        for (int h = 0; h < heads; ++h) out[h * out_stride + i] += level * x[h * x_stride + dim];
      }
  }
}

inline void scale_sums(const std::int32_t* sums, const std::uint16_t* factors, index_t count,
                       std::int32_t times, std::int32_t plus, float step, float offset,
                       float* out) noexcept {
  for (index_t i = 0; i < count; ++i) {
    const float scaled = step * static_cast<float>(times * sums[i] + plus);
    out[i] = f16_to_float(factors[i]) * scaled;
  }
  // Stored in between, so that no compiler fuses product and sum where the CPU could.
  asm volatile("" ::: "memory");
  for (index_t i = 0; i < count; ++i) out[i] += offset;
}

inline index_t not_below(const float* x, index_t count, float threshold, row_t* out) noexcept {
  index_t found = 0;
  for (index_t i = 0; i < count; ++i) {
    out[found] = static_cast<row_t>(i);
    found += x[i] < threshold ? 0 : 1;
  }
  return found;
}

inline void random_blocks(const std::uint32_t* stream, std::uint64_t first, index_t count,
                          std::uint64_t* out) noexcept {
  for (index_t i = 0; i < count; ++i) {
    const std::uint64_t number = first + static_cast<std::uint64_t>(i);
    const auto four = philox4x32({static_cast<std::uint32_t>(number),
                                  static_cast<std::uint32_t>(number >> 32), stream[2], stream[3]},
                                 {stream[0], stream[1]});
    out[2 * i] = four[0] | std::uint64_t{four[1]} << 32;
    out[2 * i + 1] = four[2] | std::uint64_t{four[3]} << 32;
  }
}

inline void count_reaching(const std::uint16_t* x, index_t count, std::uint16_t first,
                           index_t* out) noexcept {
  std::fill_n(out, 5, index_t{0});
  for (index_t i = 0; i < count; ++i) {
    for (int j = 0; j < 4; ++j) out[j] += x[i] >= first + j ? 1 : 0;
    out[4] += x[i] == 0xFFFFU ? 1 : 0;
  }
}

inline void mark_reaching(const std::uint16_t* x, index_t count, std::uint16_t threshold,
                          std::uint64_t* above, std::uint64_t* equal) noexcept {
  for (index_t i = 0; i < count; i += 64) {
    std::uint64_t more = 0, same = 0;
    for (index_t k = 0; k < 64 && i + k < count; ++k) {
      more |= std::uint64_t{x[i + k] > threshold} << k;
      same |= std::uint64_t{x[i + k] == threshold} << k;
    }
    above[i / 64] = more;
    equal[i / 64] = same;
  }
}

inline void match_signs(const std::uint64_t* signatures, index_t count, int words,
                        const std::uint64_t* query, std::uint16_t* out) noexcept {
  for (index_t i = 0; i < count; ++i) {
    int different = 0;
    for (int w = 0; w < words; ++w)
      different += std::popcount(signatures[i * words + w] ^ query[w]);
    out[i] = static_cast<std::uint16_t>(1 + 64 * words - different);
  }
}

inline void match_halves(const std::uint64_t* words, index_t count, std::uint32_t query,
                         std::uint16_t* out) noexcept {
  for (index_t i = 0; i < count; ++i) {
    const auto half = static_cast<std::uint32_t>(words[i / 2] >> (i % 2 * 32));
    out[i] = static_cast<std::uint16_t>(33 - std::popcount(half ^ query));
  }
}

}  // namespace vattn::kernels::scalar
