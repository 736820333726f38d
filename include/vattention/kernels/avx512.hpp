// SPDX-License-Identifier: Apache-2.0
/// @file
/// The AVX-512 row of kernels: rows of a cache as floats, and their dot products. The rest of the row is
/// in avx512_sum.hpp, avx512_scan.hpp and avx512_array.hpp; contracts in kernels.hpp.
///
/// Rows are converted 32 elements, a "chunk", at a time into two registers. For bfloat16 these hold
/// the even and the odd elements (a shift and a mask, no shuffle), so dot products put the queries
/// in the same order first and sums put their result back into order last.
///
/// Each kernel ends with vzeroupper: g++ adds it by itself from -O2 on only, and without it the SSE
/// code of the rest of the program runs several times slower.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/prefetch.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Elements converted together; floats of all heads' queries kept in chunk order on the stack; rows
/// of a dot block.
inline constexpr index_t chunk = 32, query_floats = 8192, dot_block = 16;
/// Heads of a tile of dot products.
inline constexpr int tile_heads = 4;

/// The two registers of a chunk.
struct halves {
  __m512 a, b;
};

/// The low `count` lanes of a chunk, of a register; none if it is negative.
VATTN_AVX512 VATTN_ALWAYS_INLINE __mmask32 chunk_mask(index_t count) noexcept {
  if (count >= chunk) return ~__mmask32{0};
  return count <= 0 ? __mmask32{0} : static_cast<__mmask32>((1u << count) - 1u);
}
VATTN_AVX512 VATTN_ALWAYS_INLINE __mmask16 low_mask(index_t count) noexcept {
  return count >= 16 ? static_cast<__mmask16>(0xffff) : static_cast<__mmask16>((1u << count) - 1u);
}

/// Stands for the mask of a whole chunk: a load without a mask takes less.
struct all_lanes {};

VATTN_AVX512 VATTN_ALWAYS_INLINE halves load_floats(const void* at, __mmask32 mask) noexcept {
  return {
      _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), at),
      _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), static_cast<const char*>(at) + 64)};
}
VATTN_AVX512 VATTN_ALWAYS_INLINE halves load_floats(const void* at, all_lanes) noexcept {
  return {_mm512_loadu_ps(at), _mm512_loadu_ps(static_cast<const char*>(at) + 64)};
}
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i load_words(const void* at, __mmask32 mask) noexcept {
  return _mm512_maskz_loadu_epi16(mask, at);
}
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i load_words(const void* at, all_lanes) noexcept {
  return _mm512_loadu_si512(at);
}

/// A block of q8_0, whole or, with an empty mask, not read and 0.
VATTN_AVX512 VATTN_ALWAYS_INLINE halves load_block(const char* at, __mmask32 mask) noexcept {
  const __m128i half = _mm_maskz_loadu_epi16(static_cast<__mmask8>(mask & 1u), at);
  const __m512 scale = _mm512_cvtph_ps(_mm256_broadcastw_epi16(half));
  const __m256i v = _mm256_maskz_loadu_epi8(mask, at + 2);
  const __m512i a = _mm512_cvtepi8_epi32(_mm256_castsi256_si128(v));
  const __m512i b = _mm512_cvtepi8_epi32(_mm256_extracti128_si256(v, 1));
  return {_mm512_mul_ps(scale, _mm512_cvtepi32_ps(a)), _mm512_mul_ps(scale, _mm512_cvtepi32_ps(b))};
}
VATTN_AVX512 VATTN_ALWAYS_INLINE halves load_block(const char* at, all_lanes) noexcept {
  return load_block(at, ~__mmask32{0});
}

/// A chunk of a row from element j; lanes off the mask are 0 and not read.
template <element Type, class Mask>
VATTN_AVX512 VATTN_ALWAYS_INLINE halves load_chunk(const char* row, index_t j, Mask mask) noexcept {
  const char* at = row + row_bytes(Type, j);
  if constexpr (Type == element::q8_0) {
    return load_block(at, mask);
  } else if constexpr (Type == element::f32) {
    return load_floats(at, mask);
  } else {
    const __m512i v = load_words(at, mask);
    if constexpr (Type == element::bf16) {
      const __m512i high = _mm512_set1_epi32(static_cast<int>(0xffff0000u));
      return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)),
              _mm512_castsi512_ps(_mm512_and_si512(v, high))};
    } else {
      return {_mm512_cvtph_ps(_mm512_castsi512_si256(v)),
              _mm512_cvtph_ps(_mm512_extracti64x4_epi64(v, 1))};
    }
  }
}

