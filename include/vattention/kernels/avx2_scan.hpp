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
  int bits;
  index_t words;
  const std::uint8_t* levels;
  index_t x_stride, out_stride;
};
using scan_tile = void (*)(const scan_pass&, const std::uint8_t* codes, const std::int8_t* x,
                           std::int32_t* out) noexcept;

/// Four query bytes, the same for all keys.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i query_bytes(const std::int8_t* x) noexcept {
  std::int32_t four;
  std::memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}

/// The levels of the lowest field of each byte, and the fields above moved down.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i next_levels(const scan_pass& p, __m256i& codes) noexcept {
  if (p.bits == 8) return codes;
  const __m256i table = _mm256_broadcastsi128_si256(
      _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(p.levels))));
  const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << p.bits) - 1));
  const __m256i level = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, mask));
  codes = _mm256_srlv_epi32(codes, _mm256_set1_epi32(p.bits));
  return level;
}

/// One block of 16 keys, eight to a register, times `Heads` queries. In 16-bit halves: the pair
/// sums of vpmaddubsw would saturate.
template <int Heads>
VATTN_AVX2 void scan_block(const scan_pass& p, const std::uint8_t* codes, const std::int8_t* x,
                           std::int32_t* out) noexcept {
  __m256i sum[std::size_t{2 * Heads}], word[2], even[2], odd[2];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm256_setzero_si256();
  for (index_t t = 0; t < p.words; ++t) {
    const auto* at = static_cast<const __m256i*>(static_cast<const void*>(codes + t * 64));
    VATTN_UNROLL
    for (int b = 0; b < 2; ++b) word[b] = _mm256_loadu_si256(at + b);
    for (int bit = 0; bit < 8; bit += p.bits, x += 4) {
      VATTN_UNROLL
      for (int b = 0; b < 2; ++b) {
        const __m256i level = next_levels(p, word[b]);
        even[b] = _mm256_and_si256(level, _mm256_set1_epi16(0xff));
        odd[b] = _mm256_srli_epi16(level, 8);
      }
      VATTN_UNROLL
      for (int h = 0; h < Heads; ++h) {
        const __m256i q = query_bytes(x + h * p.x_stride), q_odd = _mm256_srai_epi16(q, 8);
        const __m256i q_even = _mm256_srai_epi16(_mm256_slli_epi16(q, 8), 8);
        VATTN_UNROLL
        for (int b = 0; b < 2; ++b) {
          const __m256i pair = _mm256_add_epi32(_mm256_madd_epi16(even[b], q_even),
                                                _mm256_madd_epi16(odd[b], q_odd));
          sum[2 * h + b] = _mm256_add_epi32(sum[2 * h + b], pair);
        }
      }
    }
  }
  VATTN_UNROLL
  for (int i = 0; i < 2 * Heads; ++i) {
    std::int32_t* to = out + i / 2 * p.out_stride + i % 2 * 8;
    _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(to)), sum[i]);
  }
  _mm256_zeroupper();
}

/// One block at a time, heads by fours, twos and ones while the codes are in L1.
inline void scan_codes(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                       const std::uint8_t* levels, const std::int8_t* x, index_t x_stride,
                       int heads, std::int32_t* out, index_t out_stride) noexcept {
  static constexpr scan_tile tiles[3] = {scan_block<1>, scan_block<2>, scan_block<4>};
  const scan_pass p{bits, words, levels, x_stride, out_stride};
  for (index_t block = 0; block < blocks; ++block, codes += words * 64, out += 16) {
    for (int h = 0; h < heads;) {
      const int size = heads - h >= 4 ? 2 : heads - h >= 2 ? 1 : 0;
      tiles[size](p, codes, x + h * x_stride, out + h * out_stride);
      h += 1 << size;
    }
  }
}

VATTN_AVX2 inline void match_signs(const std::uint64_t* signatures, index_t count, int words,
                                   const std::uint64_t* query, float* out) noexcept {
  for (index_t i = 0; i < count; ++i, signatures += words) {
    int different = 0;
    for (int w = 0; w < words; ++w) different += std::popcount(signatures[w] ^ query[w]);
    out[i] = static_cast<float>(64 * words - 2 * different);
  }
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
