// SPDX-License-Identifier: Apache-2.0
/// @file
/// The NEON row of kernels for AArch64: rows of a cache as floats, and their dot products. The rest of
/// the row is in neon_sum.hpp, neon_scan.hpp and neon_array.hpp; contracts in kernels.hpp.
///
/// Rows are converted 8 elements, a "chunk", at a time into two registers, in memory order. The
/// elements behind the last whole chunk are taken from a chunk that ends where the row ends.
/// Accumulators fill 16 of the 32 registers, enough for four multiply-adds a cycle.
#pragma once

#include "vattention/config.hpp"

#if VATTN_NEON_KERNELS

#include <arm_neon.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/kernels/prefetch.hpp"

namespace vattn::kernels::neon {

/// Elements converted together; floats of all heads' queries kept in tile order on the stack; rows of
/// a dot block; heads of a tile.
inline constexpr index_t chunk = 8, query_floats = 8192, dot_block = 16;
inline constexpr int tile_heads = 4;

/// The two registers of a chunk.
struct halves {
  float32x4_t a, b;
};

/// 16 bytes from any address.
VATTN_ALWAYS_INLINE uint8x16_t load_bytes(const char* at) noexcept {
  return vld1q_u8(static_cast<const std::uint8_t*>(static_cast<const void*>(at)));
}

/// A chunk of a row from element j: of q8_0 a quarter of a block, with its scale.
template <element Type>
VATTN_ALWAYS_INLINE halves load_chunk(const char* row, index_t j) noexcept {
  const char* at = row + row_bytes(Type, j);
  if constexpr (Type == element::q8_0) {
    std::uint16_t bits;
    std::memcpy(&bits, at, sizeof bits);
    const auto* bytes =
        static_cast<const std::int8_t*>(static_cast<const void*>(at + 2 + (j & 31)));
    const int16x8_t wide = vmovl_s8(vld1_s8(bytes));
    const float scale = f16_to_float(bits);
    return {vmulq_n_f32(vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide))), scale),
            vmulq_n_f32(vcvtq_f32_s32(vmovl_high_s16(wide)), scale)};
  } else if constexpr (Type == element::f32) {
    return {vreinterpretq_f32_u8(load_bytes(at)), vreinterpretq_f32_u8(load_bytes(at + 16))};
  } else if constexpr (Type == element::bf16) {
    const uint16x8_t v = vreinterpretq_u16_u8(load_bytes(at)), zero = vdupq_n_u16(0);
    return {vreinterpretq_f32_u16(vzip1q_u16(zero, v)), vreinterpretq_f32_u16(vzip2q_u16(zero, v))};
  } else {
    const float16x8_t v = vreinterpretq_f16_u8(load_bytes(at));
    return {vcvt_f32_f16(vget_low_f16(v)), vcvt_high_f32_f16(v)};
  }
}

/// The lanes of the last `count` elements of a chunk, 0 <= count <= 8, all bits set.
VATTN_ALWAYS_INLINE halves last_lanes(index_t count) noexcept {
  alignas(16) static constexpr std::uint32_t ramp[16] = {0,   0,   0,   0,   0,   0,   0,   0,
                                                         ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u};
  return {vreinterpretq_f32_u32(vld1q_u32(ramp + count)),
          vreinterpretq_f32_u32(vld1q_u32(ramp + count + 4))};
}

/// The last `count` of the elements [0, end) of a row in the last lanes of a chunk, zeros before
/// them; reads no byte outside of [0, end).
template <element Type>
VATTN_ALWAYS_INLINE halves load_end(const char* row, index_t end, index_t count) noexcept {
  halves v;
  if (end >= chunk || Type == element::q8_0) {  // rows of q8_0 are whole chunks
    v = load_chunk<Type>(row, end - chunk);
  } else {
    alignas(16) char part[std::size_t{chunk} * 4] = {};
    std::memcpy(part + (chunk - end) * size_of(Type), row,
                static_cast<std::size_t>(end * size_of(Type)));
    v = load_chunk<Type>(part, 0);
  }
  const halves keep = last_lanes(count);
  return {
      vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v.a), vreinterpretq_u32_f32(keep.a))),
      vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v.b), vreinterpretq_u32_f32(keep.b)))};
}

