// SPDX-License-Identifier: Apache-2.0
/// @file
/// Kernels on plain arrays, AVX2 row: maximum, exp, scaling, comparison, random numbers; contracts in
/// kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_X86_KERNELS

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>

#include "vattention/kernels/avx2.hpp"
#include "vattention/kernels/scalar.hpp"

#define VATTN_AVX2 VATTN_TARGET("avx2,fma,f16c,popcnt")

namespace vattn::kernels::avx2 {

/// vmaxps returns its second operand when one is NaN, so the running maximum stands there.
VATTN_AVX2 inline float max_of(const float* x, index_t count) noexcept {
  const float least = -std::numeric_limits<float>::infinity();
  __m256 a = _mm256_set1_ps(least), b = a;
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    a = _mm256_max_ps(_mm256_loadu_ps(x + i), a);
    b = _mm256_max_ps(_mm256_loadu_ps(x + i + 8), b);
  }
  alignas(32) float lane[8];
  _mm256_store_ps(lane, _mm256_max_ps(a, b));
  float largest = least;
  for (const float v : lane) largest = v > largest ? v : largest;
  for (; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  _mm256_zeroupper();
  return largest;
}

/// 2^n for integers n in [-126, 127].
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256 power_of_two(__m256i n) noexcept {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(n, _mm256_set1_epi32(127)), 23));
}

/// exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 7 (Cephes expf) for e^r. The
/// clamps keep n small; they return their second operand, x, when that is NaN. 2^n goes on in two
/// steps, for n can be 128. Subnormal results become 0; the comparison holds for NaN.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256 exp_of(__m256 x) noexcept {
  const __m256 least = _mm256_set1_ps(-87.33654f);
  const __m256 normal = _mm256_cmp_ps(x, least, _CMP_NLT_UQ);
  x = _mm256_min_ps(_mm256_set1_ps(100.0f), _mm256_max_ps(least, x));
  const __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                                   _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693359375f), x);
  r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.12194440e-4f), r);
  __m256 p = _mm256_set1_ps(1.9875691500e-4f);
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.3981999507e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(8.3334519073e-3f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(4.1665795894e-2f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.6666665459e-1f));
  p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(5.0000001201e-1f));
  p = _mm256_fmadd_ps(_mm256_mul_ps(r, r), p, r);
  p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
  const __m256i whole = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(whole, 1);
  p = _mm256_mul_ps(p, power_of_two(half));
  p = _mm256_mul_ps(p, power_of_two(_mm256_sub_epi32(whole, half)));
  return _mm256_and_ps(p, normal);
}

VATTN_AVX2 inline double exp_shifted(const float* x, index_t count, float shift,
                                     float* out) noexcept {
  const __m256 minus = _mm256_set1_ps(shift);
  __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256 e = exp_of(_mm256_sub_ps(_mm256_loadu_ps(x + i), minus));
    if (out != nullptr) _mm256_storeu_ps(out + i, e);
    low = _mm256_add_pd(low, _mm256_cvtps_pd(_mm256_castps256_ps128(e)));
    high = _mm256_add_pd(high, _mm256_cvtps_pd(_mm256_extractf128_ps(e, 1)));
  }
  alignas(32) double lane[4];
  _mm256_store_pd(lane, _mm256_add_pd(low, high));
  double sum = (lane[0] + lane[1]) + (lane[2] + lane[3]);
  if (i < count) {
    alignas(32) float rest[8] = {};
    std::copy(x + i, x + count, rest);
    _mm256_store_ps(rest, exp_of(_mm256_sub_ps(_mm256_load_ps(rest), minus)));
    for (const float* e = rest; i < count; ++i, ++e) {
      if (out != nullptr) out[i] = *e;
      sum += static_cast<double>(*e);
    }
  }
  _mm256_zeroupper();
  return sum;
}

VATTN_AVX2 inline void scale_sums(const std::int32_t* sums, const std::uint16_t* factors,
                                  index_t count, std::int32_t times, std::int32_t plus, float step,
                                  float offset, float* out) noexcept {
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i sum = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + i));
    const __m256i whole = _mm256_add_epi32(_mm256_mullo_epi32(sum, _mm256_set1_epi32(times)),
                                           _mm256_set1_epi32(plus));
    const __m256 scaled = _mm256_mul_ps(_mm256_set1_ps(step), _mm256_cvtepi32_ps(whole));
    const __m256 factor =
        _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(factors + i)));
    // Stored in between, so that no compiler fuses product and sum.
    _mm256_storeu_ps(out + i, _mm256_mul_ps(factor, scaled));
    asm volatile("" ::: "memory");
    _mm256_storeu_ps(out + i, _mm256_add_ps(_mm256_loadu_ps(out + i), _mm256_set1_ps(offset)));
  }
  _mm256_zeroupper();
  scalar::scale_sums(sums + i, factors + i, count - i, times, plus, step, offset, out + i);
}

