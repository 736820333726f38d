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

/// What all keys of a pass share.
struct codes_pass {
  index_t words;
  const std::uint8_t* levels;
  const std::int8_t* arranged;
};

/// Four keys times one query.
template <int Bits>
VATTN_AVX512_VNNI VATTN_ALWAYS_INLINE __m128i dot_four(const codes_pass& p,
                                                       const void* const* rows) noexcept {
  const __m512i table = level_table(p.levels);
  __m512i sum[4];
  VATTN_UNROLL
  for (auto& s : sum) s = _mm512_setzero_si512();
  const std::int8_t* q = p.arranged;
  for (index_t t = 0; t < p.words; t += 16, q += 64 * (8 / Bits)) {
    const __mmask16 lanes = low_mask(p.words - t);
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) {
      const __m512i codes =
          _mm512_maskz_loadu_epi32(lanes, static_cast<const std::uint8_t*>(rows[k]) + 4 * t);
      VATTN_UNROLL
      for (int field = 0; field < 8 / Bits; ++field)
        sum[k] = _mm512_dpbusd_epi32(sum[k], field_levels<Bits>(codes, field, table),
                                     _mm512_loadu_si512(q + 64 * field));
    }
  }
  return sum_of_lanes(sum);
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

template <int Bits>
VATTN_AVX512_VNNI void dot_codes_of(const codes_pass& p, const void* const* rows, index_t count,
                                    index_t upcoming, std::int32_t* out) noexcept {
  constexpr index_t ahead = 16;
  const bool to_l1 = active_plan().to_l1;
  for (index_t i = 0; i < count; i += 4) {
    const index_t size = std::min<index_t>(4, count - i);
    for (index_t k = i + ahead; k < std::min(i + ahead + 4, count + upcoming); ++k)
      prefetch_lines(rows[k], 4 * p.words, to_l1);
    const void* four[4];
    for (index_t k = 0; k < 4; ++k) four[k] = rows[i + (k < size ? k : 0)];
    _mm_mask_storeu_epi32(out + i, static_cast<__mmask8>((1U << size) - 1U),
                          dot_four<Bits>(p, four));
  }
  _mm256_zeroupper();
}

template <int Bits>
void dot_codes_bits(const codes_pass& p, const void* const* rows, index_t count, index_t upcoming,
                    const std::int8_t* x, index_t x_stride, int heads, std::int32_t* out,
                    index_t out_stride) noexcept {
  alignas(64) std::int8_t arranged[arranged_bytes];
  for (int h = 0; h < heads; ++h) {
    arrange_codes_query<Bits>(x + h * x_stride, p.words, arranged);
    dot_codes_of<Bits>({p.words, p.levels, arranged}, rows, count, h == 0 ? upcoming : 0,
                       out + h * out_stride);
  }
}

/// For CPUs with AVX512-VNNI; the AVX2 row's serves the others.
inline void dot_codes_vnni(int bits, const void* const* rows, index_t count, index_t upcoming,
                           index_t words, const std::uint8_t* levels, const std::int8_t* x,
                           index_t x_stride, int heads, std::int32_t* out,
                           index_t out_stride) noexcept {
  VATTN_ASSERT((words + 15) / 16 * 64 * (8 / bits) <= arranged_bytes);
  const codes_pass p{words, levels, nullptr};
  switch (bits) {
    case 1: return dot_codes_bits<1>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    case 2: return dot_codes_bits<2>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    case 4: return dot_codes_bits<4>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
    default:
      return dot_codes_bits<8>(p, rows, count, upcoming, x, x_stride, heads, out, out_stride);
  }
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512_VNNI

#endif  // VATTN_X86_KERNELS