/// A chunk of a row from element j; at its `End`, where fewer are left, the last end - j of them.
template <element Type, bool End>
VATTN_ALWAYS_INLINE halves load_from(const char* row, index_t j, index_t end) noexcept {
  if constexpr (End) {
    return load_end<Type>(row, end, end - j);
  } else {
    return load_chunk<Type>(row, j);
  }
}

/// Sums of four vectors, side by side.
VATTN_ALWAYS_INLINE float32x4_t sum_four(const float32x4_t* v) noexcept {
  return vpaddq_f32(vpaddq_f32(v[0], v[1]), vpaddq_f32(v[2], v[3]));
}

/// Sums to the first `count` of four floats in memory, or added to them.
VATTN_ALWAYS_INLINE void put_sums(float* out, float32x4_t v, index_t count, bool add) noexcept {
  if (count >= 4) return vst1q_f32(out, add ? vaddq_f32(vld1q_f32(out), v) : v);
  float lane[4];
  vst1q_f32(lane, v);
  for (index_t k = 0; k < count; ++k) out[k] = add ? out[k] + lane[k] : lane[k];
}

/// What all tiles of a dot product pass share: elements [first, first + size) of the rows, their
/// queries in tile order (see `arrange_queries`), and where the products go. They are added to what
/// is there unless `first` is 0.
struct dot_pass {
  index_t first, size;
  const float* x;
  index_t slice;
  float* out;
  index_t out_stride;
};

/// The accumulators of a tile of `Rows` rows and `Heads` heads: those of few heads have one for each
/// half of a chunk.
template <int Heads, int Rows>
struct dot_sums {
  static constexpr int chains = Heads * Rows > 8 || Rows > 4 ? 1 : 2;
  float32x4_t sum[std::size_t{Heads}][std::size_t{Rows}][std::size_t{chains}];
};

/// The queries' chunk at x times that of each row from element j, see `load_from`.
template <element Type, bool End, int Heads, int Rows>
VATTN_ALWAYS_INLINE void dot_chunk(const char* const* row, index_t j, index_t end, const float* x,
                                   dot_sums<Heads, Rows>& s) noexcept {
  float32x4_t query[std::size_t{2 * Heads}];
  VATTN_UNROLL
  for (int i = 0; i < 2 * Heads; ++i) query[i] = vld1q_f32(x + 4 * i);
  VATTN_UNROLL
  for (int k = 0; k < Rows; ++k) {
    const halves v = load_from<Type, End>(row[k], j, end);
    VATTN_UNROLL
    for (int h = 0; h < Heads; ++h) s.sum[h][k][0] = vfmaq_f32(s.sum[h][k][0], v.a, query[2 * h]);
    VATTN_UNROLL
    for (int h = 0; h < Heads; ++h) {
      float32x4_t& last = s.sum[h][k][s.chains - 1];
      last = vfmaq_f32(last, v.b, query[2 * h + 1]);
    }
  }
}

/// Rows [i, i + count), of which up to `Rows` are taken, times the `Heads` queries from head h on.
template <element Type, int Heads, int Rows>
VATTN_ALWAYS_INLINE void dot_some(const dot_pass& p, const void* const* rows, index_t i,
                                  index_t count, int h) noexcept {
  const char* row[std::size_t{Rows}];
  dot_sums<Heads, Rows> s;
  VATTN_UNROLL
  for (index_t k = 0; k < Rows; ++k) {
    row[k] = static_cast<const char*>(rows[k < count ? k : count - 1]);
    for (auto& head : s.sum)
      for (auto& chain : head[k]) chain = vdupq_n_f32(0);
  }
  const float* x = p.x + h * p.slice;
  const index_t end = p.first + p.size;
  index_t j = p.first;
  for (; j + chunk <= end; j += chunk, x += Heads * chunk)
    dot_chunk<Type, false>(row, j, end, x, s);
  if (j < end) dot_chunk<Type, true>(row, j, end, x, s);
  VATTN_UNROLL
  for (int g = 0; g < Heads; ++g) {
    VATTN_UNROLL
    for (int k = 0; k < Rows; k += 4) {
      float32x4_t four[4];
      VATTN_UNROLL
      for (int r = 0; r < 4; ++r) {
        const auto& chain = s.sum[g][k + r];
        four[r] = s.chains == 1 ? chain[0] : vaddq_f32(chain[0], chain[s.chains - 1]);
      }
      if (k < count)
        put_sums(p.out + (h + g) * p.out_stride + i + k, sum_four(four), count - k, p.first > 0);
    }
  }
}

