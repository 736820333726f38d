// SPDX-License-Identifier: Apache-2.0
/// @file
/// Kernels on plain arrays, NEON row: maximum, exp, scaling, comparison, random numbers; contracts in
/// kernels.hpp.
#pragma once

#include "vattention/config.hpp"

#if VATTN_NEON_KERNELS

#include <arm_neon.h>

#include <bit>
#include <cstdint>
#include <limits>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/scalar.hpp"

namespace vattn::kernels::neon {

/// The larger of each two; `largest` where x is NaN, a signalling one too, which fmaxnm is not for.
VATTN_ALWAYS_INLINE float32x4_t larger(float32x4_t x, float32x4_t largest) noexcept {
  return vbslq_f32(vcgtq_f32(x, largest), x, largest);
}

inline float max_of(const float* x, index_t count) noexcept {
  const float least = -std::numeric_limits<float>::infinity();
  float32x4_t part[4];
  VATTN_UNROLL
  for (auto& v : part) v = vdupq_n_f32(least);
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) part[k] = larger(vld1q_f32(x + i + 4 * k), part[k]);
  }
  for (; i + 4 <= count; i += 4) part[0] = larger(vld1q_f32(x + i), part[0]);
  const float32x4_t all = larger(larger(part[0], part[1]), larger(part[2], part[3]));
  float largest = vmaxvq_f32(all);
  for (; i < count; ++i) largest = x[i] > largest ? x[i] : largest;
  return largest;
}

/// 2^n for integers n in [-126, 127].
VATTN_ALWAYS_INLINE float32x4_t power_of_two(int32x4_t n) noexcept {
  return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(n, vdupq_n_s32(127)), 23));
}

/// exp by x = n ln 2 + r, |r| <= ln 2 / 2, and a polynomial of degree 7 (Cephes expf) for e^r. The
/// clamps keep n small and let NaN through. 2^n goes on in two steps, for n can be 128. Subnormal
/// results become 0; NaN is not below the least.
VATTN_ALWAYS_INLINE float32x4_t exp_of(float32x4_t x) noexcept {
  const float32x4_t least = vdupq_n_f32(-87.33654f);
  const uint32x4_t tiny = vcltq_f32(x, least);
  x = vminq_f32(vdupq_n_f32(100.0f), vmaxq_f32(least, x));
  const float32x4_t n = vrndnq_f32(vmulq_n_f32(x, 1.44269504f));
  float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(0.693359375f));
  r = vfmsq_f32(r, n, vdupq_n_f32(-2.12194440e-4f));
  float32x4_t p = vdupq_n_f32(1.9875691500e-4f);
  p = vfmaq_f32(vdupq_n_f32(1.3981999507e-3f), p, r);
  p = vfmaq_f32(vdupq_n_f32(8.3334519073e-3f), p, r);
  p = vfmaq_f32(vdupq_n_f32(4.1665795894e-2f), p, r);
  p = vfmaq_f32(vdupq_n_f32(1.6666665459e-1f), p, r);
  p = vfmaq_f32(vdupq_n_f32(5.0000001201e-1f), p, r);
  p = vfmaq_f32(r, vmulq_f32(r, r), p);
  p = vaddq_f32(p, vdupq_n_f32(1.0f));
  const int32x4_t whole = vcvtq_s32_f32(n), half = vshrq_n_s32(whole, 1);
  p = vmulq_f32(p, power_of_two(half));
  p = vmulq_f32(p, power_of_two(vsubq_s32(whole, half)));
  return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(p), tiny));
}

/// Adds four floats to sums in double.
VATTN_ALWAYS_INLINE void add_wide(float32x4_t v, float64x2_t& low, float64x2_t& high) noexcept {
  low = vaddq_f64(low, vcvt_f64_f32(vget_low_f32(v)));
  high = vaddq_f64(high, vcvt_high_f64_f32(v));
}

/// The last up to three stand in a register with -inf behind them, which adds 0.
inline double exp_shifted(const float* x, index_t count, float shift, float* out) noexcept {
  const float32x4_t minus = vdupq_n_f32(shift);
  float64x2_t a[2] = {vdupq_n_f64(0), vdupq_n_f64(0)}, b[2] = {vdupq_n_f64(0), vdupq_n_f64(0)};
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const float32x4_t first = exp_of(vsubq_f32(vld1q_f32(x + i), minus));
    const float32x4_t second = exp_of(vsubq_f32(vld1q_f32(x + i + 4), minus));
    if (out != nullptr) {
      vst1q_f32(out + i, first);
      vst1q_f32(out + i + 4, second);
    }
    add_wide(first, a[0], b[0]);
    add_wide(second, a[1], b[1]);
  }
  for (; i + 4 <= count; i += 4) {
    const float32x4_t e = exp_of(vsubq_f32(vld1q_f32(x + i), minus));
    if (out != nullptr) vst1q_f32(out + i, e);
    add_wide(e, a[0], b[0]);
  }
  if (i < count) {
    const index_t left = count - i;
    float part[4];
    vst1q_f32(part, vdupq_n_f32(-std::numeric_limits<float>::infinity()));
    for (index_t k = 0; k < left; ++k) part[k] = x[i + k];
    const float32x4_t e = exp_of(vsubq_f32(vld1q_f32(part), minus));
    vst1q_f32(part, e);
    for (index_t k = 0; out != nullptr && k < left; ++k) out[i + k] = part[k];
    add_wide(e, a[0], b[0]);
  }
  return vaddvq_f64(vaddq_f64(vaddq_f64(a[0], a[1]), vaddq_f64(b[0], b[1])));
}

