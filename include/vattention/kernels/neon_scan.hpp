// SPDX-License-Identifier: Apache-2.0
/// @file
/// The integer kernels of the NEON row: packed codes and sign signatures; contracts in kernels.hpp.
///
/// Levels and query bytes are multiplied as signed numbers: 128 is taken from each level and what
/// that changes, 128 times the sum of a query, is where its sums start. A table of 16 levels serves
/// each half of a byte of codes, whatever the width of a code. The scan exists twice, because a CPU
/// may lack the dot product extension that makes it fast.
#pragma once

#include "vattention/config.hpp"

#if VATTN_NEON_KERNELS

#include <arm_neon.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/scalar.hpp"

#if defined(__linux__) && __has_include(<sys/auxv.h>)
#include <sys/auxv.h>
#endif

// VATTN_NEON_DOT compiles a function for the extension, VATTN_NEON_ANY one that g++ can inline into
// it whatever the program is compiled for.
#if defined(__ARM_FEATURE_DOTPROD)
#define VATTN_NEON_DOT
#define VATTN_NEON_ANY
#elif defined(__clang__)
#define VATTN_NEON_DOT VATTN_TARGET("dotprod")
#define VATTN_NEON_ANY
#else
#define VATTN_NEON_DOT VATTN_TARGET("arch=armv8.2-a+dotprod")
#define VATTN_NEON_ANY VATTN_TARGET("+nothing+simd")
#endif

namespace vattn::kernels::neon {

/// True if this CPU has the dot product extension: asked of the kernel on Linux, elsewhere told by
/// what the program was compiled for.
inline bool has_dot_product() noexcept {
#if defined(__ARM_FEATURE_DOTPROD)
  return true;
#elif defined(__linux__) && __has_include(<sys/auxv.h>)
  constexpr unsigned long asimd_dot_product = 1UL << 20;
  return (getauxval(AT_HWCAP) & asimd_dot_product) != 0;
#else
  return false;
#endif
}

/// What all tiles of a scan share; `levels` holds, less 128, those of the fields of half a byte.
struct scan_pass {
  index_t words;
  std::int8_t levels[4][16];
  index_t x_stride, out_stride;
};
using scan_tile = void (*)(const scan_pass&, const std::uint8_t* codes, const std::int8_t* x,
                           const std::int32_t* start, std::int32_t* out) noexcept;

/// Sixteen keys' sums for `Heads` queries, four to a register, and the query bytes of up to four fields.
template <int Heads>
struct scan_state {
  int32x4_t sum[std::size_t{Heads}][4];
  int8x16_t query[std::size_t{Heads}];
};

/// sum[k] += the four levels of key k times four query bytes, those of lane `Lane`.
template <bool Dot, int Lane>
VATTN_NEON_ANY VATTN_ALWAYS_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t level,
                                                          int8x16_t query) noexcept {
  if constexpr (Dot) {
    // In assembler: clang 14 has the intrinsic only where the whole program may use it.
    asm("sdot %0.4s, %1.16b, %2.4b[%3]" : "+w"(sum) : "w"(level), "w"(query), "i"(Lane));
    return sum;
  } else {
    // Two products are at most 2 * 128 * 127, which 16 bits hold.
    const int8x16_t q = vreinterpretq_s8_s32(vdupq_laneq_s32(vreinterpretq_s32_s8(query), Lane));
    const int16x8_t low = vmull_s8(vget_low_s8(level), vget_low_s8(q));
    return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(level, q)));
  }
}

/// The query bytes of one word of codes, at most 16 of them.
template <int Bits>
VATTN_NEON_ANY VATTN_ALWAYS_INLINE int8x16_t query_bytes(const std::int8_t* x) noexcept {
  if constexpr (Bits == 8) {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  } else if constexpr (Bits == 4) {
    return vcombine_s8(vld1_s8(x), vdup_n_s8(0));
  } else {
    return vld1q_s8(x);
  }
}

