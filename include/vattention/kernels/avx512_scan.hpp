// SPDX-License-Identifier: Apache-2.0
/// @file
/// The integer kernels of the AVX-512 row that scan: packed codes and sign signatures; contracts in
/// kernels.hpp.
///
/// Each exists twice, because a CPU may lack the extension (VNNI, VPOPCNTDQ) that makes it fast.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/core/kv_view.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")
#define VATTN_AVX512_VNNI \
  VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,popcnt")
#define VATTN_AVX512_POPCNT \
  VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vpopcntdq,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Four query bytes, the same for all keys.
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i query_bytes(const std::int8_t* x) noexcept {
  std::int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}

/// The levels of 2- or 4-bit codes, in each 128-bit lane.
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i level_table(const std::uint8_t* levels) noexcept {
  return _mm512_broadcast_i32x4(
      _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(levels))));
}

/// The levels of one field of each byte.
template <int Bits>
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i field_levels(__m512i codes, int field,
                                                      __m512i table) noexcept {
  if constexpr (Bits == 8) return codes;
  const __m512i mask = _mm512_set1_epi8(static_cast<char>((1 << Bits) - 1));
  const auto shift = static_cast<unsigned>(Bits * field);
  const __m512i moved = field == 0 ? codes : _mm512_srli_epi32(codes, shift);
  const __m512i code = _mm512_and_si512(moved, mask);
  return Bits == 1 ? code : _mm512_shuffle_epi8(table, code);
}

/// What all tiles of a scan share.
struct scan_pass {
  index_t words;
  const std::uint8_t* levels;
  index_t x_stride, out_stride;
};

/// `Blocks` blocks of 16 keys times `Heads` queries.
template <int Bits, int Heads, int Blocks>
VATTN_AVX512_VNNI void scan_vnni(const scan_pass& p, const std::uint8_t* codes,
                                 const std::int8_t* x, std::int32_t* out) noexcept {
  const __m512i table = level_table(p.levels);
  __m512i sum[std::size_t{Heads * Blocks}];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_si512();
  for (index_t t = 0; t < p.words; ++t, codes += 64, x += 32 / Bits) {
    __m512i word[std::size_t{Blocks}];
    VATTN_UNROLL
    for (int b = 0; b < Blocks; ++b) {
      word[b] = _mm512_loadu_si512(codes + b * p.words * 64);
      __builtin_prefetch(codes + b * p.words * 64 + 8192, 0, 2);
    }
    VATTN_UNROLL
    for (int field = 0; field < 8 / Bits; ++field) {
      __m512i level[std::size_t{Blocks}];
      VATTN_UNROLL
      for (int b = 0; b < Blocks; ++b) level[b] = field_levels<Bits>(word[b], field, table);
      VATTN_UNROLL
      for (int h = 0; h < Heads; ++h) {
        const __m512i q = query_bytes(x + h * p.x_stride + 4 * field);
        VATTN_UNROLL
        for (int b = 0; b < Blocks; ++b)
          sum[h * Blocks + b] = _mm512_dpbusd_epi32(sum[h * Blocks + b], level[b], q);
      }
    }
  }
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h) VATTN_UNROLL
  for (int b = 0; b < Blocks; ++b)
    _mm512_storeu_si512(out + h * p.out_stride + 16 * b, sum[h * Blocks + b]);
  _mm256_zeroupper();
}

/// The same without VNNI for one block, in 16-bit halves: the pair sums of vpmaddubsw would
/// saturate.
template <int Bits, int Heads>
VATTN_AVX512 void scan_madd(const scan_pass& p, const std::uint8_t* codes, const std::int8_t* x,
                            std::int32_t* out) noexcept {
  const __m512i table = level_table(p.levels);
  __m512i sum[std::size_t{Heads}];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_si512();
  for (index_t t = 0; t < p.words; ++t) {
    const __m512i word = _mm512_loadu_si512(codes + t * 64);
    VATTN_UNROLL
    for (int field = 0; field < 8 / Bits; ++field, x += 4) {
      const __m512i level = field_levels<Bits>(word, field, table);
      const __m512i odd = _mm512_srli_epi16(level, 8);
      const __m512i even = _mm512_and_si512(level, _mm512_set1_epi16(0xff));
      VATTN_UNROLL
      for (int h = 0; h < Heads; ++h) {
        const __m512i q = query_bytes(x + h * p.x_stride), q_odd = _mm512_srai_epi16(q, 8);
        const __m512i q_even = _mm512_srai_epi16(_mm512_slli_epi16(q, 8), 8);
        sum[h] = _mm512_add_epi32(sum[h], _mm512_add_epi32(_mm512_madd_epi16(even, q_even),
                                                           _mm512_madd_epi16(odd, q_odd)));
      }
    }
  }
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h) _mm512_storeu_si512(out + h * p.out_stride, sum[h]);
  _mm256_zeroupper();
}

