// SPDX-License-Identifier: Apache-2.0
/// @file
/// The AVX2 row of kernels (with FMA and F16C): rows of a cache as floats, and their dot products. The
/// rest of the row is in avx2_sum.hpp, avx2_scan.hpp and avx2_array.hpp; contracts in kernels.hpp.
///
/// Built like the AVX-512 row with half the register: 16 elements, a "chunk", at a time, for
/// bfloat16 the even and the odd ones apart, and vzeroupper at the end of each kernel.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/prefetch.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

/// Elements converted together; floats of all heads' queries kept in chunk order on the stack; rows
/// of a dot block.
inline constexpr index_t chunk = 16, query_floats = 8192, dot_block = 16;

/// The two registers of a chunk.
struct halves {
  __m256 a, b;
};

/// Eight int8 as floats.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256 load_bytes(const char* at) noexcept {
  const auto* bytes = static_cast<const __m128i*>(static_cast<const void*>(at));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(bytes)));
}

/// A chunk of a row from element j: of q8_0 half a block, with its scale.
template <element Type>
VATTN_AVX2 VATTN_ALWAYS_INLINE halves load_chunk(const char* row, index_t j) noexcept {
  const char* at = row + row_bytes(Type, j);
  if constexpr (Type == element::q8_0) {
    std::int16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    const __m256 scale = _mm256_cvtph_ps(_mm_set1_epi16(bits));
    at += 2 + (j & 31);
    return {_mm256_mul_ps(scale, load_bytes(at)), _mm256_mul_ps(scale, load_bytes(at + 8))};
  } else if constexpr (Type == element::f32) {
    const auto* floats = static_cast<const float*>(static_cast<const void*>(at));
    return {_mm256_loadu_ps(floats), _mm256_loadu_ps(floats + 8)};
  } else if constexpr (Type == element::bf16) {
    const auto* words = static_cast<const __m256i*>(static_cast<const void*>(at));
    const __m256i v = _mm256_loadu_si256(words);
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(v, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(v, high))};
  } else {
    const auto* words = static_cast<const __m128i*>(static_cast<const void*>(at));
    return {_mm256_cvtph_ps(_mm_loadu_si128(words)), _mm256_cvtph_ps(_mm_loadu_si128(words + 1))};
  }
}

/// The first `count` elements of a chunk, zeros behind them; reads no byte more. Chunks of q8_0 are whole.
template <element Type>
VATTN_AVX2 VATTN_ALWAYS_INLINE halves load_part(const char* row, index_t j,
                                                index_t count) noexcept {
  if constexpr (Type == element::q8_0) {
    return load_chunk<Type>(row, j);
  } else {
    if (count >= chunk) return load_chunk<Type>(row, j);
    alignas(32) char part[std::size_t{row_bytes(Type, chunk)}] = {};
    std::memcpy(part, row + row_bytes(Type, j), static_cast<std::size_t>(row_bytes(Type, count)));
    return load_chunk<Type>(part, 0);
  }
}

/// Floats in memory order to the order of a chunk, and back.
template <element Type>
VATTN_AVX2 VATTN_ALWAYS_INLINE halves to_chunk_order(halves v) noexcept {
  if constexpr (Type != element::bf16) return v;
  const __m256i deal = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
  const __m256 a = _mm256_permutevar8x32_ps(v.a, deal), b = _mm256_permutevar8x32_ps(v.b, deal);
  return {_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31)};
}
template <element Type>
VATTN_AVX2 VATTN_ALWAYS_INLINE halves to_memory_order(halves v) noexcept {
  if constexpr (Type != element::bf16) return v;
  const __m256 low = _mm256_unpacklo_ps(v.a, v.b), high = _mm256_unpackhi_ps(v.a, v.b);
  return {_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)};
}

/// Sums of four vectors, side by side.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m128 sum_four(const __m256* v) noexcept {
  const __m256 ab = _mm256_hadd_ps(v[0], v[1]), cd = _mm256_hadd_ps(v[2], v[3]);
  const __m256 all = _mm256_hadd_ps(ab, cd);
  return _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
}

/// One chunk of four rows times that of `Heads` queries: sum[4 h + k] += row k * query h.
template <element Type, int Heads>
VATTN_AVX2 VATTN_ALWAYS_INLINE void dot_chunk(const char* const* row, index_t j, index_t count,
                                              const float* x, index_t x_stride,
                                              __m256* sum) noexcept {
  halves v[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) v[k] = load_part<Type>(row[k], j, count);
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h) {
    const __m256 a = _mm256_load_ps(x + h * x_stride), b = _mm256_load_ps(x + h * x_stride + 8);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[4 * h + k] = _mm256_fmadd_ps(v[k].a, a, sum[4 * h + k]);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[4 * h + k] = _mm256_fmadd_ps(v[k].b, b, sum[4 * h + k]);
  }
}

/// What all tiles of a dot product pass share: elements [first, first + size) of the rows, and the
/// queries in chunk order.
struct dot_pass {
  index_t first, size;
  const float* x;
  index_t x_stride;
  float* out;
  index_t out_stride;
};

