// SPDX-License-Identifier: Apache-2.0
/// @file
/// The integer kernels of the AVX2 row: packed codes and sign signatures; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/scalar.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

/// What all tiles of a scan share.
struct scan_pass {
  index_t words;
  const std::uint8_t* levels;
  index_t x_stride, out_stride;
};

/// Four query bytes, the same for all keys.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i query_bytes(const std::int8_t* x) noexcept {
  std::int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

/// The levels of 2- or 4-bit codes, in each 128-bit lane.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i level_table(const std::uint8_t* levels) noexcept {
  return _mm256_broadcastsi128_si256(
      _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(levels))));
}

/// The levels of one field of each byte.
template <int Bits>
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i field_levels(__m256i codes, int field,
                                                    __m256i table) noexcept {
  if constexpr (Bits == 8) return codes;
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << Bits) - 1));
  const __m256i moved = field == 0 ? codes : _mm256_srli_epi32(codes, Bits * field);
  const __m256i code = _mm256_and_si256(moved, mask);
  return Bits == 1 ? code : _mm256_shuffle_epi8(table, code);
}

/// Sums of the four byte products of each 32-bit lane: in 16 bits for small levels; otherwise of the levels
/// less 128, because pair sums of larger ones would saturate, which `level_offset` makes good.
template <int Bits>
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i pair_sums(__m256i level, __m256i q) noexcept {
  if constexpr (Bits <= 2) return _mm256_maddubs_epi16(level, q);
  const __m256i signed_level = _mm256_xor_si256(level, _mm256_set1_epi8(static_cast<char>(0x80)));
  return _mm256_maddubs_epi16(_mm256_abs_epi8(signed_level), _mm256_sign_epi8(q, signed_level));
}

/// Pair sums that 16 bits hold one on another: |sum| <= 2 * 127 * level, and levels of 2 bits are at most 32.
template <int Bits>
inline constexpr int pairs_held = Bits == 1   ? 128
                                  : Bits == 2 ? 4
                                              : 1;

/// 128 times the sum of a query's `count` bytes where the levels have lost 128, else 0.
template <int Bits>
std::int32_t level_offset(const std::int8_t* x, index_t count) noexcept {
  std::int32_t sum = 0;
  if constexpr (Bits > 2)
    for (index_t j = 0; j < count; ++j) sum += x[j];
  return 128 * sum;
}

/// 32-bit sums of 16-bit pairs.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i widen(__m256i sum, __m256i pairs) noexcept {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/// Words [first, last) of one block of 16 keys, eight to a register, times `Heads` queries, added to sum;
/// no more fields than `pairs_held`.
template <int Bits, int Heads>
VATTN_AVX2 VATTN_ALWAYS_INLINE void scan_words(const scan_pass& p, const std::uint8_t* codes,
                                               index_t first, index_t last, const std::int8_t* x,
                                               __m256i* sum) noexcept {
  const __m256i table = level_table(p.levels);
  __m256i pairs[std::size_t{2 * Heads}];
  VATTN_UNROLL
  for (auto& s : pairs) s = _mm256_setzero_si256();
  for (index_t t = first; t < last; ++t) {
    const auto* at = static_cast<const __m256i*>(static_cast<const void*>(codes + t * 64));
    __builtin_prefetch(codes + t * 64 + 4096, 0, 3);
    const __m256i word[2] = {_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
    VATTN_UNROLL
    for (int field = 0; field < 8 / Bits; ++field) {
      const __m256i level[2] = {field_levels<Bits>(word[0], field, table),
                                field_levels<Bits>(word[1], field, table)};
      VATTN_UNROLL
      for (int h = 0; h < Heads; ++h) {
        const __m256i q = query_bytes(x + h * p.x_stride + t * (32 / Bits) + 4 * field);
        VATTN_UNROLL
        for (int b = 0; b < 2; ++b) {
          const __m256i product = pair_sums<Bits>(level[b], q);
          if constexpr (pairs_held<Bits> > 1)
            pairs[2 * h + b] = _mm256_add_epi16(pairs[2 * h + b], product);
          else
            sum[2 * h + b] = widen(sum[2 * h + b], product);
        }
      }
    }
  }
  if constexpr (pairs_held<Bits> > 1) {
    VATTN_UNROLL
    for (int i = 0; i < 2 * Heads; ++i) sum[i] = widen(sum[i], pairs[i]);
  }
}

/// One block of 16 keys times `Heads` queries.
template <int Bits, int Heads>
VATTN_AVX2 void scan_block(const scan_pass& p, const std::uint8_t* codes, const std::int8_t* x,
                           std::int32_t* out) noexcept {
  constexpr index_t held = pairs_held<Bits> > 1 ? pairs_held<Bits> / (8 / Bits) : index_t{1} << 20;
  __m256i sum[std::size_t{2 * Heads}];
  VATTN_UNROLL
  for (int i = 0; i < 2 * Heads; ++i)
    sum[i] = _mm256_set1_epi32(level_offset<Bits>(x + i / 2 * p.x_stride, p.words * (32 / Bits)));
  for (index_t t = 0; t < p.words; t += held)
    scan_words<Bits, Heads>(p, codes, t, p.words - t < held ? p.words : t + held, x, sum);
  VATTN_UNROLL
  for (int i = 0; i < 2 * Heads; ++i) {
    std::int32_t* to = out + i / 2 * p.out_stride + i % 2 * 8;
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(to)), sum[i]);
  }
  _mm256_zeroupper();
}