/// Four scaled sums less their offset; stays a product that no compiler fuses with what follows.
VATTN_ALWAYS_INLINE float32x4_t scaled_product(const std::int32_t* sums,
                                               const std::uint16_t* factors, int32x4_t times,
                                               int32x4_t plus, float step) noexcept {
  const int32x4_t whole = vmlaq_s32(plus, vld1q_s32(sums), times);
  const float32x4_t scaled = vmulq_n_f32(vcvtq_f32_s32(whole), step);
  float32x4_t product = vmulq_f32(vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(factors))), scaled);
  asm("" : "+w"(product));
  return product;
}

inline void scale_sums(const std::int32_t* sums, const std::uint16_t* factors, index_t count,
                       std::int32_t times, std::int32_t plus, float step, float offset,
                       float* out) noexcept {
  const int32x4_t factor = vdupq_n_s32(times), more = vdupq_n_s32(plus);
  const float32x4_t last = vdupq_n_f32(offset);
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const float32x4_t a = scaled_product(sums + i, factors + i, factor, more, step);
    const float32x4_t b = scaled_product(sums + i + 4, factors + i + 4, factor, more, step);
    vst1q_f32(out + i, vaddq_f32(a, last));
    vst1q_f32(out + i + 4, vaddq_f32(b, last));
  }
  scalar::scale_sums(sums + i, factors + i, count - i, times, plus, step, offset, out + i);
}

/// Sixteen at a time: four bits each in one general register, all of them 0 if none is found.
inline index_t not_below(const float* x, index_t count, float threshold, row_t* out) noexcept {
  const float32x4_t least = vdupq_n_f32(threshold);
  index_t found = 0;
  index_t i = 0;
  for (; i + 16 <= count; i += 16) {
    uint32x4_t below[4];
    VATTN_UNROLL
    for (int k = 0; k < 4; ++k) below[k] = vcltq_f32(vld1q_f32(x + i + 4 * k), least);
    const uint16x8_t low =
        vuzp1q_u16(vreinterpretq_u16_u32(below[0]), vreinterpretq_u16_u32(below[1]));
    const uint16x8_t high =
        vuzp1q_u16(vreinterpretq_u16_u32(below[2]), vreinterpretq_u16_u32(below[3]));
    const uint8x16_t all = vuzp1q_u8(vreinterpretq_u8_u16(low), vreinterpretq_u8_u16(high));
    const uint8x8_t nibbles = vshrn_n_u16(vreinterpretq_u16_u8(all), 4);
    std::uint64_t hits = ~vget_lane_u64(vreinterpret_u64_u8(nibbles), 0) & 0x1111111111111111U;
    for (; hits != 0; hits &= hits - 1)
      out[found++] = static_cast<row_t>(i + std::countr_zero(hits) / 4);
  }
  for (; i < count; ++i)
    if (!(x[i] < threshold)) out[found++] = static_cast<row_t>(i);
  return found;
}

/// A counter a lane for each of the five.
inline void count_reaching(const std::uint16_t* x, index_t count, std::uint16_t first,
                           index_t* out) noexcept {
  uint16x8_t least[4], found[5];
  for (int j = 0; j < 4; ++j) least[j] = vdupq_n_u16(static_cast<std::uint16_t>(first + j));
  for (uint16x8_t& lanes : found) lanes = vdupq_n_u16(0);
  index_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const uint16x8_t v = vld1q_u16(x + i);
    VATTN_UNROLL
    for (int j = 0; j < 4; ++j) found[j] = vsubq_u16(found[j], vcgeq_u16(v, least[j]));
    found[4] = vsubq_u16(found[4], vceqq_u16(v, vdupq_n_u16(0xFFFF)));
  }
  scalar::count_reaching(x + i, count - i, first, out);
  for (int j = 0; j < 5; ++j) out[j] += static_cast<index_t>(vaddlvq_u16(found[j]));
}

/// A bit a lane of eight, all ones or all zeros.
VATTN_ALWAYS_INLINE std::uint64_t bits_of_lanes(uint16x8_t lanes) noexcept {
  constexpr std::uint16_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  return vaddvq_u16(vandq_u16(lanes, vld1q_u16(weights)));
}