/// Floats in memory order to the order of a chunk, and back.
template <element Type>
VATTN_AVX512 VATTN_ALWAYS_INLINE halves to_chunk_order(halves v) noexcept {
  if constexpr (Type != element::bf16) return v;
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  const __m512i odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
  return {_mm512_permutex2var_ps(v.a, even, v.b), _mm512_permutex2var_ps(v.a, odd, v.b)};
}
template <element Type>
VATTN_AVX512 VATTN_ALWAYS_INLINE halves to_memory_order(halves v) noexcept {
  if constexpr (Type != element::bf16) return v;
  const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
  return {_mm512_permutex2var_ps(v.a, low, v.b), _mm512_permutex2var_ps(v.a, high, v.b)};
}

/// Sums of four vectors inside each 128-bit lane, side by side.
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512 sum_lanes(const __m512* v) noexcept {
  const __m512 ab = _mm512_add_ps(_mm512_unpacklo_ps(v[0], v[1]), _mm512_unpackhi_ps(v[0], v[1]));
  const __m512 cd = _mm512_add_ps(_mm512_unpacklo_ps(v[2], v[3]), _mm512_unpackhi_ps(v[2], v[3]));
  return _mm512_add_ps(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
}

/// Lane l of the result is the sum of the four 128-bit lanes of v[l].
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512 sum_across(const __m512* v) noexcept {
  const __m512 ab =
      _mm512_add_ps(_mm512_shuffle_f32x4(v[0], v[1], 0x44), _mm512_shuffle_f32x4(v[0], v[1], 0xee));
  const __m512 cd =
      _mm512_add_ps(_mm512_shuffle_f32x4(v[2], v[3], 0x44), _mm512_shuffle_f32x4(v[2], v[3], 0xee));
  return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
}

/// One chunk of four rows times that of `Heads` queries, one behind the other: sum[4 h + k] += row k *
/// query h.
template <element Type, int Heads, class Mask>
VATTN_AVX512 VATTN_ALWAYS_INLINE void dot_chunk(const char* const* row, index_t j, Mask mask,
                                                const float* x, __m512* sum) noexcept {
  halves v[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) v[k] = load_chunk<Type>(row[k], j, mask);
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h, x += chunk) {
    const __m512 a = _mm512_load_ps(x), b = _mm512_load_ps(x + 16);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[4 * h + k] = _mm512_fmadd_ps(v[k].a, a, sum[4 * h + k]);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[4 * h + k] = _mm512_fmadd_ps(v[k].b, b, sum[4 * h + k]);
  }
}

/// What all tiles of a dot product pass share: elements [first, first + size) of the rows, and the
/// queries in tile order, see `arrange_queries`, `slice` floats each.
struct dot_pass {
  index_t first, size;
  const float* x;
  index_t slice;
  float* out;
  index_t out_stride;
};

/// Four rows times `Heads` queries; quad[h] holds, in each 128-bit lane, parts of the four
/// products. Asks for the rows of `next`, chunk by chunk.
template <element Type, int Heads>
VATTN_AVX512 VATTN_ALWAYS_INLINE void dot_quad(const dot_pass& p, const void* const* rows,
                                               index_t count, const float* x, rows_share next,
                                               __m512* quad) noexcept {
  const char* row[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k) {
    row[k] = static_cast<const char*>(rows[k < count ? k : count - 1]) + row_bytes(Type, p.first);
  }
  __m512 sum[std::size_t{4 * Heads}];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_ps();
  index_t j = 0;
  for (; j + chunk <= p.size; j += chunk, x += tile_heads * chunk) {
    next.ask();
    dot_chunk<Type, Heads>(row, j, all_lanes{}, x, sum);
  }
  if (j < p.size) dot_chunk<Type, Heads>(row, j, chunk_mask(p.size - j), x, sum);
  next.ask_rest();
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h) quad[h] = sum_lanes(sum + 4 * h);
}

/// The 16 / Heads products of head g among those of `Heads` heads.
template <int Heads>
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512 dots_of(__m512 v, int g) noexcept {
  if constexpr (Heads == 1) return v;
  if (Heads == 2) return g == 0 ? v : _mm512_shuffle_f32x4(v, v, 0xee);
  return g == 0   ? v
         : g == 1 ? _mm512_shuffle_f32x4(v, v, 0x55)
         : g == 2 ? _mm512_shuffle_f32x4(v, v, 0xaa)
                  : _mm512_shuffle_f32x4(v, v, 0xff);
}