/// Rows [i, i + count) with count <= 16 times `Heads` queries from head h on: four rows at a time, of
/// a single head eight.
template <element Type, int Heads>
void dot_tile(const dot_pass& p, const void* const* rows, index_t i, index_t count, int h,
              const rows_ahead& next, index_t tiles) noexcept {
  constexpr int most = Heads == 1 ? 8 : 4;
  const index_t begin = row_bytes(Type, p.first), end = row_bytes(Type, p.first + p.size);
  for (index_t k = 0; k < count; k += most) {
    if (k / most % tiles == h / tile_heads)
      for (index_t r = i + k; r < i + k + most; ++r) next.ask(r, begin, end);
    const bool few = most == 4 || count - k <= 4;
    if (few) dot_some<Type, Heads, 4>(p, rows + k, i + k, count - k, h);
    if constexpr (most > 4) {
      if (!few) dot_some<Type, Heads, most>(p, rows + k, i + k, count - k, h);
    }
  }
}

/// All heads of one pass, 16 rows at a time.
template <element Type>
void dot_blocks(const dot_pass& p, const void* const* rows, index_t count, index_t upcoming,
                int heads) noexcept {
  const rows_ahead next(rows, count + upcoming, active_plan().rows_ahead);
  const index_t tiles = (heads + tile_heads - 1) / tile_heads;
  for (index_t i = 0; i < count; i += dot_block) {
    const index_t size = std::min(dot_block, count - i);
    for (int h = 0; h < heads; h += tile_heads) {
      switch (heads - h) {
        case 1: dot_tile<Type, 1>(p, rows + i, i, size, h, next, tiles); break;
        case 2: dot_tile<Type, 2>(p, rows + i, i, size, h, next, tiles); break;
        case 3: dot_tile<Type, 3>(p, rows + i, i, size, h, next, tiles); break;
        default: dot_tile<Type, 4>(p, rows + i, i, size, h, next, tiles);
      }
    }
  }
}

/// `size` elements of the queries in tile order: the tiles of up to four heads one after the other,
/// `slice` floats a head, in a tile chunk after chunk, of a chunk head after head. What does not fill
/// a chunk lies at its end, zeros before it.
inline void arrange_queries(const float* x, index_t x_stride, int heads, index_t size, float* out,
                            index_t slice) noexcept {
  for (int h = 0; h < heads; ++h) {
    const int first = h / tile_heads * tile_heads, tile = std::min(tile_heads, heads - first);
    const float* from = x + h * x_stride;
    float* to = out + first * slice + (h - first) * chunk;
    index_t j = 0;
    for (; j + chunk <= size; j += chunk, to += tile * chunk) {
      vst1q_f32(to, vld1q_f32(from + j));
      vst1q_f32(to + 4, vld1q_f32(from + j + 4));
    }
    if (j == size) continue;
    vst1q_f32(to, vdupq_n_f32(0));
    vst1q_f32(to + 4, vdupq_n_f32(0));
    for (to += chunk - (size - j); j < size; ++j) *to++ = from[j];
  }
}

template <element Type>
void dot_typed(const void* const* rows, index_t count, index_t upcoming, index_t dim,
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
      arrange_queries(x + h * x_stride + first, x_stride, group, size, arranged, slice);
      dot_blocks<Type>({first, size, arranged, slice, out + h * out_stride, out_stride}, rows,
                       count, upcoming, group);
    }
  }
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

}  // namespace vattn::kernels::neon

#endif  // VATTN_NEON_KERNELS
