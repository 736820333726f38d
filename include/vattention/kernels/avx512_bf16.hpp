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

/// Lanes keep the smallest 2 |element| - 1 as an unsigned number, which makes 0 the largest.
VATTN_AVX512 VATTN_ALWAYS_INLINE void note_least(__m512i v, __m512i& least) noexcept {
  const __m512i twice = _mm512_add_epi16(v, v);
  least = _mm512_min_epu16(least, _mm512_add_epi16(twice, _mm512_set1_epi16(-1)));
}

/// One chunk of four rows times four queries: sum[4 h + k] += row k * query h.
template <bool Tested, class Mask>
VATTN_AVX512_BF16 VATTN_ALWAYS_INLINE void bf16_chunk(const char* const* row, index_t j, Mask mask,
                                                      const std::uint16_t* x, __m512* sum,
                                                      __m512i& least) noexcept {
  __m512i v[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) {
    v[k] = load_words(row[k] + 2 * j, mask);
    if (Tested) note_least(v[k], least);
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

/// Four rows times four queries: 128-bit lane h of `dots` holds the products of query h. If `Tested`, false
/// means that an element is neither 0 nor larger than 2^-50.
template <bool Tested>
VATTN_AVX512_BF16 VATTN_ALWAYS_INLINE bool bf16_quad(const char* const* row, index_t size,
                                                     const std::uint16_t* x, rows_share next,
                                                     __m512& dots) noexcept {
  __m512 sum[16], quad[4];
  __m512i least = _mm512_set1_epi16(-1);
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_ps();
  index_t j = 0;
  for (; j + chunk <= size; j += chunk, x += tile_heads * chunk) {
    next.ask();
    bf16_chunk<Tested>(row, j, all_lanes{}, x, sum, least);
  }
  if (j < size) bf16_chunk<Tested>(row, j, chunk_mask(size - j), x, sum, least);
  next.ask_rest();
  VATTN_UNROLL
  for (int h = 0; h < tile_heads; ++h) quad[h] = sum_lanes(sum + 4 * h);
  dots = sum_across(quad);
  // 2^-50 doubled as an integer: an exponent of 127 - 50 and no fraction.
  return !Tested || _mm512_cmple_epu16_mask(least, _mm512_set1_epi16((127 - 50) << 8)) == 0;
}

/// Stores the products of four queries from head h on, of which `used` exist, with rows i to i + 3, as far as
/// there are any.
VATTN_AVX512 VATTN_ALWAYS_INLINE void store_quad(const dot_pass& p, __m512 dots, int h, int used,
                                                 index_t i, index_t count) noexcept {
  if (used < tile_heads || count < 4) return store_dots<4>(p, dots, h, used, i, count);
  float* out = p.out + h * p.out_stride + i;
  _mm_storeu_ps(out, _mm512_castps512_ps128(dots));
  _mm_storeu_ps(out + p.out_stride, _mm512_extractf32x4_ps(dots, 1));
  _mm_storeu_ps(out + 2 * p.out_stride, _mm512_extractf32x4_ps(dots, 2));
  _mm_storeu_ps(out + 3 * p.out_stride, _mm512_extractf32x4_ps(dots, 3));
}

/// Rows i to i + 3, as far as there are any, times all queries, in floats.
VATTN_AVX512 VATTN_NOINLINE inline void float_quads(const dot_pass& p, const void* const* rows,
                                                    index_t i, index_t count, int heads) noexcept {
  for (int h = 0; h < heads; h += tile_heads) {
    __m512 quad[4];
    dot_quad<element::bf16, 4>(p, rows + i, count, p.x + h * p.slice, rows_share(), quad);
    store_dots<4>(p, sum_across(quad), h, std::min(heads - h, tile_heads), i, count);
  }
}

/// Rows i to i + 3, as far as there are any, times all queries.
VATTN_AVX512_BF16 VATTN_ALWAYS_INLINE void bf16_quads(const dot_pass& p, const std::uint16_t* x,
                                                      const void* const* rows, index_t i,
                                                      index_t count, int heads,
                                                      rows_share next) noexcept {
  const char* row[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k)
    row[k] = static_cast<const char*>(rows[i + (k < count ? k : count - 1)]);
  __m512 dots;
  if (!bf16_quad<true>(row, p.size, x, next, dots)) return float_quads(p, rows, i, count, heads);
  store_quad(p, dots, 0, std::min(heads, tile_heads), i, count);
  for (int h = tile_heads; h < heads; h += tile_heads) {
    bf16_quad<false>(row, p.size, x + h * p.slice, rows_share(), dots);
    store_quad(p, dots, h, std::min(heads - h, tile_heads), i, count);
  }
}

/// `dot_rows` of bfloat16 rows if the queries are bfloat16 too; else false, and nothing is done.
VATTN_AVX512_BF16 inline bool dot_bf16(const void* const* rows, index_t count, index_t upcoming,
                                       index_t dim, const float* x, index_t x_stride, int heads,
                                       float* out, index_t out_stride) noexcept {
  alignas(64) std::uint16_t packed[query_halves];
  alignas(64) float floats[query_halves];
  const index_t slice = (dim + chunk - 1) / chunk * chunk;
  if ((heads + tile_heads - 1) / tile_heads * tile_heads * slice > query_halves) return false;
  if (!pack_queries(x, x_stride, heads, dim, packed, slice)) return false;
  arrange_queries<element::bf16>(x, x_stride, heads, dim, floats, slice);
  const dot_pass p{0, dim, floats, slice, out, out_stride};
  const rows_ahead next(rows, count + upcoming, active_plan().rows_ahead);
  for (index_t i = 0; i < count; i += 4) {
    bf16_quads(p, packed, rows, i, std::min(index_t{4}, count - i), heads,
               rows_share(next, i, 4, 0, row_bytes(element::bf16, dim)));
  }
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
