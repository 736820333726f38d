// SPDX-License-Identifier: Apache-2.0
/// @file
/// Kernels on plain arrays, AVX-512 row: maximum, exp, scaling, comparison, random numbers; contracts in
/// kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <bit>
#include <cstdint>
#include <limits>

#include "vattention/kernels/avx512.hpp"
#include "vattention/kernels/scalar.hpp"

#define VATTN_AVX512 VATTN_TARGET("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,popcnt")

#if !defined(__clang__)
#pragma GCC diagnostic push
// The intrinsics of g++ 12 start from a variable set to itself (GCC bug 105593).
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif

namespace vattn::kernels::avx512 {

/// vmaxps returns its second operand when one is NaN, so the running maximum stands there.
VATTN_AVX512 inline float max_of(const float* x, index_t count) noexcept {
  const __m512 least = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  __m512 a = least, b = least;
  index_t i = 0;
  for (; i + 32 <= count; i += 32) {
    a = _mm512_max_ps(_mm512_loadu_ps(x + i), a);
    b = _mm512_max_ps(_mm512_loadu_ps(x + i + 16), b);
  }
  for (; i < count; i += 16) {
    a = _mm512_max_ps(_mm512_mask_loadu_ps(least, low_mask(count - i), x + i), a);
  }
  const float largest = _mm512_reduce_max_ps(_mm512_max_ps(a, b));
  _mm256_zeroupper();
  return largest;
}

/// exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 7 (Cephes expf) for e^r. The
/// clamp keeps n small and returns its second operand, x, when that is NaN. Subnormal results, slow
/// on many CPUs, become 0; the comparison holds for NaN.
VATTN_AVX512 VATTN_ALWAYS_INLINE __m512 exp_of(__m512 x) noexcept {
  const __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-87.33654f), _CMP_NLT_UQ);
  x = _mm512_min_ps(_mm512_set1_ps(100.0f), x);
  const __m512 turns = _mm512_mul_ps(x, _mm512_set1_ps(1.44269504f));
  const __m512 n = _mm512_cvtepi32_ps(_mm512_cvtps_epi32(turns));
  __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
  r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, r);
  return _mm512_maskz_scalef_ps(normal, _mm512_add_ps(p, _mm512_set1_ps(1.0f)), n);
}

/// The sum of `exp_shifted` alone: 64 floats are added as floats first.
VATTN_AVX512 inline double exp_sum(const float* x, index_t count, float shift) noexcept {
  const __m512 minus = _mm512_set1_ps(shift);
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  for (index_t i = 0; i < count; i += 64) {
    __m512 part = _mm512_setzero_ps();
    VATTN_UNROLL
    for (index_t k = i; k < i + 64; k += 16) {
      const __mmask16 mask = k < count ? low_mask(count - k) : __mmask16{0};
      const __m512 v = _mm512_maskz_loadu_ps(mask, x + k);
      part = _mm512_mask_add_ps(part, mask, part, exp_of(_mm512_sub_ps(v, minus)));
    }
    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(part)));
    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(part, 1)));
  }
  const double sum = _mm512_reduce_add_pd(_mm512_add_pd(low, high));
  _mm256_zeroupper();
  return sum;
}

VATTN_AVX512 inline double exp_shifted(const float* x, index_t count, float shift,
                                       float* out) noexcept {
  if (out == nullptr) return exp_sum(x, count, shift);
  const __m512 minus = _mm512_set1_ps(shift);
  __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
  for (index_t i = 0; i < count; i += 16) {
    const __mmask16 mask = low_mask(count - i);
    const __m512 v = _mm512_maskz_loadu_ps(mask, x + i);
    const __m512 e = _mm512_maskz_mov_ps(mask, exp_of(_mm512_sub_ps(v, minus)));
    _mm512_mask_storeu_ps(out + i, mask, e);
    low = _mm512_add_pd(low, _mm512_cvtps_pd(_mm512_castps512_ps256(e)));
    high = _mm512_add_pd(high, _mm512_cvtps_pd(_mm512_extractf32x8_ps(e, 1)));
  }
  const double sum = _mm512_reduce_add_pd(_mm512_add_pd(low, high));
  _mm256_zeroupper();
  return sum;
}

