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
  const void* const* rows;
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
VATTN_AVX512 VATTN_ALWAYS_INLINE void sum_row(const char* row, index_t j, const __mmask32* mask,
                                              const float* const* weight, index_t i,
                                              halves* sum) noexcept {
  halves v[std::size_t{Chunks}];
  VATTN_UNROLL
  for (int c = 0; c < Chunks; ++c) v[c] = load_chunk<Type>(row, j + c * chunk, mask[c]);
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
/// h on, of which `used` exist.
template <element Type, int Heads, int Chunks>
VATTN_AVX512 void sum_tile(const sum_pass& p, index_t j, int h, int used,
                           row_prefetch next) noexcept {
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
  for (index_t i = 0; i < p.count; ++i) {
    next.due_values<Type>(i, j, std::min(Chunks * chunk, p.dim - j));
    sum_row<Type, Heads, Chunks>(static_cast<const char*>(p.rows[i]), j, mask, weight, i, sum);
  }
  add_sums<Type, Heads, Chunks>(p, j, h, used, sum);
}

/// One block of rows, at most 16 accumulators at a time.
template <element Type>
VATTN_AVX512 void sum_heads(const sum_pass& p, int h, int left, row_prefetch next) noexcept {
  if (left >= 3) {
    const int used = std::min(left, 4);
    index_t j = 0;
    for (; j + chunk < p.dim; j += 2 * chunk) sum_tile<Type, 4, 2>(p, j, h, used, next);
    if (j < p.dim) sum_tile<Type, 4, 1>(p, j, h, used, next);
  } else if (left == 2) {
    for (index_t j = 0; j < p.dim; j += 4 * chunk) sum_tile<Type, 2, 4>(p, j, h, 2, next);
  } else {
    for (index_t j = 0; j < p.dim; j += 4 * chunk) sum_tile<Type, 1, 4>(p, j, h, 1, next);
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
VATTN_AVX512 void norm_tile(const sum_pass& p, float* norms, row_prefetch next) noexcept {
  for (index_t i = 0; i < p.count; i += 16) {
    __m512 quad[4];
    VATTN_UNROLL
    for (index_t q = 0; q < 4; ++q) {
      const index_t at = i + 4 * q;
      for (index_t r = at; r < std::min(at + 4, p.count); ++r) next.due_values<Type>(r, 0, p.dim);
      const index_t first = std::min(at, p.count - 1);
      quad[q] = norms_quad<Type>(p.rows + first, p.count - first, p.dim);
    }
    _mm512_mask_storeu_ps(norms + i, low_mask(p.count - i), sum_across(quad));
  }
}

template <element Type>
VATTN_AVX512 void sum_typed(sum_pass p, index_t upcoming, int heads, float* norms) noexcept {
  const prefetch_plan plan = active_plan();
  const void* const* const end = p.rows + p.count;
  const int passes = (heads + 3) / 4 + (norms != nullptr ? 1 : 0);
  for (; p.rows < end; p.rows += sum_block, p.weights += sum_block) {
    const index_t left = end - p.rows, known = left + upcoming;
    const index_t ahead = std::min(known, sum_block * plan.blocks_ahead);
    p.count = std::min(sum_block, left);
    row_prefetch next{p.rows + ahead, std::min(sum_block, known - ahead), 0, passes, plan.to_l1};
    if (norms != nullptr) {
      norm_tile<Type>(p, norms, next);
      norms += sum_block;
      ++next.wait;
    }
    for (int h = 0; h < heads; h += 4, ++next.wait) sum_heads<Type>(p, h, heads - h, next);
  }
  _mm256_zeroupper();
}

inline void sum_rows(element type, const void* const* rows, index_t count, index_t upcoming,
                     index_t dim, const float* weights, index_t weight_stride, int heads,
                     float* out, index_t out_stride, float* norms) noexcept {
  const sum_pass p{rows, count, dim, weights, weight_stride, out, out_stride};
  if (type == element::bf16) {
    sum_typed<element::bf16>(p, upcoming, heads, norms);
  } else if (type == element::f16) {
    sum_typed<element::f16>(p, upcoming, heads, norms);
  } else if (type == element::q8_0) {
    sum_typed<element::q8_0>(p, upcoming, heads, norms);
  } else {
    sum_typed<element::f32>(p, upcoming, heads, norms);
  }
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512

#endif  // VATTN_X86_KERNELS