/// Two or four blocks at a time, heads by eights, fours, twos and ones while the codes are in L1.
template <int Bits>
void scan_bits_vnni(const scan_pass& p, const std::uint8_t* codes, index_t blocks,
                    const std::int8_t* x, int heads, std::int32_t* out) noexcept {
  using tile =
      void (*)(const scan_pass&, const std::uint8_t*, const std::int8_t*, std::int32_t*) noexcept;
  static constexpr tile full[4] = {scan_vnni<Bits, 1, 4>, scan_vnni<Bits, 2, 4>,
                                   scan_vnni<Bits, 4, 4>, scan_vnni<Bits, 8, 2>};
  static constexpr tile single[4] = {scan_vnni<Bits, 1, 1>, scan_vnni<Bits, 2, 1>,
                                     scan_vnni<Bits, 4, 1>, scan_vnni<Bits, 8, 1>};
  for (index_t block = 0; block < blocks;) {
    const int step = blocks - block >= 4 ? 4 : 1;
    for (int h = 0; h < heads;) {
      const int left = heads - h, size = left >= 8 ? 3 : left >= 4 ? 2 : left >= 2 ? 1 : 0;
      const int wide = step == 1 ? 1 : size == 3 ? 2 : 4;
      for (int b = 0; b < step; b += wide)
        (step == 1 ? single : full)[size](p, codes + (block + b) * p.words * 64, x + h * p.x_stride,
                                          out + h * p.out_stride + (block + b) * 16);
      h += 1 << size;
    }
    block += step;
  }
}

template <int Bits>
void scan_bits(const scan_pass& p, const std::uint8_t* codes, index_t blocks, const std::int8_t* x,
               int heads, std::int32_t* out) noexcept {
  for (index_t block = 0; block < blocks; ++block, codes += p.words * 64, out += 16)
    for (int h = 0; h < heads;) {
      const int size = heads - h >= 4 ? 4 : 1;
      (size == 4 ? scan_madd<Bits, 4> : scan_madd<Bits, 1>)(p, codes, x + h * p.x_stride,
                                                            out + h * p.out_stride);
      h += size;
    }
}

inline void scan_codes(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                       const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                       int heads, std::int32_t* out, index_t out_stride) noexcept {
  const scan_pass p{words, levels, x_stride, out_stride};
  switch (bits) {
    case 1: return scan_bits<1>(p, codes, blocks, x, heads, out);
    case 2: return scan_bits<2>(p, codes, blocks, x, heads, out);
    case 4: return scan_bits<4>(p, codes, blocks, x, heads, out);
    default: return scan_bits<8>(p, codes, blocks, x, heads, out);
  }
}

/// `scan_codes` for CPUs with AVX512-VNNI.
inline void scan_codes_vnni(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                            const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                            int heads, std::int32_t* out, index_t out_stride) noexcept {
  const scan_pass p{words, levels, x_stride, out_stride};
  switch (bits) {
    case 1: return scan_bits_vnni<1>(p, codes, blocks, x, heads, out);
    case 2: return scan_bits_vnni<2>(p, codes, blocks, x, heads, out);
    case 4: return scan_bits_vnni<4>(p, codes, blocks, x, heads, out);
    default: return scan_bits_vnni<8>(p, codes, blocks, x, heads, out);
  }
}

VATTN_AVX512 inline void match_signs(const std::uint64_t* signatures, index_t count, int words,
                                     const std::uint64_t* query, std::uint16_t* out) noexcept {
  for (index_t i = 0; i < count; ++i, signatures += words) {
    int different = 0;
    for (int w = 0; w < words; ++w) different += std::popcount(signatures[w] ^ query[w]);
    out[i] = static_cast<std::uint16_t>(1 + 64 * words - different);
  }
}

/// The low `count` of eight lanes; none if it is negative.
VATTN_AVX512 VATTN_ALWAYS_INLINE __mmask8 low_words(index_t count) noexcept {
  if (count >= 8) return 0xff;
  return count <= 0 ? __mmask8{0} : static_cast<__mmask8>((1u << count) - 1u);
}

/// Sums of neighbouring words: eight of them from two registers, in order.
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512i sum_pairs(__m512i a, __m512i b) noexcept {
  const __m512i even = _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14);
  const __m512i odd = _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15);
  return _mm512_add_epi64(_mm512_permutex2var_epi64(a, even, b),
                          _mm512_permutex2var_epi64(a, odd, b));
}

