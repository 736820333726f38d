// SPDX-License-Identifier: Apache-2.0
/// @file
/// Weighted sums of rows and their norms, AVX-512 row of kernels; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>

#include "vattention/kernels/avx512.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Rows summed from zero before they are added to the output.
inline constexpr index_t sum_block = 32;

/// What all tiles of one block of at most 32 rows share in a weighted sum.
struct sum_pass {
  /// Rows of the block, and of the next one to ask for.
  const void *const *row, *const *ahead;
  /// Bytes of a row, and rows that a tile reads before it asks for one.
  index_t bytes, pace;
  bool to_l1;
  index_t count, dim;
  const float* weights;
  index_t weight_stride;
  float* out;
  index_t out_stride;
};

/// Adds the sums of one tile, `Chunks` chunks from element j of `used` heads, to the output.
template <element Type, int Heads, int Chunks>
VATTN_AVX512 VATTN_ALWAYS_INLINE void add_sums(const sum_pass& p, index_t j, int h, int used,
                                               const halves* sum) noexcept {
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    if (g >= used) continue;
    float* out = p.out + (h + g) * p.out_stride + j;
    VATTN_UNROLL
    for (int c = 0; c < Chunks; ++c, out += chunk) {
      const __mmask32 mask = chunk_mask(p.dim - j - c * chunk);
      const halves v = to_memory_order<Type>(sum[g * Chunks + c]), before = load_floats(out, mask);
      _mm512_mask_storeu_ps(out, static_cast<__mmask16>(mask), _mm512_add_ps(before.a, v.a));
      _mm512_mask_storeu_ps(out + 16, static_cast<__mmask16>(mask >> 16),
                            _mm512_add_ps(before.b, v.b));
    }
  }
}

/// One row of a tile: sum[g][c] += weight g * chunk c.
template <element Type, int Heads, int Chunks>
VATTN_AVX512 VATTN_ALWAYS_INLINE void sum_row(const char* row, const __mmask32* mask,
                                              const float* const* weight, index_t i,
                                              halves* sum) noexcept {
  halves v[std::size_t{Chunks}];
  VATTN_UNROLL
  for (int c = 0; c < Chunks; ++c) v[c] = load_chunk<Type>(row, c * chunk, mask[c]);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    const __m512 w = _mm512_set1_ps(weight[g][i]);
    VATTN_UNROLL
    for (int c = 0; c < Chunks; ++c) {
      sum[g * Chunks + c].a = _mm512_fmadd_ps(w, v[c].a, sum[g * Chunks + c].a);
      sum[g * Chunks + c].b = _mm512_fmadd_ps(w, v[c].b, sum[g * Chunks + c].b);
    }
  }
}

/// Sums a block of rows over `Chunks` chunks from element j for `Heads` (1, 2 or 4) heads from head
/// h on, of which `used` exist, and meanwhile asks for the rows from `next` on that lie ahead.
template <element Type, int Heads, int Chunks>
VATTN_AVX512 VATTN_NOINLINE void sum_tile(const sum_pass& p, index_t j, int h, int used,
                                          index_t next) noexcept {
  constexpr std::size_t accumulators{Heads * Chunks};
  halves sum[accumulators];
  __mmask32 mask[std::size_t{Chunks}];
  const float* weight[std::size_t{Heads}];
  VATTN_UNROLL
  for (auto& s : sum) s = {_mm512_setzero_ps(), _mm512_setzero_ps()};
  VATTN_UNROLL
  for (int c = 0; c < Chunks; ++c) mask[c] = chunk_mask(p.dim - j - c * chunk);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    weight[g] = p.weights + (h + (g < used ? g : 0)) * p.weight_stride;
  }
  const index_t skip = row_bytes(Type, j);
  for (index_t i = 0; i < p.count;) {
    if (next < sum_block) prefetch_lines(p.ahead[next++], p.bytes, p.to_l1);
    const index_t end = std::min(i + p.pace, p.count);
    for (; i < end; ++i)
      sum_row<Type, Heads, Chunks>(static_cast<const char*>(p.row[i]) + skip, mask, weight, i, sum);
  }
  add_sums<Type, Heads, Chunks>(p, j, h, used, sum);
}