/// For each set of eight lanes: their numbers, ascending, a byte each.
inline constexpr std::array<std::uint64_t, 256> lanes_of = [] {
  std::array<std::uint64_t, 256> all{};
  for (std::size_t set = 0; set < all.size(); ++set)
    for (std::uint64_t lane = 0, place = 0; lane < 8; ++lane)
      if ((set >> lane & 1U) != 0) all[set] |= lane << (8 * place++);
  return all;
}();

/// Writes first + k for the lanes k of `hits`, ascending, and returns their number. Always writes eight numbers.
VATTN_AVX2 VATTN_ALWAYS_INLINE index_t store_hits(unsigned hits, index_t first,
                                                  row_t* out) noexcept {
  const __m128i lanes = _mm_cvtsi64_si128(static_cast<long long>(lanes_of[hits]));
  const __m256i rows =
      _mm256_add_epi32(_mm256_cvtepu8_epi32(lanes), _mm256_set1_epi32(static_cast<int>(first)));
  _mm256_storeu_si256(static_cast<__m256i*>(static_cast<void*>(out)), rows);
  return std::popcount(hits);
}

VATTN_AVX2 inline index_t not_below(const float* x, index_t count, float threshold,
                                    row_t* out) noexcept {
  const __m256 least = _mm256_set1_ps(threshold);
  index_t found = 0;
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const int hits = _mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i), least, _CMP_NLT_UQ));
    found += store_hits(static_cast<unsigned>(hits), i, out + found);
  }
  for (; i < count; ++i)
    if (!(x[i] < threshold)) out[found++] = static_cast<row_t>(i);
  _mm256_zeroupper();
  return found;
}

/// Sixteen counts.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i load_counts(const std::uint16_t* at) noexcept {
  return _mm256_loadu_si256(static_cast<const __m256i*>(static_cast<const void*>(at)));
}
/// All ones where a count is not below the least.
VATTN_AVX2 VATTN_ALWAYS_INLINE __m256i reaching(__m256i counts, __m256i least) noexcept {
  return _mm256_cmpeq_epi16(_mm256_max_epu16(counts, least), counts);
}
/// A bit a lane of two registers of 16-bit lanes, all ones or all zeros.
VATTN_AVX2 VATTN_ALWAYS_INLINE std::uint64_t bits_of_lanes(__m256i low, __m256i high) noexcept {
  const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(low, high), 0xD8);
  return static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
}

/// A counter a lane for each of the five.
VATTN_AVX2 inline void count_reaching(const std::uint16_t* x, index_t count, std::uint16_t first,
                                      index_t* out) noexcept {
  __m256i least[4], found[5];
  for (int j = 0; j < 4; ++j) least[j] = _mm256_set1_epi16(static_cast<short>(first + j));
  for (__m256i& lanes : found) lanes = _mm256_setzero_si256();
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    const __m256i v = load_counts(x + i);
    VATTN_UNROLL
    for (int j = 0; j < 4; ++j) found[j] = _mm256_sub_epi16(found[j], reaching(v, least[j]));
    found[4] = _mm256_sub_epi16(found[4], _mm256_cmpeq_epi16(v, _mm256_set1_epi16(-1)));
  }
  alignas(32) std::uint16_t lanes[16];
  scalar::count_reaching(x + i, count - i, first, out);
  for (int j = 0; j < 5; ++j) {
    _mm256_store_si256(static_cast<__m256i*>(static_cast<void*>(lanes)), found[j]);
    for (const std::uint16_t lane : lanes) out[j] += lane;
  }
  _mm256_zeroupper();
}

