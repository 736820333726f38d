// SPDX-License-Identifier: Apache-2.0
/// @file
/// Weighted sums of rows and their norms, NEON row of kernels; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_NEON_KERNELS

#include <arm_neon.h>

#include <algorithm>
#include <cstddef>

#include "vattention/kernels/neon.hpp"

namespace vattn::kernels::neon {

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

/// The accumulators of a tile of `Heads` heads and `Chunks` chunks of the rows.
template <int Heads, int Chunks>
struct tile_sums {
  halves sum[std::size_t{Heads}][std::size_t{Chunks}];
};

/// Adds row i from element j times each head's weight, which is lane `Lane` of its register.
template <element Type, bool End, int Lane, int Heads, int Chunks>
VATTN_ALWAYS_INLINE void sum_row(const sum_pass& p, index_t i, index_t j, const float32x4_t* weight,
                                 tile_sums<Heads, Chunks>& s) noexcept {
  const char* row = static_cast<const char*>(p.rows[i]);
  halves v[std::size_t{Chunks}];
  VATTN_UNROLL
  for (int c = 0; c < Chunks; ++c) v[c] = load_from<Type, End>(row, j + c * chunk, p.dim);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    VATTN_UNROLL
    for (int c = 0; c < Chunks; ++c) {
      halves& sum = s.sum[g][c];
      sum.a = vfmaq_laneq_f32(sum.a, v[c].a, weight[g], Lane);
      sum.b = vfmaq_laneq_f32(sum.b, v[c].b, weight[g], Lane);
    }
  }
}

/// Adds the sums of a tile from element j to the output.
template <bool End, int Heads, int Chunks>
VATTN_ALWAYS_INLINE void add_sums(const sum_pass& p, index_t j, int h,
                                  const tile_sums<Heads, Chunks>& s) noexcept {
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    float* out = p.out + (h + g) * p.out_stride + j;
    if constexpr (End) {
      alignas(16) float part[chunk];
      vst1q_f32(part, s.sum[g][0].a);
      vst1q_f32(part + 4, s.sum[g][0].b);
      for (index_t k = j; k < p.dim; ++k) *out++ += part[chunk - (p.dim - k)];
    } else {
      VATTN_UNROLL
      for (int c = 0; c < Chunks; ++c, out += chunk) {
        vst1q_f32(out, vaddq_f32(vld1q_f32(out), s.sum[g][c].a));
        vst1q_f32(out + 4, vaddq_f32(vld1q_f32(out + 4), s.sum[g][c].b));
      }
    }
  }
}

/// Sums a block of rows for `Heads` heads from head h on, over `Chunks` chunks from element j, or at
/// the `End` over what is left of one. Four rows at a time: one load brings their weights.
template <element Type, int Heads, int Chunks, bool End = false>
void sum_tile(const sum_pass& p, index_t j, int h, const rows_ahead& next) noexcept {
  const index_t size = std::min(Chunks * chunk, p.dim - j);
  const index_t begin = row_bytes(Type, j), end = row_bytes(Type, j + size);
  const float* weights = p.weights + h * p.weight_stride;
  float32x4_t w[std::size_t{Heads}];
  tile_sums<Heads, Chunks> s;
  VATTN_UNROLL
  for (auto& head : s.sum)
    for (auto& sum : head) sum = {vdupq_n_f32(0), vdupq_n_f32(0)};
  index_t i = 0;
  for (; i + 4 <= p.count; i += 4) {
    for (index_t r = i; r < i + 4; ++r) next.ask(r, begin, end);
    VATTN_UNROLL
    for (int g = 0; g < Heads; ++g) w[g] = vld1q_f32(weights + g * p.weight_stride + i);
    sum_row<Type, End, 0>(p, i, j, w, s);
    sum_row<Type, End, 1>(p, i + 1, j, w, s);
    sum_row<Type, End, 2>(p, i + 2, j, w, s);
    sum_row<Type, End, 3>(p, i + 3, j, w, s);
  }
  for (; i < p.count; ++i) {
    next.ask(i, begin, end);
    VATTN_UNROLL
    for (int g = 0; g < Heads; ++g) w[g] = vdupq_n_f32(weights[g * p.weight_stride + i]);
    sum_row<Type, End, 0>(p, i, j, w, s);
  }
  add_sums<End>(p, j, h, s);
}

/// All elements of one block of rows for `Heads` heads, at most 16 accumulators at a time.
template <element Type, int Heads>
void sum_heads(const sum_pass& p, int h, const rows_ahead& next) noexcept {
  constexpr int most = Heads > 2 ? 2 : 4;
  index_t j = 0;
  for (; j + most * chunk <= p.dim; j += most * chunk) sum_tile<Type, Heads, most>(p, j, h, next);
  for (; j + chunk <= p.dim; j += chunk) sum_tile<Type, Heads, 1>(p, j, h, next);
  if (j < p.dim) sum_tile<Type, Heads, 1, true>(p, j, h, next);
}

/// Adds the squares of four rows from element j.
template <element Type, bool End>
VATTN_ALWAYS_INLINE void add_squares(const char* const* row, index_t j, index_t end,
                                     halves* sum) noexcept {
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) {
    const halves v = load_from<Type, End>(row[k], j, end);
    sum[k].a = vfmaq_f32(sum[k].a, v.a, v.a);
    sum[k].b = vfmaq_f32(sum[k].b, v.b, v.b);
  }
}

/// Square norms of rows i to i + 3, as far as there are any.
template <element Type>
VATTN_ALWAYS_INLINE float32x4_t norms_of_four(const sum_pass& p, index_t i) noexcept {
  const char* row[4];
  halves sum[4];
  float32x4_t all[4];
  VATTN_UNROLL
  for (index_t k = 0; k < 4; ++k) {
    row[k] = static_cast<const char*>(p.rows[std::min(i + k, p.count - 1)]);
    sum[k] = {vdupq_n_f32(0), vdupq_n_f32(0)};
  }
  index_t j = 0;
  for (; j + chunk <= p.dim; j += chunk) add_squares<Type, false>(row, j, p.dim, sum);
  if (j < p.dim) add_squares<Type, true>(row, j, p.dim, sum);
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) all[k] = vaddq_f32(sum[k].a, sum[k].b);
  return sum_four(all);
}

/// Square norms of one block of rows.
template <element Type>
void norm_tile(const sum_pass& p, float* norms) noexcept {
  for (index_t i = 0; i < p.count; i += 4) {
    put_sums(norms + i, norms_of_four<Type>(p, i), p.count - i, false);
  }
}

template <element Type>
void sum_typed(sum_pass p, index_t upcoming, int heads, float* norms) noexcept {
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
    for (int h = 0; h < heads; h += tile_heads, next = rows_ahead()) {
      switch (heads - h) {
        case 1: sum_heads<Type, 1>(p, h, next); break;
        case 2: sum_heads<Type, 2>(p, h, next); break;
        case 3: sum_heads<Type, 3>(p, h, next); break;
        default: sum_heads<Type, 4>(p, h, next);
      }
    }
  }
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

}  // namespace vattn::kernels::neon

#endif  // VATTN_NEON_KERNELS