inline void mark_reaching(const std::uint16_t* x, index_t count, std::uint16_t threshold,
                          std::uint64_t* above, std::uint64_t* equal) noexcept {
  const uint16x8_t at = vdupq_n_u16(threshold);
  index_t i = 0;
  for (; i + 64 <= count; i += 64) {
    std::uint64_t more = 0, same = 0;
    VATTN_UNROLL
    for (int k = 0; k < 8; ++k) {
      const uint16x8_t v = vld1q_u16(x + i + 8 * k);
      more |= bits_of_lanes(vcgtq_u16(v, at)) << (8 * k);
      same |= bits_of_lanes(vceqq_u16(v, at)) << (8 * k);
    }
    above[i / 64] = more;
    equal[i / 64] = same;
  }
  scalar::mark_reaching(x + i, count - i, threshold, above + i / 64, equal + i / 64);
}

/// Low and high halves of the products of four lanes with a number.
struct wide_product {
  uint32x4_t low, high;
};
VATTN_ALWAYS_INLINE wide_product multiply(uint32x4_t x, uint32x4_t by) noexcept {
  const uint32x4_t a = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(x), vget_low_u32(by)));
  const uint32x4_t b = vreinterpretq_u32_u64(vmull_high_u32(x, by));
  return {vuzp1q_u32(a, b), vuzp2q_u32(a, b)};
}

/// The counters of blocks `first` and up, four to a register: word w of block k in c[w][k / 4].
template <int Quads>
VATTN_ALWAYS_INLINE void philox_counters(const std::uint32_t* stream, std::uint64_t first,
                                         uint32x4_t (*c)[Quads]) noexcept {
  const uint64x2_t zero_one = vcombine_u64(vcreate_u64(0), vcreate_u64(1));
  VATTN_UNROLL
  for (int q = 0; q < Quads; ++q) {
    const uint64x2_t low = vaddq_u64(vdupq_n_u64(first + 4 * static_cast<unsigned>(q)), zero_one);
    const uint32x4_t a = vreinterpretq_u32_u64(low);
    const uint32x4_t b = vreinterpretq_u32_u64(vaddq_u64(low, vdupq_n_u64(2)));
    c[0][q] = vuzp1q_u32(a, b);
    c[1][q] = vuzp2q_u32(a, b);
    c[2][q] = vdupq_n_u32(stream[2]);
    c[3][q] = vdupq_n_u32(stream[3]);
  }
}

/// `Quads` times four blocks of Philox4x32-10, a block in each lane.
template <int Quads>
VATTN_ALWAYS_INLINE void philox_blocks(const std::uint32_t* stream, std::uint64_t first,
                                       std::uint64_t* out) noexcept {
  const uint32x4_t even = vdupq_n_u32(0xD2511F53U), odd = vdupq_n_u32(0xCD9E8D57U);
  uint32x4_t c[4][std::size_t{Quads}];
  uint32x4_t key0 = vdupq_n_u32(stream[0]), key1 = vdupq_n_u32(stream[1]);
  philox_counters<Quads>(stream, first, c);
  for (int round = 0; round < 10; ++round) {
    VATTN_UNROLL
    for (int q = 0; q < Quads; ++q) {
      const wide_product a = multiply(c[0][q], even), b = multiply(c[2][q], odd);
      c[0][q] = veorq_u32(veorq_u32(b.high, c[1][q]), key0);
      c[2][q] = veorq_u32(veorq_u32(a.high, c[3][q]), key1);
      c[1][q] = b.low;
      c[3][q] = a.low;
    }
    key0 = vaddq_u32(key0, vdupq_n_u32(0x9E3779B9U));
    key1 = vaddq_u32(key1, vdupq_n_u32(0xBB67AE85U));
  }
  VATTN_UNROLL
  for (int q = 0; q < Quads; ++q, out += 8) {
    const uint64x2x2_t front = {{vreinterpretq_u64_u32(vzip1q_u32(c[0][q], c[1][q])),
                                 vreinterpretq_u64_u32(vzip1q_u32(c[2][q], c[3][q]))}};
    const uint64x2x2_t back = {{vreinterpretq_u64_u32(vzip2q_u32(c[0][q], c[1][q])),
                                vreinterpretq_u64_u32(vzip2q_u32(c[2][q], c[3][q]))}};
    vst2q_u64(out, front);
    vst2q_u64(out + 4, back);
  }
}

inline void random_blocks(const std::uint32_t* stream, std::uint64_t first, index_t count,
                          std::uint64_t* out) noexcept {
  index_t i = 0;
  for (; i + 8 <= count; i += 8)
    philox_blocks<2>(stream, first + static_cast<std::uint64_t>(i), out + 2 * i);
  for (; i + 4 <= count; i += 4)
    philox_blocks<1>(stream, first + static_cast<std::uint64_t>(i), out + 2 * i);
  scalar::random_blocks(stream, first + static_cast<std::uint64_t>(i), count - i, out + 2 * i);
}

}  // namespace vattn::kernels::neon

#endif  // VATTN_NEON_KERNELS