/// Different bits of `left` signatures of `Words` (1, 2 or 4) words, eight at most; `query` is repeated over a
/// register.
template <int Words>
VATTN_AVX512_POPCNT VATTN_ALWAYS_INLINE __m512i
differences_of_eight(const std::uint64_t* signatures, index_t left, __m512i query) noexcept {
  __m512i n[4];
  VATTN_UNROLL
  for (int w = 0; w < Words; ++w) {
    const __m512i s = _mm512_maskz_loadu_epi64(low_words(left * Words - 8 * w), signatures + 8 * w);
    n[w] = _mm512_popcnt_epi64(_mm512_xor_si512(s, query));
  }
  if constexpr (Words == 4) {
    n[0] = sum_pairs(n[0], n[1]);
    n[1] = sum_pairs(n[2], n[3]);
  }
  if constexpr (Words > 1) n[0] = sum_pairs(n[0], n[1]);
  return n[0];
}

/// Thirty-two signatures at a time: the counts of four registers side by side in one, then put in order.
template <int Words>
VATTN_AVX512_POPCNT void match_words(const std::uint64_t* signatures, index_t count,
                                     const std::uint64_t* query, std::uint16_t* out) noexcept {
  constexpr index_t ahead = 8192;
  alignas(64) std::uint64_t repeated[8];
  alignas(64) std::uint16_t from[32];
  for (int w = 0; w < 8; ++w) repeated[w] = query[w % Words];
  for (int k = 0; k < 32; ++k) from[k] = static_cast<std::uint16_t>(k % 8 * 4 + k / 8);
  const __m512i q = _mm512_load_si512(repeated), order = _mm512_load_si512(from);
  const __m512i most = _mm512_set1_epi16(64 * Words + 1);
  for (index_t i = 0; i < count; i += 32, signatures += 32 * Words) {
    const index_t left = count - i;
    VATTN_UNROLL
    for (int line = 0; line < 4 * Words; ++line)
      __builtin_prefetch(reinterpret_cast<const char*>(signatures) + ahead + 64 * line, 0, 2);
    __m512i all = differences_of_eight<Words>(signatures, left, q);
    VATTN_UNROLL
    for (int k = 1; k < 4; ++k) {
      const __m512i n = differences_of_eight<Words>(signatures + 8 * k * Words, left - 8 * k, q);
      all = _mm512_or_si512(all, _mm512_slli_epi64(n, static_cast<unsigned>(16 * k)));
    }
    const auto lanes =
        left >= 32 ? ~__mmask32{0} : static_cast<__mmask32>((std::uint32_t{1} << left) - 1U);
    _mm512_mask_storeu_epi16(out + i, lanes,
                             _mm512_sub_epi16(most, _mm512_permutexvar_epi16(order, all)));
  }
  _mm256_zeroupper();
}

/// `match_signs` for CPUs with AVX512-VPOPCNTDQ.
inline void match_signs_popcnt(const std::uint64_t* signatures, index_t count, int words,
                               const std::uint64_t* query, std::uint16_t* out) noexcept {
  switch (words) {
    case 1: return match_words<1>(signatures, count, query, out);
    case 2: return match_words<2>(signatures, count, query, out);
    case 4: return match_words<4>(signatures, count, query, out);
    default: return match_signs(signatures, count, words, query, out);
  }
}

/// `match_halves` for CPUs with AVX512-VPOPCNTDQ.
VATTN_AVX512_POPCNT inline void match_halves_popcnt(const std::uint64_t* words, index_t count,
                                                    std::uint32_t query,
                                                    std::uint16_t* out) noexcept {
  const __m512i q = _mm512_set1_epi32(static_cast<int>(query));
  const __m256i most = _mm256_set1_epi16(33);
  for (index_t i = 0; i < count; i += 16) {
    const index_t left = count - i;
    const auto lanes = static_cast<__mmask16>(left >= 16 ? 0xFFFFU : (1U << left) - 1U);
    const __m512i s = _mm512_maskz_loadu_epi32(lanes, words + i / 2);
    const __m512i n = _mm512_popcnt_epi32(_mm512_xor_si512(s, q));
    _mm256_mask_storeu_epi16(out + i, lanes, _mm256_sub_epi16(most, _mm512_cvtepi32_epi16(n)));
  }
  _mm256_zeroupper();
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512
#undef VATTN_AVX512_VNNI
#undef VATTN_AVX512_POPCNT

#endif  // VATTN_X86_KERNELS
