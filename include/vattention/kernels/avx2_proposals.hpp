// SPDX-License-Identifier: Apache-2.0
/// @file
/// From sums of a code scan to log-weights and to rows that a draw may take, AVX2 row of kernels; contracts
/// in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <cstdint>
#include <limits>

#include "vattention/kernels/avx2.hpp"
#include "vattention/kernels/avx2_array.hpp"
#include "vattention/kernels/scalar_proposals.hpp"
#include "vattention/kernels/terms.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

VATTN_AVX2 inline void weigh_sums(const std::int32_t* sums, const std::uint16_t* factors,
                                  const float* norms, index_t count, const weigh_terms& by,
                                  float* out) noexcept {
  const __m256 slope = _mm256_set1_ps(by.slope), rise = _mm256_set1_ps(by.rise);
  const __m256 kappa = _mm256_set1_ps(by.kappa), offset = _mm256_set1_ps(by.offset);
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 sum = _mm256_cvtepi32_ps(
        _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(sums + i))));
    const __m256 factor = _mm256_cvtph_ps(
        _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(factors + i))));
    const __m256 norm = _mm256_loadu_ps(norms + i);
    const __m256 lift = _mm256_fmadd_ps(kappa, _mm256_mul_ps(norm, norm), offset);
    const __m256 inner = _mm256_fmadd_ps(slope, sum, rise);
    _mm256_storeu_ps(out + i, _mm256_fmadd_ps(factor, inner, lift));
  }
  _mm256_zeroupper();
  scalar::weigh_sums(sums + i, factors + i, norms + i, count - i, by, out + i);
}

VATTN_AVX2 inline void byte_norms(const std::uint8_t* bytes, index_t count, float* out) noexcept {
  const __m256 octave = _mm256_broadcast_ps(
      static_cast<const __m128*>(static_cast<const void*>(scalar::quarter_octaves)));
  const __m256 infinite = _mm256_set1_ps(std::numeric_limits<float>::infinity());
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i byte = _mm256_cvtepu8_epi32(
        _mm_loadl_epi64(static_cast<const __m128i*>(static_cast<const void*>(bytes + i))));
    const __m256i exponent = _mm256_add_epi32(_mm256_srli_epi32(byte, 2), _mm256_set1_epi32(95));
    const __m256 power = _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    const __m256 norm = _mm256_mul_ps(power, _mm256_permutevar_ps(octave, byte));
    const __m256i none = _mm256_cmpeq_epi32(byte, _mm256_setzero_si256());
    const __m256i beyond = _mm256_cmpeq_epi32(byte, _mm256_set1_epi32(255));
    const __m256 known = _mm256_andnot_ps(_mm256_castsi256_ps(none), norm);
    _mm256_storeu_ps(out + i, _mm256_blendv_ps(known, infinite, _mm256_castsi256_ps(beyond)));
  }
  _mm256_zeroupper();
  scalar::byte_norms(bytes + i, count - i, out + i);
}

/// Eight rows of one head: all bits set where it may be drawn, NaN included.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256 reached(__m256 t, const reach_terms& by, __m256 norm,
                                              __m256 least) noexcept {
  const __m256 x = _mm256_fmadd_ps(
      _mm256_set1_ps(log2_e), _mm256_sub_ps(t, _mm256_set1_ps(by.shift)), _mm256_set1_ps(by.rise));
  // vmaxps returns its second operand when one is NaN.
  const __m256 most = _mm256_max_ps(_mm256_set1_ps(by.floor), x);
  return _mm256_cmp_ps(_mm256_fmadd_ps(_mm256_set1_ps(by.reach), norm, most), least, _CMP_NLT_UQ);
}

VATTN_AVX2 inline index_t within_reach(const float* t, index_t t_stride, int heads,
                                       const reach_terms* by, const float* norms,
                                       const std::uint16_t* numbers, index_t count,
                                       row_t* out) noexcept {
  const __m256 bias = _mm256_set1_ps(158.0F + reach_margin);
  index_t found = 0;
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i number = _mm256_cvtepu16_epi32(
        _mm_loadu_si128(static_cast<const __m128i*>(static_cast<const void*>(numbers + i))));
    const __m256 half = _mm256_cvtepi32_ps(_mm256_slli_epi32(number, 15));
    const __m256 least = _mm256_fmsub_ps(_mm256_cvtepi32_ps(_mm256_castps_si256(half)),
                                         _mm256_set1_ps(0x1p-23F), bias);
    const __m256 norm = norms == nullptr ? _mm256_setzero_ps() : _mm256_loadu_ps(norms + i);
    __m256 any = _mm256_setzero_ps();
    for (int h = 0; h < heads; ++h)
      any = _mm256_or_ps(any, reached(_mm256_loadu_ps(t + h * t_stride + i), by[h], norm, least));
    found += store_hits(static_cast<unsigned>(_mm256_movemask_ps(any)), i, out + found);
  }
  _mm256_zeroupper();
  const index_t more =
      scalar::within_reach(t + i, t_stride, heads, by, norms == nullptr ? nullptr : norms + i,
                           numbers + i, count - i, out + found);
  for (index_t k = found; k < found + more; ++k) out[k] += static_cast<row_t>(i);
  return found + more;
}

VATTN_AVX2 inline void proposal_logs(const float* t, const float* norms,
                                     const proposal_terms& first, const float* finer,
                                     const proposal_terms& second, index_t count,
                                     float* out) noexcept {
  const __m256 largest = _mm256_set1_ps(std::numeric_limits<float>::max());
  const __m256 hidden = _mm256_set1_ps(-std::numeric_limits<float>::infinity());
  const __m256 certain = _mm256_set1_ps(certain_log), reach = _mm256_set1_ps(first.reach);
  const __m256 offset = _mm256_set1_ps(first.offset), floor = _mm256_set1_ps(first.floor);
  const __m256 offset_2 = _mm256_set1_ps(second.offset), floor_2 = _mm256_set1_ps(second.floor);
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 weight = _mm256_loadu_ps(t + i);
    // vmaxps and vminps return their second operand when one is NaN.
    __m256 x = _mm256_max_ps(floor, _mm256_add_ps(weight, offset));
    if (norms != nullptr) x = _mm256_fmadd_ps(reach, _mm256_loadu_ps(norms + i), x);
    const __m256 sure = _mm256_or_ps(_mm256_cmp_ps(x, certain, _CMP_NLT_UQ),
                                     _mm256_cmp_ps(weight, largest, _CMP_NLT_UQ));
    if (finer != nullptr) {
      const __m256 better = _mm256_add_ps(_mm256_loadu_ps(finer + i), offset_2);
      x = _mm256_min_ps(_mm256_max_ps(floor_2, better), x);
    }
    x = _mm256_blendv_ps(x, largest, sure);
    x = _mm256_blendv_ps(x, hidden, _mm256_cmp_ps(weight, hidden, _CMP_EQ_OQ));
    _mm256_storeu_ps(out + i, x);
  }
  _mm256_zeroupper();
  scalar::proposal_logs(t + i, norms == nullptr ? nullptr : norms + i, first,
                        finer == nullptr ? nullptr : finer + i, second, count - i, out + i);
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
