// SPDX-License-Identifier: Apache-2.0
/// @file
/// Weighted sums of rows and their norms, AVX2 row of kernels; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>

#include "vattention/kernels/avx2.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

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

/// Adds a chunk of sums to the output, as far as it exists.
template <element Type>
VATTN_AVX2 VATTN_ALWAYS_INLINE void add_sums(halves sum, float* out, index_t count) noexcept {
  const halves v = to_memory_order<Type>(sum);
  if (count >= chunk) {
    _mm256_storeu_ps(out, _mm256_add_ps(_mm256_loadu_ps(out), v.a));
    _mm256_storeu_ps(out + 8, _mm256_add_ps(_mm256_loadu_ps(out + 8), v.b));
    return;
  }
  alignas(32) float part[chunk];
  _mm256_store_ps(part, v.a);
  _mm256_store_ps(part + 8, v.b);
  for (index_t j = 0; j < count; ++j) out[j] += part[j];
}

/// Sums a block of rows over `Chunks` chunks from element j for `Heads` heads from head h.
template <element Type, int Heads, int Chunks>
VATTN_AVX2 void sum_tile(const sum_pass& p, index_t j, int h, const rows_ahead& next) noexcept {
  const index_t size = std::min(Chunks * chunk, p.dim - j);
  const index_t begin = row_bytes(Type, j), end = row_bytes(Type, j + size);
  const float* weights = p.weights + h * p.weight_stride;
  halves sum[std::size_t{Heads * Chunks}], v[std::size_t{Chunks}];
  VATTN_UNROLL
  for (auto& s : sum) s = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (index_t i = 0; i < p.count; ++i) {
    next.ask(i, begin, end);
    const char* row = static_cast<const char*>(p.rows[i]);
    VATTN_UNROLL
    for (int c = 0; c < Chunks; ++c) {
      v[c] = load_part<Type>(row, j + c * chunk, Chunks > 1 ? chunk : size);
    }
    VATTN_UNROLL
    for (int g = 0; g < Heads; ++g) {
      const __m256 w = _mm256_set1_ps(weights[g * p.weight_stride + i]);
      VATTN_UNROLL
      for (int c = 0; c < Chunks; ++c) {
        sum[g * Chunks + c].a = _mm256_fmadd_ps(w, v[c].a, sum[g * Chunks + c].a);
        sum[g * Chunks + c].b = _mm256_fmadd_ps(w, v[c].b, sum[g * Chunks + c].b);
      }
    }
  }
  VATTN_UNROLL
  for (int i = 0; i < Heads * Chunks; ++i) {
    const index_t at = j + i % Chunks * chunk;
    add_sums<Type>(sum[i], p.out + (h + i / Chunks) * p.out_stride + at, p.dim - at);
  }
}

/// All elements of one block of rows for `Heads` heads, eight accumulators at a time.
template <element Type, int Heads>
VATTN_AVX2 void sum_heads(const sum_pass& p, int h, const rows_ahead& next) noexcept {
  constexpr int most = 4 / Heads;
  index_t j = 0;
  for (; j + most * chunk <= p.dim; j += most * chunk) sum_tile<Type, Heads, most>(p, j, h, next);
  for (; j < p.dim; j += chunk) sum_tile<Type, Heads, 1>(p, j, h, next);
}

/// Square norms of one block of rows.
template <element Type>
VATTN_AVX2 void norm_tile(const sum_pass& p, float* norms) noexcept {
  for (index_t i = 0; i < p.count; ++i) {
    const char* row = static_cast<const char*>(p.rows[i]);
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};
    for (index_t j = 0; j < p.dim; j += chunk) {
      const halves v = load_part<Type>(row, j, p.dim - j);
      sum[0] = _mm256_fmadd_ps(v.a, v.a, sum[0]);
      sum[1] = _mm256_fmadd_ps(v.b, v.b, sum[1]);
    }
    sum[0] = _mm256_add_ps(sum[0], sum[1]);
    norms[i] = _mm_cvtss_f32(sum_four(sum));
  }
}

template <element Type>
VATTN_AVX2 void sum_typed(sum_pass p, index_t upcoming, int heads, float* norms) noexcept {
  const void* const* const end = p.rows + p.count;
  for (; p.rows < end; p.rows += sum_block, p.weights += sum_block) {
    const index_t left = end - p.rows;
    p.count = std::min(sum_block, left);
    // The first tiles that read the block ask for the next one.
    rows_ahead next(p.rows, left + upcoming, sum_block);
    if (norms != nullptr) {
      norm_tile<Type>(p, norms);
      norms += sum_block;
    }
    for (int h = 0; h < heads; h += 2, next = rows_ahead()) {
      if (heads - h == 1) {
        sum_heads<Type, 1>(p, h, next);
      } else {
        sum_heads<Type, 2>(p, h, next);
      }
    }
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

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
