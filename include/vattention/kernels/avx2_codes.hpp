// SPDX-License-Identifier: Apache-2.0
/// @file
/// Codes of single keys, AVX2 row of kernels; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/kernels/avx2_scan.hpp"
#include "vattention/kernels/prefetch.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

/// Bytes of one head's query that are kept in the order of the codes on the stack: eight words of 4 a
/// register, one register a field.
inline constexpr index_t arranged_bytes = 4096;

/// What all keys of a pass share.
struct codes_pass {
  index_t words;
  const std::uint8_t* levels;
  const std::int8_t* arranged;
};

/// Eight words of codes, or as many as there are; reads no byte more.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i load_words(const std::uint8_t* at, index_t words) noexcept {
  if (words >= 8)
    return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(at)));
  const __m256i lanes = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(words)),
                                           _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  return _mm256_maskload_epi32(static_cast<const int*>(static_cast<const void*>(at)), lanes);
}

/// Four keys times one query, in the lanes of the result.
template <int Bits>
VATTN_AVX2 VATTN_ALWAYS_INLINE __m128i dot_four(const codes_pass& p,
                                                const void* const* rows) noexcept {
  const __m256i table = level_table(p.levels);
  __m256i sum[4];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm256_setzero_si256();
  const std::int8_t* q = p.arranged;
  for (index_t t = 0; t < p.words; t += 8, q += 32 * (8 / Bits)) {
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) {
      const __m256i codes =
          load_words(static_cast<const std::uint8_t*>(rows[k]) + 4 * t, p.words - t);
      VATTN_UNROLL
      for (int field = 0; field < 8 / Bits; ++field) {
        const __m256i query = _mm256_loadu_si256(
            static_cast<const __m256i*>(static_cast<const void*>(q + 32 * field)));
        sum[k] = widen(sum[k], pair_sums<Bits>(field_levels<Bits>(codes, field, table), query));
      }
    }
  }
  const __m256i ab = _mm256_hadd_epi32(sum[0], sum[1]), cd = _mm256_hadd_epi32(sum[2], sum[3]);
  const __m256i all = _mm256_hadd_epi32(ab, cd);
  return _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
}

/// A query in the order of the codes, zeros behind its last word.
template <int Bits>
void arrange_codes_query(const std::int8_t* x, index_t words, std::int8_t* out) noexcept {
  constexpr index_t fields = 8 / Bits;
  std::memset(out, 0, static_cast<std::size_t>((words + 7) / 8 * 32 * fields));
  for (index_t t = 0; t < words; ++t)
    for (index_t field = 0; field < fields; ++field)
      std::memcpy(out + t / 8 * 32 * fields + 32 * field + t % 8 * 4, x + 4 * (t * fields + field),
                  4);
}

template <int Bits>
VATTN_AVX2 void dot_codes_of(const codes_pass& p, const void* const* rows, index_t count,
                             index_t upcoming, std::int32_t offset, std::int32_t* out) noexcept {
  constexpr index_t ahead = 16;
  const bool to_l1 = active_plan().to_l1;
  for (index_t i = 0; i < count; i += 4) {
    const index_t size = std::min<index_t>(4, count - i);
    for (index_t k = i + ahead; k < std::min(i + ahead + 4, count + upcoming); ++k)
      prefetch_lines(rows[k], 4 * p.words, to_l1);
    const void* four[4];
    for (index_t k = 0; k < 4; ++k) four[k] = rows[i + (k < size ? k : 0)];
    alignas(16) std::int32_t sums[4];
    _mm_store_si128(static_cast<__m128i*>(static_cast<void*>(sums)),
                    _mm_add_epi32(dot_four<Bits>(p, four), _mm_set1_epi32(offset)));
    for (index_t k = 0; k < size; ++k) out[i + k] = sums[k];
  }
  _mm256_zeroupper();
}

template <int Bits>
void dot_codes_bits(const codes_pass& p, const void* const* rows, index_t count, index_t upcoming,
                    const std::int8_t* x, index_t x_stride, int heads, std::int32_t* out,
                    index_t out_stride) noexcept {
  alignas(64) std::int8_t arranged[arranged_bytes];
  for (int h = 0; h < heads; ++h) {
    const std::int8_t* query = x + h * x_stride;
    arrange_codes_query<Bits>(query, p.words, arranged);
    dot_codes_of<Bits>({p.words, p.levels, arranged}, rows, count, h == 0 ? upcoming : 0,
                       level_offset<Bits>(query, p.words * (32 / Bits)), out + h * out_stride);
  }
}

inline void dot_codes(int bits, const void* const* rows, index_t count, index_t upcoming,
                      index_t words, const std::uint8_t* levels, const std::int8_t* x,
                      index_t x_stride, int heads, std::int32_t* out, index_t out_stride) noexcept {
  VATTN_ASSERT((words + 7) / 8 * 32 * (8 / bits) <= arranged_bytes);
  const codes_pass p{words, levels, nullptr};
  switch (bits) {
    case 1: return dot_codes_bits<1>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    case 2: return dot_codes_bits<2>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    case 4: return dot_codes_bits<4>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    default:
      return dot_codes_bits<8>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
  }
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
