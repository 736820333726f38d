// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dot products by the bfloat16 instructions of AVX-512, for CPUs that have them; contracts in
/// kernels.hpp.
///
/// One instruction multiplies and adds a whole chunk, where floats take two conversions and two
/// additions. It takes what is below 2^-126 for 0, which the error bound does not allow. So it serves
/// queries and rows whose elements are 0 or larger than 2^-50: their products are multiples of 2^-114,
/// and so is every sum of them, so that nothing is lost. Four rows at a time are tested while they are
/// multiplied, and done again in floats where the test fails.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "vattention/kernels/avx512.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")
#define VATTN_AVX512_BF16 \
  VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Elements of all heads' queries that are kept as bfloat16 on the stack, and how many heads it takes to
/// be worth it.
inline constexpr index_t query_halves = 8192;
inline constexpr int bf16_heads = 3;

/// Queries as bfloat16, tiles as those of `arrange_queries`, of a chunk the elements in the order of memory.
/// False, and of no use, if an element is no bfloat16, or neither 0 nor larger than 2^-50.
VATTN_AVX512 inline bool pack_queries(const float* x, index_t x_stride, int heads, index_t size,
                                      std::uint16_t* out, index_t slice) noexcept {
  const __m512i least = _mm512_set1_epi32((127 - 50) << 24), one = _mm512_set1_epi32(1);
  unsigned wrong = 0;
  for (int h = 0; h < (heads + 3) / 4 * 4; ++h) {
    std::uint16_t* to = out + h / tile_heads * tile_heads * slice + h % tile_heads * chunk;
    for (index_t j = 0; j < size; j += chunk, to += tile_heads * chunk) {
      const __mmask32 mask = h < heads ? chunk_mask(size - j) : 0;
      const halves v = load_floats(x + std::min(h, heads - 1) * x_stride + j, mask);
      const __m512i part[] = {_mm512_castps_si512(v.a), _mm512_castps_si512(v.b)};
      VATTN_UNROLL
      for (int i = 0; i < 2; ++i) {
        const __m512i twice = _mm512_sub_epi32(_mm512_add_epi32(part[i], part[i]), one);
        wrong |= _mm512_cmple_epu32_mask(twice, least);
        wrong |= _mm512_test_epi32_mask(part[i], _mm512_set1_epi32(0xffff));
        const __m256i high = _mm512_cvtepi32_epi16(_mm512_srli_epi32(part[i], 16));
        _mm256_store_si256(static_cast<__m256i*>(static_cast<void*>(to + 16 * i)), high);
      }
    }
  }
  return wrong == 0;
}

/// One chunk of four rows times four queries: sum[4 h + k] += row k * query h. Lanes of `least` keep
/// the smallest 2 |element| - 1 as an unsigned number, which makes 0 the largest.
template <class Mask>
VATTN_AVX512_BF16 VATTN_ALWAYS_INLINE void bf16_chunk(const char* const* row, index_t j, Mask mask,
                                                      const std::uint16_t* x, __m512* sum,
                                                      __m512i& least) noexcept {
  __m512i v[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) {
    v[k] = load_words(row[k] + 2 * j, mask);
    const __m512i twice = _mm512_add_epi16(v[k], v[k]);
    least = _mm512_min_epu16(least, _mm512_add_epi16(twice, _mm512_set1_epi16(-1)));
  }
  VATTN_UNROLL
  for (int h = 0; h < tile_heads; ++h) {
    const __m512i q = _mm512_load_si512(x + h * chunk);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k)
      sum[4 * h + k] = _mm512_dpbf16_ps(sum[4 * h + k], reinterpret_cast<__m512bh>(v[k]),
                                        reinterpret_cast<__m512bh>(q));
  }
}