/// Fields `Field` and up of half a byte of codes, those of four keys: register r of the sums.
template <bool Dot, int Bits, int Heads, int Field>
VATTN_NEON_ANY VATTN_ALWAYS_INLINE void scan_fields(const scan_pass& p, uint8x16_t half, int r,
                                                    scan_state<Heads>& s) noexcept {
  constexpr int of_half = Bits == 8 ? 1 : 4 / Bits;
  int8x16_t level = vreinterpretq_s8_u8(half);
  if constexpr (Bits < 8) level = vqtbl1q_s8(vld1q_s8(p.levels[Field % of_half]), half);
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h)
    s.sum[h][r] = add_products<Dot, Field % 4>(s.sum[h][r], level, s.query[h]);
  if constexpr ((Field + 1) % of_half != 0) scan_fields<Dot, Bits, Heads, Field + 1>(p, half, r, s);
}

/// The low or, of codes of less than a byte, the high half of each byte of a word of codes.
template <bool Dot, int Bits, int Heads, bool High>
VATTN_NEON_ANY VATTN_ALWAYS_INLINE void scan_half(const scan_pass& p, const uint8x16_t* word,
                                                  const std::int8_t* x,
                                                  scan_state<Heads>& s) noexcept {
  constexpr int field = High ? 4 / Bits : 0;
  if constexpr (field % 4 == 0) {
    VATTN_UNROLL
    for (int h = 0; h < Heads; ++h) s.query[h] = query_bytes<Bits>(x + h * p.x_stride + 4 * field);
  }
  VATTN_UNROLL
  for (int r = 0; r < 4; ++r) {
    uint8x16_t half;
    if constexpr (Bits == 8) {
      half = veorq_u8(word[r], vdupq_n_u8(128));
    } else if constexpr (High) {
      half = vshrq_n_u8(word[r], 4);
    } else {
      half = vandq_u8(word[r], vdupq_n_u8(15));
    }
    scan_fields<Dot, Bits, Heads, field>(p, half, r, s);
  }
}

/// One block of 16 keys times `Heads` queries, whose sums begin at `start`.
template <bool Dot, int Bits, int Heads>
VATTN_NEON_ANY VATTN_ALWAYS_INLINE void scan_keys(const scan_pass& p, const std::uint8_t* codes,
                                                  const std::int8_t* x, const std::int32_t* start,
                                                  std::int32_t* out) noexcept {
  scan_state<Heads> s;
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h)
    for (auto& sum : s.sum[h]) sum = vdupq_n_s32(start[h]);
  for (index_t t = 0; t < p.words; ++t, codes += 64, x += 32 / Bits) {
    const uint8x16_t word[4] = {vld1q_u8(codes), vld1q_u8(codes + 16), vld1q_u8(codes + 32),
                                vld1q_u8(codes + 48)};
    scan_half<Dot, Bits, Heads, false>(p, word, x, s);
    if constexpr (Bits < 8) scan_half<Dot, Bits, Heads, true>(p, word, x, s);
  }
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h, out += p.out_stride) {
    VATTN_UNROLL
    for (int r = 0; r < 4; ++r) vst1q_s32(out + 4 * r, s.sum[h][r]);
  }
}
template <int Bits, int Heads>
void scan_plain(const scan_pass& p, const std::uint8_t* codes, const std::int8_t* x,
                const std::int32_t* start, std::int32_t* out) noexcept {
  scan_keys<false, Bits, Heads>(p, codes, x, start, out);
}
template <int Bits, int Heads>
VATTN_NEON_DOT void scan_dot(const scan_pass& p, const std::uint8_t* codes, const std::int8_t* x,
                             const std::int32_t* start, std::int32_t* out) noexcept {
  scan_keys<true, Bits, Heads>(p, codes, x, start, out);
}