/// Stores or adds the products of `used` heads with up to 16 / Heads rows from row i on.
template <int Heads>
VATTN_AVX512 VATTN_ALWAYS_INLINE void store_dots(const dot_pass& p, __m512 v, int h, int used,
                                                 index_t i, index_t count) noexcept {
  const __mmask16 mask = low_mask(count);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    if (g >= used) continue;
    float* out = p.out + (h + g) * p.out_stride + i;
    __m512 dot = dots_of<Heads>(v, g);
    if (p.first > 0) dot = _mm512_add_ps(dot, _mm512_maskz_loadu_ps(mask, out));
    _mm512_mask_storeu_ps(out, mask, dot);
  }
}

/// Rows [i, i + count) with count <= 16 times `Heads` queries from head h on, of which `used`
/// exist. Of `tiles` such tiles for the same rows each asks for a part of the rows ahead.
template <element Type, int Heads>
VATTN_AVX512 void dot_tile(const dot_pass& p, const void* const* rows, index_t i, index_t count,
                           int h, int used, const rows_ahead& next, unsigned tiles) noexcept {
  constexpr index_t keys = 16 / Heads;
  const index_t begin = row_bytes(Type, p.first), end = row_bytes(Type, p.first + p.size);
  for (index_t k = 0; k < count; k += keys) {
    __m512 quad[4], mixed[4];
    VATTN_UNROLL
    for (index_t q = 0; q < keys; q += 4) {
      const bool due =
          static_cast<unsigned>(k + q) / 4 % tiles == static_cast<unsigned>(h / tile_heads);
      rows_share ask(next, i + k + q, due ? 4 : 0, begin, end);
      // More heads leave no registers for it in between.
      if (Heads > 1) ask.ask_rest();
      const index_t at = std::min(k + q, count - 1);
      dot_quad<Type, Heads>(p, rows + at, count - at, p.x + h * p.slice, ask, quad + q / 4 * Heads);
    }
    VATTN_UNROLL
    for (int l = 0; l < 4; ++l) mixed[l] = quad[l % (4 / Heads) * Heads + l / (4 / Heads)];
    store_dots<Heads>(p, sum_across(mixed), h, used, i + k, std::min(keys, count - k));
  }
}

/// All heads of one pass, 16 rows at a time.
template <element Type>
VATTN_AVX512 void dot_blocks(const dot_pass& p, const void* const* rows, index_t count,
                             index_t upcoming, int heads) noexcept {
  const rows_ahead next(rows, count + upcoming, active_plan().rows_ahead);
  const auto tiles = static_cast<unsigned>((heads + tile_heads - 1) / tile_heads);
  for (index_t i = 0; i < count; i += dot_block) {
    const index_t size = std::min(dot_block, count - i);
    for (int h = 0; h < heads; h += tile_heads) {
      const int left = heads - h;
      if (left == 1) {
        dot_tile<Type, 1>(p, rows + i, i, size, h, 1, next, tiles);
      } else if (left == 2) {
        dot_tile<Type, 2>(p, rows + i, i, size, h, 2, next, tiles);
      } else {
        dot_tile<Type, 4>(p, rows + i, i, size, h, std::min(left, 4), next, tiles);
      }
    }
  }
}

/// `size` elements of the queries in tile order: the tiles of four heads one after the other, `slice`
/// floats a head; in a tile chunk after chunk, of a chunk head after head. Zeros up to whole chunks and tiles.
template <element Type>
VATTN_AVX512 void arrange_queries(const float* x, index_t x_stride, int heads, index_t size,
                                  float* out, index_t slice) noexcept {
  for (int h = 0; h < (heads + 3) / 4 * 4; ++h) {
    float* to = out + h / tile_heads * tile_heads * slice + h % tile_heads * chunk;
    for (index_t j = 0; j < size; j += chunk, to += tile_heads * chunk) {
      const __mmask32 mask = h < heads ? chunk_mask(size - j) : 0;
      const float* at = x + std::min(h, heads - 1) * x_stride + j;
      const halves v = to_chunk_order<Type>(load_floats(at, mask));
      _mm512_store_ps(to, v.a);
      _mm512_store_ps(to + 16, v.b);
    }
  }
}

template <element Type>
VATTN_AVX512 void dot_typed(const void* const* rows, index_t count, index_t upcoming, index_t dim,
                            const float* x, index_t x_stride, int heads, float* out,
                            index_t out_stride) noexcept {
  alignas(64) float arranged[query_floats];
  constexpr int most = query_floats / chunk;
  for (int h = 0; h < heads; h += most) {
    const int group = std::min(heads - h, most);
    const index_t room = query_floats / ((group + 3) / 4 * 4) / chunk * chunk;
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

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512

#endif  // VATTN_X86_KERNELS