/// One block at a time, heads by fours, twos and ones while the codes are in L1.
template <int Bits>
void scan_bits(const scan_pass& p, const std::uint8_t* codes, index_t blocks, const std::int8_t* x,
               int heads, std::int32_t* out) noexcept {
  using tile =
      void (*)(const scan_pass&, const std::uint8_t*, const std::int8_t*, std::int32_t*) noexcept;
  static constexpr tile tiles[3] = {scan_block<Bits, 1>, scan_block<Bits, 2>, scan_block<Bits, 4>};
  for (index_t block = 0; block < blocks; ++block, codes += p.words * 64, out += 16)
    for (int h = 0; h < heads;) {
      const int size = heads - h >= 4 ? 2 : heads - h >= 2 ? 1 : 0;
      tiles[size](p, codes, x + h * p.x_stride, out + h * p.out_stride);
      h += 1 << size;
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

/// Ones in each byte, by a table of half bytes.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i count_ones(__m256i v) noexcept {
  const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                        1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i half = _mm256_set1_epi8(15);
  const __m256i low = _mm256_shuffle_epi8(ones, _mm256_and_si256(v, half));
  const __m256i high = _mm256_shuffle_epi8(ones, _mm256_and_si256(_mm256_srli_epi16(v, 4), half));
  return _mm256_add_epi8(low, high);
}

/// Different bits of four signatures of one word, one to a 64-bit lane.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i differences_of_four(const std::uint64_t* signatures,
                                                           __m256i query) noexcept {
  const __m256i s =
      _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(signatures)));
  return _mm256_sad_epu8(count_ones(_mm256_xor_si256(s, query)), _mm256_setzero_si256());
}

/// Signatures of one word, sixteen at a time; returns how many were matched.
VATTN_AVX2 inline index_t match_words(const std::uint64_t* signatures, index_t count,
                                      std::uint64_t query, std::uint16_t* out) noexcept {
  const __m256i q = _mm256_set1_epi64x(static_cast<long long>(query));
  // Two registers' counts in turn, in either half: pairs of one register are brought together, then the halves.
  const __m256i pairs = _mm256_setr_epi8(0, 1, 4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15, 0, 1,
                                         4, 5, 2, 3, 6, 7, 8, 9, 12, 13, 10, 11, 14, 15);
  const __m256i halves = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i most = _mm256_set1_epi16(65);
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const std::uint64_t* const at = signatures + i;
    const __m256i low = _mm256_or_si256(differences_of_four(at, q),
                                        _mm256_slli_epi64(differences_of_four(at + 4, q), 32));
    const __m256i high = _mm256_or_si256(differences_of_four(at + 8, q),
                                         _mm256_slli_epi64(differences_of_four(at + 12, q), 32));
    const __m256i mixed = _mm256_shuffle_epi8(_mm256_packus_epi32(low, high), pairs);
    const __m256i different = _mm256_permutevar8x32_epi32(mixed, halves);
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(out + i)),
                        _mm256_sub_epi16(most, different));
  }
  _mm256_zeroupper();
  return i;
}

VATTN_AVX2 inline void match_signs(const std::uint64_t* signatures, index_t count, int words,
                                   const std::uint64_t* query, std::uint16_t* out) noexcept {
  index_t i = words == 1 ? match_words(signatures, count, *query, out) : 0;
  for (signatures += i * words; i < count; ++i, signatures += words) {
    int different = 0;
    for (int w = 0; w < words; ++w) different += std::popcount(signatures[w] ^ query[w]);
    out[i] = static_cast<std::uint16_t>(1 + 64 * words - different);
  }
}

/// Different bits of eight signatures of 32 bits.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i differences_of_halves(const std::uint64_t* words,
                                                             __m256i query) noexcept {
  const __m256i s =
      _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(words)));
  const __m256i pairs =
      _mm256_maddubs_epi16(count_ones(_mm256_xor_si256(s, query)), _mm256_set1_epi8(1));
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/// Sixteen signatures of 32 bits at a time.
VATTN_AVX2 inline void match_halves(const std::uint64_t* words, index_t count, std::uint32_t query,
                                    std::uint16_t* out) noexcept {
  const __m256i q = _mm256_set1_epi32(static_cast<int>(query));
  const __m256i most = _mm256_set1_epi16(33);
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i mixed = _mm256_packus_epi32(differences_of_halves(words + i / 2, q),
                                              differences_of_halves(words + i / 2 + 4, q));
    const __m256i different = _mm256_permute4x64_epi64(mixed, 0xD8);
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(out + i)),
                        _mm256_sub_epi16(most, different));
  }
  _mm256_zeroupper();
  scalar::match_halves(words + i / 2, count - i, query, out + i);
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