VATTN_AVX512 inline void scale_sums(const std::int32_t* sums, const std::uint16_t* factors,
                                    index_t count, std::int32_t times, std::int32_t plus,
                                    float step, float offset, float* out) noexcept {
  for (index_t i = 0; i < count; i += 16) {
    const index_t left = count - i;
    const auto lanes = static_cast<__mmask16>(left >= 16 ? 0xFFFF : (1U << left) - 1U);
    const __m512i sum = _mm512_maskz_loadu_epi32(lanes, sums + i);
    const __m512i whole = _mm512_add_epi32(_mm512_mullo_epi32(sum, _mm512_set1_epi32(times)),
                                           _mm512_set1_epi32(plus));
    const __m512 scaled = _mm512_mul_ps(_mm512_set1_ps(step), _mm512_cvtepi32_ps(whole));
    const __m512 factor = _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(lanes, factors + i));
    // A rounding intrinsic with an explicit mode, so that no compiler fuses product and sum.
    const __m512 product =
        _mm512_mul_round_ps(factor, scaled, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm512_mask_storeu_ps(out + i, lanes, _mm512_add_ps(product, _mm512_set1_ps(offset)));
  }
  _mm256_zeroupper();
}

/// Appends the positions of 16 lanes that are hits: a whole register, of which what is too much is overwritten
/// or left over.
VATTN_AVX512 VATTN_ALWAYS_INLINE void append_hits(__mmask16 hits, index_t i, row_t* out,
                                                  index_t& found) noexcept {
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i position = _mm512_add_epi32(lane, _mm512_set1_epi32(static_cast<int>(i)));
  _mm512_storeu_si512(out + found, _mm512_maskz_compress_epi32(hits, position));
  found += std::popcount(static_cast<unsigned>(hits));
}

/// Four registers at a time, which are passed over at once where hits are rare.
VATTN_AVX512 inline index_t not_below(const float* x, index_t count, float threshold,
                                      row_t* out) noexcept {
  const __m512 least = _mm512_set1_ps(threshold);
  index_t found = 0;
  index_t i = 0;
  for (; i + 64 <= count; i += 64) {
    __mmask16 hits[4];
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k)
      hits[k] = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + i + 16 * k), least, _CMP_NLT_UQ);
    if ((hits[0] | hits[1] | hits[2] | hits[3]) == 0) continue;
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) append_hits(hits[k], i + 16 * k, out, found);
  }
  for (; i + 16 <= count; i += 16)
    append_hits(_mm512_cmp_ps_mask(_mm512_loadu_ps(x + i), least, _CMP_NLT_UQ), i, out, found);
  for (; i < count; ++i) {
    out[found] = static_cast<row_t>(i);
    found += x[i] < threshold ? 0 : 1;
  }
  _mm256_zeroupper();
  return found;
}

/// A counter a lane for each of the five.
VATTN_AVX512 inline void count_reaching(const std::uint16_t* x, index_t count, std::uint16_t first,
                                        index_t* out) noexcept {
  const __m512i one = _mm512_set1_epi16(1), all = _mm512_set1_epi16(-1);
  __m512i least[4], found[5] = {};
  for (int j = 0; j < 4; ++j) least[j] = _mm512_set1_epi16(static_cast<short>(first + j));
  index_t i = 0;
  for (; i + 32 <= count; i += 32) {
    const __m512i v = _mm512_loadu_si512(x + i);
    VATTN_UNROLL
    for (int j = 0; j < 4; ++j)
      found[j] =
          _mm512_mask_add_epi16(found[j], _mm512_cmpge_epu16_mask(v, least[j]), found[j], one);
    found[4] = _mm512_mask_add_epi16(found[4], _mm512_cmpeq_epu16_mask(v, all), found[4], one);
  }
  scalar::count_reaching(x + i, count - i, first, out);
  for (int j = 0; j < 5; ++j) {
    const __m512i pairs = _mm512_add_epi32(_mm512_and_si512(found[j], _mm512_set1_epi32(0xFFFF)),
                                           _mm512_srli_epi32(found[j], 16));
    out[j] += _mm512_reduce_add_epi32(pairs);
  }
  _mm256_zeroupper();
}

