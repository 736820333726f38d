// SPDX-License-Identifier: Apache-2.0
/// @file
/// From sums of a code scan to log-weights and to rows that a draw may take, AVX-512 row of kernels;
/// contracts in kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <limits>

#include "vattention/kernels/avx512.hpp"
#include "vattention/kernels/scalar_proposals.hpp"
#include "vattention/kernels/terms.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

VATTN_AVX512 inline void weigh_sums(const std::int32_t* sums, const std::uint16_t* factors,
                                    const float* norms, index_t count, const weigh_terms& by,
                                    float* out) noexcept {
  const __m512 slope = _mm512_set1_ps(by.slope), rise = _mm512_set1_ps(by.rise);
  const __m512 kappa = _mm512_set1_ps(by.kappa), offset = _mm512_set1_ps(by.offset);
  for (index_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = low_mask(count - i);
    const __m512 sum = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(lanes, sums + i));
    const __m512 factor = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, factors + i));
    const __m512 norm = _mm512_maskz_loadu_ps(lanes, norms + i);
    const __m512 lift = _mm512_fmadd_ps(kappa, _mm512_mul_ps(norm, norm), offset);
    const __m512 inner = _mm512_fmadd_ps(slope, sum, rise);
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_fmadd_ps(factor, inner, lift));
  }
  _mm256_zeroupper();
}

VATTN_AVX512 inline void byte_norms(const std::uint8_t* bytes, index_t count, float* out) noexcept {
  const __m512 octave = _mm512_broadcast_f32x4(_mm_loadu_ps(scalar::quarter_octaves));
  const __m512i last = _mm512_set1_epi32(255);
  for (index_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = low_mask(count - i);
    const __m512i byte = _mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(lanes, bytes + i));
    const __m512i exponent = _mm512_add_epi32(_mm512_srli_epi32(byte, 2), _mm512_set1_epi32(95));
    const __m512 power = _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
    const __mmask16 some = _mm512_test_epi32_mask(byte, byte);
    const __mmask16 beyond = _mm512_cmpeq_epi32_mask(byte, last);
    const __m512 norm = _mm512_maskz_mul_ps(some, power, _mm512_permutevar_ps(octave, byte));
    const __m512 infinite = _mm512_set1_ps(std::numeric_limits<float>::infinity());
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_mask_mov_ps(norm, beyond, infinite));
  }
  _mm256_zeroupper();
}

/// Sixteen rows of one head: true where it may be drawn, NaN included.
VATTN_AVX512 VATTN_ALWAYS_INLINE __mmask16 reached(__m512 t, const reach_terms& by, __m512 norm,
                                                   __m512 least) noexcept {
  const __m512 x = _mm512_fmadd_ps(
      _mm512_set1_ps(log2_e), _mm512_sub_ps(t, _mm512_set1_ps(by.shift)), _mm512_set1_ps(by.rise));
  // vmaxps returns its second operand when one is NaN.
  const __m512 most = _mm512_max_ps(_mm512_set1_ps(by.floor), x);
  return _mm512_cmp_ps_mask(_mm512_fmadd_ps(_mm512_set1_ps(by.reach), norm, most), least,
                            _CMP_NLT_UQ);
}

VATTN_AVX512 inline index_t within_reach(const float* t, index_t t_stride, int heads,
                                         const reach_terms* by, const float* norms,
                                         const std::uint16_t* numbers, index_t count,
                                         row_t* out) noexcept {
  const __m512i step = _mm512_set1_epi32(16);
  const __m512 bias = _mm512_set1_ps(158.0F + reach_margin);
  __m512i position = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  index_t found = 0;
  for (index_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = low_mask(count - i);
    const __m512i number = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, numbers + i));
    const __m512 half = _mm512_cvtepi32_ps(_mm512_slli_epi32(number, 15));
    const __m512 least = _mm512_fmsub_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(half)),
                                         _mm512_set1_ps(0x1p-23F), bias);
    const __m512 norm =
        norms == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(lanes, norms + i);
    unsigned hits = 0;
    for (int h = 0; h < heads; ++h)
      hits |= reached(_mm512_maskz_loadu_ps(lanes, t + h * t_stride + i), by[h], norm, least);
    hits &= lanes;
    const int size = std::popcount(hits);
    // A register's worth where there is room for it: what is too much is overwritten or left over.
    const __m512i rows = _mm512_maskz_compress_epi32(static_cast<__mmask16>(hits), position);
    if (count - i >= 16)
      _mm512_storeu_si512(out + found, rows);
    else
      _mm512_mask_storeu_epi32(out + found, low_mask(size), rows);
    found += size;
    position = _mm512_add_epi32(position, step);
  }
  _mm256_zeroupper();
  return found;
}

VATTN_AVX512 inline void proposal_logs(const float* t, const float* norms,
                                       const proposal_terms& first, const float* finer,
                                       const proposal_terms& second, index_t count,
                                       float* out) noexcept {
  const __m512 largest = _mm512_set1_ps(std::numeric_limits<float>::max());
  const __m512 hidden = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const __m512 certain = _mm512_set1_ps(certain_log), reach = _mm512_set1_ps(first.reach);
  const __m512 offset = _mm512_set1_ps(first.offset), floor = _mm512_set1_ps(first.floor);
  const __m512 offset_2 = _mm512_set1_ps(second.offset), floor_2 = _mm512_set1_ps(second.floor);
  for (index_t i = 0; i < count; i += 16) {
    const __mmask16 lanes = low_mask(count - i);
    const __m512 weight = _mm512_maskz_loadu_ps(lanes, t + i);
    // vmaxps and vminps return their second operand when one is NaN.
    __m512 x = _mm512_max_ps(floor, _mm512_add_ps(weight, offset));
    if (norms != nullptr) x = _mm512_fmadd_ps(reach, _mm512_maskz_loadu_ps(lanes, norms + i), x);
    const __mmask16 far = _mm512_cmp_ps_mask(x, certain, _CMP_NLT_UQ);
    const __mmask16 sure = _mm512_cmp_ps_mask(weight, largest, _CMP_NLT_UQ);
    if (finer != nullptr) {
      const __m512 better = _mm512_add_ps(_mm512_maskz_loadu_ps(lanes, finer + i), offset_2);
      x = _mm512_min_ps(_mm512_max_ps(floor_2, better), x);
    }
    x = _mm512_mask_mov_ps(x, static_cast<__mmask16>(far | sure), largest);
    x = _mm512_mask_mov_ps(x, _mm512_cmp_ps_mask(weight, hidden, _CMP_EQ_OQ), hidden);
    _mm512_mask_storeu_ps(out + i, lanes, x);
  }
  _mm256_zeroupper();
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512

#endif  // VATTN_X86_KERNELS
