// SPDX-License-Identifier: Apache-2.0
/// @file
/// Codes of single keys, AVX-512 row of kernels; contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "vattention/kernels/avx512.hpp"
#include "vattention/kernels/avx512_scan.hpp"
#include "vattention/kernels/prefetch.hpp"

#define VATTN_AVX512_VNNI \
  VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// Bytes of one head's query that are kept in the order of the codes on the stack: 16 words of 4 a
/// register, one register a field.
inline constexpr index_t arranged_bytes = 4096;

/// Four keys: the sums of their 16 lanes in the lowest four lanes.
VATTN_AVX512_VNNI VATTN_ALWAYS_INLINE __m128i sum_of_lanes(const __m512i* v) noexcept {
  const __m512i ab =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[0], v[1]), _mm512_unpackhi_epi32(v[0], v[1]));
  const __m512i cd =
      _mm512_add_epi32(_mm512_unpacklo_epi32(v[2], v[3]), _mm512_unpackhi_epi32(v[2], v[3]));
  const __m512i all =
      _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  const __m256i half =
      _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
  return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/// What all keys of a pass share; queries lie `arranged_bytes` from each other.
struct codes_pass {
  index_t words;
  const std::uint8_t* levels;
  const std::int8_t* arranged;
  std::int32_t* out;
  index_t out_stride;
};

/// Sums of four keys and `Heads` queries, those of a query side by side.
template <int Bits, int Heads>
VATTN_AVX512_VNNI VATTN_ALWAYS_INLINE void dot_four(const codes_pass& p, const void* const* rows,
                                                    __m128i* out) noexcept {
  const __m512i table = level_table(p.levels);
  __m512i sum[std::size_t{4 * Heads}];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_si512();
  const std::int8_t* q = p.arranged;
  for (index_t t = 0; t < p.words; t += 16, q += 64 * (8 / Bits)) {
    const __mmask16 lanes = low_mask(p.words - t);
    __m512i codes[4];
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k)
      codes[k] = _mm512_maskz_loadu_epi32(lanes, static_cast<const std::uint8_t*>(rows[k]) + 4 * t);
    VATTN_UNROLL
    for (int field = 0; field < 8 / Bits; ++field) {
      __m512i level[4];
      VATTN_UNROLL
      for (int k = 0; k < 4; ++k) level[k] = field_levels<Bits>(codes[k], field, table);
      VATTN_UNROLL
      for (int h = 0; h < Heads; ++h) {
        const __m512i query = _mm512_loadu_si512(q + h * arranged_bytes + 64 * field);
        VATTN_UNROLL
        for (int k = 0; k < 4; ++k)
          sum[4 * h + k] = _mm512_dpbusd_epi32(sum[4 * h + k], level[k], query);
      }
    }
  }
  VATTN_UNROLL
  for (int h = 0; h < Heads; ++h) out[h] = sum_of_lanes(sum + 4 * h);
}

/// A query in the order of the codes, zeros behind its last word.
template <int Bits>
void arrange_codes_query(const std::int8_t* x, index_t words, std::int8_t* out) noexcept {
  constexpr index_t fields = 8 / Bits;
  std::memset(out, 0, static_cast<std::size_t>((words + 15) / 16 * 64 * fields));
  for (index_t t = 0; t < words; ++t)
    for (index_t field = 0; field < fields; ++field)
      std::memcpy(out + t / 16 * 64 * fields + 64 * field + t % 16 * 4,
                  x + 4 * (t * fields + field), 4);
}

template <int Bits, int Heads>
VATTN_AVX512_VNNI void dot_codes_of(const codes_pass& p, const void* const* rows, index_t count,
                                    index_t upcoming) noexcept {
  constexpr index_t ahead = 16;
  const bool to_l1 = active_plan().to_l1;
  for (index_t i = 0; i < count; i += 4) {
    const index_t size = std::min<index_t>(4, count - i);
    for (index_t k = i + ahead; k < std::min(i + ahead + 4, count + upcoming); ++k)
      prefetch_lines(rows[k], 4 * p.words, to_l1);
    const void* four[4];
    for (index_t k = 0; k < 4; ++k) four[k] = rows[i + (k < size ? k : 0)];
    __m128i sums[std::size_t{Heads}];
    dot_four<Bits, Heads>(p, four, sums);
    VATTN_UNROLL
    for (int h = 0; h < Heads; ++h)
      _mm_mask_storeu_epi32(p.out + h * p.out_stride + i, static_cast<__mmask8>((1U << size) - 1U),
                            sums[h]);
  }
  _mm256_zeroupper();
}

/// Queries by fours, twos and ones; the first ones ask for the rows that come.
template <int Bits>
void dot_codes_bits(codes_pass p, const void* const* rows, index_t count, index_t upcoming,
                    const std::int8_t* x, index_t x_stride, int heads) noexcept {
  alignas(64) std::int8_t arranged[4 * arranged_bytes];
  p.arranged = arranged;
  for (int h = 0; h < heads; upcoming = 0) {
    const int left = heads - h;
    const int size = left >= 4 ? 4 : left >= 2 ? 2 : 1;
    for (int k = 0; k < size; ++k, x += x_stride)
      arrange_codes_query<Bits>(x, p.words, arranged + k * arranged_bytes);
    (size == 4   ? dot_codes_of<Bits, 4>
     : size == 2 ? dot_codes_of<Bits, 2>
                 : dot_codes_of<Bits, 1>)(p, rows, count, upcoming);
    p.out += size * p.out_stride;
    h += size;
  }
}

/// For CPUs with AVX512-VNNI; the AVX2 row's serves the others.
inline void dot_codes_vnni(int bits, const void* const* rows, index_t count, index_t upcoming,
                           index_t words, const std::uint8_t* levels, const std::int8_t* x,
                           index_t x_stride, int heads, std::int32_t* out,
                           index_t out_stride) noexcept {
  VATTN_ASSERT((words + 15) / 16 * 64 * (8 / bits) <= arranged_bytes);
  const codes_pass p{words, levels, nullptr, out, out_stride};
  switch (bits) {
    case 1: return dot_codes_bits<1>(p, rows, count, upcoming, x, x_stride, heads);
    case 2: return dot_codes_bits<2>(p, rows, count, upcoming, x, x_stride, heads);
    case 4: return dot_codes_bits<4>(p, rows, count, upcoming, x, x_stride, heads);
    default: return dot_codes_bits<8>(p, rows, count, upcoming, x, x_stride, heads);
  }
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512_VNNI

#endif  // VATTN_X86_KERNELS