/// A word of marks from two registers.
VATTN_AVX512 inline void mark_reaching(const std::uint16_t* x, index_t count,
                                       std::uint16_t threshold, std::uint64_t* above,
                                       std::uint64_t* equal) noexcept {
  const __m512i at = _mm512_set1_epi16(static_cast<short>(threshold));
  index_t i = 0;
  for (; i + 64 <= count; i += 64) {
    const __m512i low = _mm512_loadu_si512(x + i), high = _mm512_loadu_si512(x + i + 32);
    above[i / 64] = std::uint64_t{_mm512_cmpgt_epu16_mask(low, at)} |
                    std::uint64_t{_mm512_cmpgt_epu16_mask(high, at)} << 32U;
    equal[i / 64] = std::uint64_t{_mm512_cmpeq_epu16_mask(low, at)} |
                    std::uint64_t{_mm512_cmpeq_epu16_mask(high, at)} << 32U;
  }
  _mm256_zeroupper();
  scalar::mark_reaching(x + i, count - i, threshold, above + i / 64, equal + i / 64);
}

/// Eight blocks of Philox4x32-10 at a time, one in each 64-bit lane, of which only the low half counts:
/// the multiplication takes no more.
VATTN_AVX512 inline void random_blocks(const std::uint32_t* stream, std::uint64_t first,
                                       index_t count, std::uint64_t* out) noexcept {
  const __m512i even = _mm512_set1_epi64(0xD2511F53), odd = _mm512_set1_epi64(0xCD9E8D57);
  const __m512i low = _mm512_set1_epi64(0xFFFFFFFF);
  const __m512i front = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
  const __m512i back = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
  std::uint64_t keys[20];
  for (std::uint32_t round = 0; round < 10; ++round) {
    keys[2 * round] = stream[0] + round * 0x9E3779B9U;
    keys[2 * round + 1] = stream[1] + round * 0xBB67AE85U;
  }
  for (index_t i = 0; i < count; i += 8) {
    const std::uint64_t block = first + static_cast<std::uint64_t>(i);
    const __m512i number = _mm512_add_epi64(_mm512_set1_epi64(static_cast<long long>(block)),
                                            _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7));
    __m512i c0 = number, c1 = _mm512_srli_epi64(number, 32);
    __m512i c2 = _mm512_set1_epi64(stream[2]), c3 = _mm512_set1_epi64(stream[3]);
    VATTN_UNROLL
    for (int round = 0; round < 10; ++round) {
      const __m512i key0 = _mm512_set1_epi64(static_cast<long long>(keys[2 * round]));
      const __m512i key1 = _mm512_set1_epi64(static_cast<long long>(keys[2 * round + 1]));
      const __m512i a = _mm512_mul_epu32(c0, even), b = _mm512_mul_epu32(c2, odd);
      c0 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(b, 32), c1, key0, 0x96);
      c2 = _mm512_ternarylogic_epi64(_mm512_srli_epi64(a, 32), c3, key1, 0x96);
      c1 = b;
      c3 = a;
    }
    const __m512i x = _mm512_or_si512(_mm512_and_si512(c0, low), _mm512_slli_epi64(c1, 32));
    const __m512i y = _mm512_or_si512(_mm512_and_si512(c2, low), _mm512_slli_epi64(c3, 32));
    const index_t left = 2 * (count - i);
    const auto mask = left >= 16 ? 0xFFFFU : (1U << left) - 1U;
    _mm512_mask_storeu_epi64(out + 2 * i, static_cast<__mmask8>(mask),
                             _mm512_permutex2var_epi64(x, front, y));
    _mm512_mask_storeu_epi64(out + 2 * i + 8, static_cast<__mmask8>(mask >> 8),
                             _mm512_permutex2var_epi64(x, back, y));
  }
  _mm256_zeroupper();
}

}  // namespace vattn::kernels::avx512

#if !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#undef VATTN_AVX512

#endif  // VATTN_X86_KERNELS