/// A word of marks from four registers.
VATTN_AVX2 inline void mark_reaching(const std::uint16_t* x, index_t count, std::uint16_t threshold,
                                     std::uint64_t* above, std::uint64_t* equal) noexcept {
  const __m256i at = _mm256_set1_epi16(static_cast<short>(threshold));
  index_t i = 0;
  for (; i + 64 <= count; i += 64) {
    std::uint64_t same[2], not_less[2];
    VATTN_UNROLL
    for (int k = 0; k < 2; ++k) {
      const __m256i low = load_counts(x + i + 32 * k), high = load_counts(x + i + 32 * k + 16);
      same[k] = bits_of_lanes(_mm256_cmpeq_epi16(low, at), _mm256_cmpeq_epi16(high, at));
      not_less[k] = bits_of_lanes(reaching(low, at), reaching(high, at));
    }
    equal[i / 64] = same[0] | same[1] << 32U;
    above[i / 64] = (not_less[0] | not_less[1] << 32U) & ~equal[i / 64];
  }
  _mm256_zeroupper();
  scalar::mark_reaching(x + i, count - i, threshold, above + i / 64, equal + i / 64);
}

/// Four blocks of Philox4x32-10, one in each 64-bit lane, of which only the low half counts: the multiplication
/// takes no more.
struct philox_blocks {
  __m256i c0, c1, c2, c3;

  VATTN_AVX2 VATTN_ALWAYS_INLINE void start(const std::uint32_t* stream,
                                            std::uint64_t block) noexcept {
    c0 = _mm256_add_epi64(_mm256_set1_epi64x(static_cast<long long>(block)),
                          _mm256_setr_epi64x(0, 1, 2, 3));
    c1 = _mm256_srli_epi64(c0, 32);
    c2 = _mm256_set1_epi64x(stream[2]);
    c3 = _mm256_set1_epi64x(stream[3]);
  }
  VATTN_AVX2 VATTN_ALWAYS_INLINE void turn(__m256i key0, __m256i key1) noexcept {
    const __m256i a = _mm256_mul_epu32(c0, _mm256_set1_epi64x(0xD2511F53));
    const __m256i b = _mm256_mul_epu32(c2, _mm256_set1_epi64x(0xCD9E8D57));
    c0 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(b, 32), c1), key0);
    c2 = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(a, 32), c3), key1);
    c1 = b;
    c3 = a;
  }
  VATTN_AVX2 VATTN_ALWAYS_INLINE void store(std::uint64_t* out) const noexcept {
    const __m256i low = _mm256_set1_epi64x(0xFFFFFFFF);
    const __m256i x = _mm256_or_si256(_mm256_and_si256(c0, low), _mm256_slli_epi64(c1, 32));
    const __m256i y = _mm256_or_si256(_mm256_and_si256(c2, low), _mm256_slli_epi64(c3, 32));
    const __m256i front = _mm256_unpacklo_epi64(x, y), back = _mm256_unpackhi_epi64(x, y);
    auto* at = static_cast<__m256i*>(static_cast<void*>(out));
    _mm256_storeu_si256(at, _mm256_permute2x128_si256(front, back, 0x20));
    _mm256_storeu_si256(at + 1, _mm256_permute2x128_si256(front, back, 0x31));
  }
};

/// `Together` times four blocks: each waits for its own products alone.
template <int Together>
VATTN_AVX2 VATTN_ALWAYS_INLINE void philox_some(const std::uint32_t* stream, std::uint64_t first,
                                                std::uint64_t* out) noexcept {
  philox_blocks some[std::size_t{Together}];
  VATTN_UNROLL
  for (int k = 0; k < Together; ++k)
    some[k].start(stream, first + static_cast<std::uint64_t>(4 * k));
  std::uint32_t key0 = stream[0], key1 = stream[1];
  for (int round = 0; round < 10; ++round, key0 += 0x9E3779B9U, key1 += 0xBB67AE85U) {
    const __m256i even = _mm256_set1_epi64x(key0), odd = _mm256_set1_epi64x(key1);
    VATTN_UNROLL
    for (auto& blocks : some) blocks.turn(even, odd);
  }
  VATTN_UNROLL
  for (int k = 0; k < Together; ++k) some[k].store(out + 8 * k);
}

VATTN_AVX2 inline void random_blocks(const std::uint32_t* stream, std::uint64_t first,
                                     index_t count, std::uint64_t* out) noexcept {
  index_t i = 0;
  for (; i + 16 <= count; i += 16)
    philox_some<4>(stream, first + static_cast<std::uint64_t>(i), out + 2 * i);
  for (; i + 4 <= count; i += 4)
    philox_some<1>(stream, first + static_cast<std::uint64_t>(i), out + 2 * i);
  _mm256_zeroupper();
  scalar::random_blocks(stream, first + static_cast<std::uint64_t>(i), count - i, out + 2 * i);
}

}  // namespace vattn::kernels::avx2

#undef VATTN_AVX2

#endif  // VATTN_X86_KERNELS