/// One block of rows, at most 16 accumulators at a time. `next` counts the rows asked for.
template <element Type>
VATTN_AVX512 void sum_heads(const sum_pass& p, int h, int left, index_t& next) noexcept {
  const index_t share = sum_block / p.pace;
  if (left >= 3) {
    const int used = std::min(left, 4);
    index_t j = 0;
    for (; j + chunk < p.dim; j += 2 * chunk, next += share)
      sum_tile<Type, 4, 2>(p, j, h, used, next);
    if (j < p.dim) sum_tile<Type, 4, 1>(p, j, h, used, next);
  } else if (left == 2) {
    for (index_t j = 0; j < p.dim; j += 4 * chunk, next += share)
      sum_tile<Type, 2, 4>(p, j, h, 2, next);
  } else {
    for (index_t j = 0; j < p.dim; j += 4 * chunk, next += share)
      sum_tile<Type, 1, 4>(p, j, h, 1, next);
  }
}

/// Square norms of four rows; each 128-bit lane of the result holds parts of the four.
template <element Type>
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512 norms_quad(const void* const* rows, index_t count,
                                                   index_t dim) noexcept {
  const char* row[4];
  __m512 sum[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k) {
    row[k] = static_cast<const char*>(rows[k < count ? k : count - 1]);
    sum[k] = _mm512_setzero_ps();
  }
  for (index_t j = 0; j < dim; j += chunk) {
    const __mmask32 mask = chunk_mask(dim - j);
    halves v[4];
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) v[k] = load_chunk<Type>(row[k], j, mask);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[k] = _mm512_fmadd_ps(v[k].a, v[k].a, sum[k]);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) sum[k] = _mm512_fmadd_ps(v[k].b, v[k].b, sum[k]);
  }
  return sum_lanes(sum);
}

/// Square norms of one block of rows.
template <element Type>
VATTN_AVX512 void norm_tile(const sum_pass& p, float* norms) noexcept {
  for (index_t i = 0; i < p.count; i += 16) {
    __m512 quad[4];
    VATTN_UNROLL
    for (index_t q = 0; q < 4; ++q) {
      const index_t at = i + 4 * q;
      const index_t first = std::min(at, p.count - 1);
      quad[q] = norms_quad<Type>(p.row + first, p.count - first, p.dim);
    }
    _mm512_mask_storeu_ps(norms + i, low_mask(p.count - i), sum_across(quad));
  }
}

/// Tiles that read a block, see `sum_heads`.
inline index_t count_tiles(index_t dim, int heads) noexcept {
  const index_t narrow = (dim + 2 * chunk - 1) / (2 * chunk);
  const index_t wide = (dim + 4 * chunk - 1) / (4 * chunk);
  const int left = heads % 4;
  return heads / 4 * narrow + (left == 0 ? 0 : left == 3 ? narrow : wide);
}

template <element Type>
VATTN_AVX512 void sum_typed(sum_pass& p, const void* const* rows, index_t count, index_t upcoming,
                            int heads, float* norms) noexcept {
  const index_t tiles = count_tiles(p.dim, heads);
  const rows_ahead list(rows, count + upcoming, sum_block + (tiles > 1 ? 16 : 0));
  const void* edge[sum_block];
  p.bytes = row_bytes(Type, p.dim);
  p.pace = tiles > 3 ? 4 : tiles > 1 ? 2 : 1;
  p.to_l1 = list.to_l1();
  for (index_t i = 0; i < count; i += sum_block, p.weights += sum_block) {
    p.count = std::min(sum_block, count - i);
    p.row = rows + i;
    p.ahead = list.block<sum_block>(i, edge);
    if (norms != nullptr) norm_tile<Type>(p, norms + i);
    index_t next = 0;
    for (int h = 0; h < heads; h += 4) sum_heads<Type>(p, h, heads - h, next);
  }
  _mm256_zeroupper();
}

inline void sum_rows(element type, const void* const* rows, index_t count, index_t upcoming,
                     index_t dim, const float* weights, index_t weight_stride, int heads,
                     float* out, index_t out_stride, float* norms) noexcept {
  sum_pass p{rows, rows, 0, 1, false, count, dim, weights, weight_stride, out, out_stride};
  if (type == element::bf16) {
    sum_typed<element::bf16>(p, rows, count, upcoming, heads, norms);
  } else if (type == element::f16) {
    sum_typed<element::f16>(p, rows, count, upcoming, heads, norms);
  } else if (type == element::q8_0) {
    sum_typed<element::q8_0>(p, rows, count, upcoming, heads, norms);
  } else {
    sum_typed<element::f32>(p, rows, count, upcoming, heads, norms);
  }
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512

#endif  // VATTN_X86_KERNELS