/// The tiles of 1 to `heads` heads.
struct scan_tiles {
  int heads;
  scan_tile tile[4];
};
template <bool Dot, int Bits, int Heads>
inline constexpr scan_tile tile_of = Dot ? scan_dot<Bits, Heads> : scan_plain<Bits, Heads>;
/// As many heads as leave registers for products that need some of their own.
template <bool Dot, int Bits>
inline constexpr int most_heads = Dot || Bits > 2 ? 4 : Bits;
template <bool Dot, int Bits, int Most = most_heads<Dot, Bits>>
inline constexpr scan_tiles tiles_of{
    Most,
    {tile_of<Dot, Bits, 1>, tile_of<Dot, Bits, std::min(2, Most)>,
     tile_of<Dot, Bits, std::min(3, Most)>, tile_of<Dot, Bits, Most>}};
template <bool Dot>
const scan_tiles& tiles_for(int bits) noexcept {
  switch (bits) {
    case 1: return tiles_of<Dot, 1>;
    case 2: return tiles_of<Dot, 2>;
    case 4: return tiles_of<Dot, 4>;
    default: return tiles_of<Dot, 8>;
  }
}

/// 128 times the sum of each query's bytes.
inline void sum_queries(const std::int8_t* x, index_t x_stride, int heads, index_t dims,
                        std::int32_t* out) noexcept {
  for (int h = 0; h < heads; ++h, x += x_stride) {
    int32x4_t sum = vdupq_n_s32(0);
    std::int32_t last = 0;
    index_t j = 0;
    for (; j + 16 <= dims; j += 16) sum = vpadalq_s16(sum, vpaddlq_s8(vld1q_s8(x + j)));
    for (; j < dims; ++j) last += x[j];
    out[h] = 128 * (vaddvq_s32(sum) + last);
  }
}

/// One block at a time, tile after tile while the codes are in L1.
template <bool Dot>
void scan_all(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
              const std::uint8_t* levels, const std::int8_t* x, index_t x_stride, int heads,
              std::int32_t* out, index_t out_stride) noexcept {
  constexpr int most = 64;
  const scan_tiles& tiles = tiles_for<Dot>(bits);
  scan_pass p{words, {}, x_stride, out_stride};
  for (int f = 0; bits * f < 4; ++f) {
    for (int n = 0; n < 16; ++n) {
      const int code = (n >> (bits * f)) & ((1 << bits) - 1);
      p.levels[f][n] =
          static_cast<std::int8_t>((bits == 2 || bits == 4 ? levels[code] : code) - 128);
    }
  }
  std::int32_t start[most];
  for (int first = 0; first < heads; first += most) {
    const int group = std::min(heads - first, most);
    const std::int8_t* queries = x + first * x_stride;
    sum_queries(queries, x_stride, group, words * 32 / bits, start);
    for (index_t block = 0; block < blocks; ++block) {
      std::int32_t* at = out + first * out_stride + 16 * block;
      for (int h = 0; h < group; h += tiles.heads) {
        const scan_tile tile = tiles.tile[std::min(group - h, tiles.heads) - 1];
        tile(p, codes + block * words * 64, queries + h * x_stride, start + h, at + h * out_stride);
      }
    }
  }
}

inline void scan_codes(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                       const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                       int heads, std::int32_t* out, index_t out_stride) noexcept {
  scan_all<false>(bits, codes, blocks, words, levels, x, x_stride, heads, out, out_stride);
}
/// `scan_codes` for CPUs with the dot product extension.
inline void scan_codes_dot(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                           const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                           int heads, std::int32_t* out, index_t out_stride) noexcept {
  scan_all<true>(bits, codes, blocks, words, levels, x, x_stride, heads, out, out_stride);
}

/// Different bits of a signature and the query, in parts.
VATTN_ALWAYS_INLINE uint32x4_t differences(const std::uint64_t* signature,
                                           const std::uint64_t* query, int words) noexcept {
  uint32x4_t sum = vdupq_n_u32(0);
  int w = 0;
  for (; w + 2 <= words; w += 2) {
    const uint64x2_t both = veorq_u64(vld1q_u64(signature + w), vld1q_u64(query + w));
    sum = vpadalq_u16(sum, vpaddlq_u8(vcntq_u8(vreinterpretq_u8_u64(both))));
  }
  if (w < words) {
    const uint64x1_t both = veor_u64(vld1_u64(signature + w), vld1_u64(query + w));
    sum = vaddw_u16(sum, vpaddl_u8(vcnt_u8(vreinterpret_u8_u64(both))));
  }
  return sum;
}