/// As `dot_quad` for four heads; false, and of no use, if an element is neither 0 nor large enough.
VATTN_AVX512_BF16 VATTN_ALWAYS_INLINE bool bf16_quad(const void* const* rows, index_t count,
                                                     index_t size, const std::uint16_t* x,
                                                     __m512* quad) noexcept {
  const char* row[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k)
    row[k] = static_cast<const char*>(rows[k < count ? k : count - 1]);
  __m512 sum[16];
  __m512i least = _mm512_set1_epi16(-1);
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_ps();
  index_t j = 0;
  for (; j + chunk <= size; j += chunk, x += tile_heads * chunk)
    bf16_chunk(row, j, all_lanes{}, x, sum, least);
  if (j < size) bf16_chunk(row, j, chunk_mask(size - j), x, sum, least);
  VATTN_UNROLL
  for (int h = 0; h < tile_heads; ++h) quad[h] = sum_lanes(sum + 4 * h);
  // 2^-50 doubled as an integer: an exponent of 127 - 50 and no fraction.
  return _mm512_cmple_epu16_mask(least, _mm512_set1_epi16((127 - 50) << 8)) == 0;
}

/// The same in floats.
VATTN_AVX512 VATTN_NOINLINE inline void float_quad(const dot_pass& p, const void* const* rows,
                                                   index_t count, const float* x,
                                                   float* quad) noexcept {
  __m512 v[4];
  dot_quad<element::bf16, 4>(p, rows, count, x, v);
  VATTN_UNROLL
  for (int h = 0; h < 4; ++h) _mm512_storeu_ps(quad + 16 * h, v[h]);
}

/// Rows [i, i + count) with count <= 16 times four queries from head h on, of which `used` exist. Of
/// `tiles` such tiles for the same rows each asks for a part of the rows ahead.
VATTN_AVX512_BF16 inline void bf16_tile(const dot_pass& p, const std::uint16_t* x,
                                        const void* const* rows, index_t i, index_t count, int h,
                                        int used, const rows_ahead& next, unsigned tiles) noexcept {
  const index_t end = row_bytes(element::bf16, p.size);
  for (index_t k = 0; k < count; k += 4) {
    if (static_cast<unsigned>(k) / 4 % tiles == static_cast<unsigned>(h / tile_heads))
      for (index_t r = i + k; r < i + k + 4; ++r) next.ask(r, 0, end);
    __m512 quad[4];
    if (!bf16_quad(rows + k, count - k, p.size, x + h * p.slice, quad)) {
      alignas(64) float again[64];
      float_quad(p, rows + k, count - k, p.x + h * p.slice, again);
      VATTN_UNROLL
      for (int g = 0; g < 4; ++g) quad[g] = _mm512_load_ps(again + 16 * g);
    }
    store_dots<4>(p, sum_across(quad), h, used, i + k, std::min(index_t{4}, count - k));
  }
}

/// `dot_rows` of bfloat16 rows if the queries are bfloat16 too; else false, and nothing is done.
VATTN_AVX512_BF16 inline bool dot_bf16(const void* const* rows, index_t count, index_t upcoming,
                                       index_t dim, const float* x, index_t x_stride, int heads,
                                       float* out, index_t out_stride) noexcept {
  alignas(64) std::uint16_t packed[query_halves];
  alignas(64) float floats[query_halves];
  const index_t slice = (dim + chunk - 1) / chunk * chunk;
  const auto tiles = static_cast<unsigned>((heads + tile_heads - 1) / tile_heads);
  if (tiles * tile_heads * slice > query_halves) return false;
  if (!pack_queries(x, x_stride, heads, dim, packed, slice)) return false;
  arrange_queries<element::bf16>(x, x_stride, heads, dim, floats, slice);
  const dot_pass p{0, dim, floats, slice, out, out_stride};
  const rows_ahead next(rows, count + upcoming, active_plan().rows_ahead);
  for (index_t i = 0; i < count; i += dot_block)
    for (int h = 0; h < heads; h += tile_heads)
      bf16_tile(p, packed, rows + i, i, std::min(dot_block, count - i), h,
                std::min(heads - h, tile_heads), next, tiles);
  _mm256_zeroupper();
  return true;
}

/// `dot_rows` that multiplies bfloat16 by bfloat16 where it can.
inline void dot_rows_bf16(element type, const void* const* rows, index_t count, index_t upcoming,
                          index_t dim, const float* x, index_t x_stride, int heads, float* out,
                          index_t out_stride) noexcept {
  if (type != element::bf16 || heads < bf16_heads ||
      !dot_bf16(rows, count, upcoming, dim, x, x_stride, heads, out, out_stride))
    dot_rows(type, rows, count, upcoming, dim, x, x_stride, heads, out, out_stride);
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512
#undef VATTN_AVX512_BF16

#endif  // VATTN_X86_KERNELS