/// Rows [i, i + count) with count <= 4 times `Heads` queries from head h on.
template <element Type, int Heads>
VATTN_AVX2 VATTN_ALWAYS_INLINE void dot_quad(const dot_pass& p, const void* const* rows, index_t i,
                                             index_t count, int h) noexcept {
  const char* row[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k) {
    row[k] = static_cast<const char*>(rows[k < count ? k : count - 1]);
  }
  __m256 sum[std::size_t{4 * Heads}];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm256_setzero_ps();
  const float* x = p.x + h * p.x_stride;
  index_t j = 0;
  for (; j + chunk <= p.size; j += chunk) {
    dot_chunk<Type, Heads>(row, p.first + j, chunk, x + j, p.x_stride, sum);
  }
  if (j < p.size) dot_chunk<Type, Heads>(row, p.first + j, p.size - j, x + j, p.x_stride, sum);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    alignas(16) float dots[4];
    _mm_store_ps(dots, sum_four(sum + 4 * g));
    float* out = p.out + (h + g) * p.out_stride + i;
    for (index_t k = 0; k < count; ++k) out[k] = p.first > 0 ? out[k] + dots[k] : dots[k];
  }
}

/// Rows [i, i + count) with count <= 16 times `Heads` queries from head h on. Of `tiles` such tiles for the
/// same rows each asks for a part of the rows ahead.
template <element Type, int Heads>
VATTN_AVX2 void dot_tile(const dot_pass& p, const void* const* rows, index_t i, index_t count,
                         int h, const rows_ahead& next, index_t tiles) noexcept {
  const index_t begin = row_bytes(Type, p.first), end = row_bytes(Type, p.first + p.size);
  for (index_t k = 0; k < count; k += 4) {
    if (k / 4 % tiles == h / 2)
      for (index_t r = i + k; r < i + k + 4; ++r) next.ask(r, begin, end);
    dot_quad<Type, Heads>(p, rows + k, i + k, std::min(count - k, index_t{4}), h);
  }
}

/// All heads of one pass, 16 rows at a time.
template <element Type>
VATTN_AVX2 void dot_blocks(const dot_pass& p, const void* const* rows, index_t count,
                           index_t upcoming, int heads) noexcept {
  const rows_ahead next(rows, count + upcoming, active_plan().rows_ahead);
  const index_t tiles = (heads + 1) / 2;
  for (index_t i = 0; i < count; i += dot_block) {
    const index_t size = std::min(dot_block, count - i);
    for (int h = 0; h < heads; h += 2) {
      if (heads - h == 1) {
        dot_tile<Type, 1>(p, rows + i, i, size, h, next, tiles);
      } else {
        dot_tile<Type, 2>(p, rows + i, i, size, h, next, tiles);
      }
    }
  }
}

/// `size` elements of the queries in chunk order, zeros up to whole chunks.
template <element Type>
VATTN_AVX2 void arrange_queries(const float* x, index_t x_stride, int heads, index_t size,
                                float* out, index_t out_stride) noexcept {
  for (int h = 0; h < heads; ++h) {
    for (index_t j = 0; j < size; j += chunk) {
      const char* row = static_cast<const char*>(static_cast<const void*>(x + h * x_stride));
      const halves v = to_chunk_order<Type>(load_part<element::f32>(row, j, size - j));
      _mm256_store_ps(out + h * out_stride + j, v.a);
      _mm256_store_ps(out + h * out_stride + j + 8, v.b);
    }
  }
}

template <element Type>
VATTN_AVX2 void dot_typed(const void* const* rows, index_t count, index_t upcoming, index_t dim,
                          const float* x, index_t x_stride, int heads, float* out,
                          index_t out_stride) noexcept {
  alignas(64) float arranged[query_floats];
  constexpr int most = query_floats / chunk;
  for (int h = 0; h < heads; h += most) {
    const int group = std::min(heads - h, most);
    const index_t room = query_floats / group / chunk * chunk;
    const index_t slice = std::min(room, (dim + chunk - 1) / chunk * chunk);
    for (index_t first = 0; first < dim; first += slice) {
      const index_t size = std::min(slice, dim - first);
      arrange_queries<Type>(x + h * x_stride + first, x_stride, group, size, arranged, slice);
      dot_blocks<Type>({first, size, arranged, slice, out + h * out_stride, out_stride}, rows,
                       count, upcoming, group);
    }
  }
  _mm256_zeroupper();
}

inline void dot_rows(element type, const void* const* rows, index_t count, index_t upcoming,
                     index_t dim, const float* x, index_t x_stride, int heads, float* out,
                     index_t out_stride) noexcept {
  if (type == element::bf16) {
    dot_typed<element::bf16>(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
  } else if (type == element::f16) {
    dot_typed<element::f16>(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
  } else if (type == element::q8_0) {
    dot_typed<element::q8_0>(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
  } else {
    dot_typed<element::f32>(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
  }
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