/// Those of four signatures.
VATTN_ALWAYS_INLINE uint32x4_t differences_of_four(const std::uint64_t* signatures,
                                                   const std::uint64_t* query, int words) noexcept {
  uint32x4_t part[4];
  VATTN_UNROLL
  for (int k = 0; k < 4; ++k) part[k] = differences(signatures + k * words, query, words);
  return vpaddq_u32(vpaddq_u32(part[0], part[1]), vpaddq_u32(part[2], part[3]));
}
/// Those of four signatures of one word, two to a register.
VATTN_ALWAYS_INLINE uint32x4_t differences_of_words(const std::uint64_t* signatures,
                                                    const std::uint64_t* query) noexcept {
  const uint64x2_t q = vdupq_n_u64(*query);
  const uint64x2_t a = veorq_u64(vld1q_u64(signatures), q);
  const uint64x2_t b = veorq_u64(vld1q_u64(signatures + 2), q);
  const uint8x16_t both =
      vpaddq_u8(vcntq_u8(vreinterpretq_u8_u64(a)), vcntq_u8(vreinterpretq_u8_u64(b)));
  return vpaddlq_u16(vpaddlq_u8(both));
}

/// `match_signs` of signatures of `Words` words, of `words` if that is 0.
template <int Words>
void match_words(const std::uint64_t* signatures, index_t count, int words,
                 const std::uint64_t* query, std::uint16_t* out) noexcept {
  if constexpr (Words > 0) words = Words;
  const uint16x4_t most = vdup_n_u16(static_cast<std::uint16_t>(64 * words + 1));
  index_t i = 0;
  for (; i + 4 <= count; i += 4, signatures += 4 * words) {
    uint32x4_t different;
    if constexpr (Words == 1) {
      different = differences_of_words(signatures, query);
    } else {
      different = differences_of_four(signatures, query, words);
    }
    vst1_u16(out + i, vsub_u16(most, vmovn_u32(different)));
  }
  for (; i < count; ++i, signatures += words) {
    const auto different = static_cast<int>(vaddvq_u32(differences(signatures, query, words)));
    out[i] = static_cast<std::uint16_t>(1 + 64 * words - different);
  }
}

inline void match_signs(const std::uint64_t* signatures, index_t count, int words,
                        const std::uint64_t* query, std::uint16_t* out) noexcept {
  switch (words) {
    case 1: return match_words<1>(signatures, count, words, query, out);
    case 2: return match_words<2>(signatures, count, words, query, out);
    case 4: return match_words<4>(signatures, count, words, query, out);
    default: return match_words<0>(signatures, count, words, query, out);
  }
}

inline void match_halves(const std::uint64_t* words, index_t count, std::uint32_t query,
                         std::uint16_t* out) noexcept {
  const uint64x2_t q = vreinterpretq_u64_u32(vdupq_n_u32(query));
  index_t i = 0;
  for (; i + 4 <= count; i += 4) {
    const uint8x16_t bytes = vcntq_u8(vreinterpretq_u8_u64(veorq_u64(vld1q_u64(words + i / 2), q)));
    const uint32x4_t different = vpaddlq_u16(vpaddlq_u8(bytes));
    vst1_u16(out + i, vsub_u16(vdup_n_u16(33), vmovn_u32(different)));
  }
  scalar::match_halves(words + i / 2, count - i, query, out + i);
}

}  // namespace vattn::kernels::neon

#undef VATTN_NEON_DOT
#undef VATTN_NEON_ANY

#endif  // VATTN_NEON_KERNELS
