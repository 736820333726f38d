// SPDX-License-Identifier: Apache-2.0
/// @file
/// From sums of a code scan to log-weights and to rows that a draw may take: the portable row of kernels,
/// and the specification of the others; contracts in kernels.hpp.
#pragma once

#include <bit>
#include <cstdint>
#include <limits>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/kernels/terms.hpp"

namespace vattn::kernels::scalar {

inline void weigh_sums(const std::int32_t* sums, const std::uint16_t* factors, const float* norms,
                       index_t count, const weigh_terms& by, float* out) noexcept {
  for (index_t i = 0; i < count; ++i) {
    const float inner = by.slope * static_cast<float>(sums[i]) + by.rise;
    const float lift = by.kappa * (norms[i] * norms[i]) + by.offset;
    out[i] = f16_to_float(factors[i]) * inner + lift;
  }
}

/// 2^0, 2^(1/4), 2^(1/2) and 2^(3/4).
inline constexpr float quarter_octaves[4] = {1.0F, 1.18920712F, 1.41421356F, 1.68179283F};

inline float byte_norm(std::uint8_t byte) noexcept {
  if (byte == 0) return 0.0F;
  if (byte == 255) return std::numeric_limits<float>::infinity();
  const auto exponent = static_cast<std::uint32_t>(byte / 4 + 127 - 32);
  return quarter_octaves[byte % 4] * std::bit_cast<float>(exponent << 23U);
}

inline void byte_norms(const std::uint8_t* bytes, index_t count, float* out) noexcept {
  for (index_t i = 0; i < count; ++i) out[i] = byte_norm(bytes[i]);
}

/// A lower bound of log2((number 2^16 + 1) / 2^32), at most .09 below it: the exponent and the fraction of a float
/// read as one number.
inline float log2_below(std::uint16_t number) noexcept {
  const auto half = static_cast<float>(static_cast<std::int32_t>(number) << 15);
  return static_cast<float>(std::bit_cast<std::int32_t>(half)) * 0x1p-23F - 158.0F;
}

inline index_t within_reach(const float* t, index_t t_stride, int heads, const reach_terms* by,
                            const float* norms, const std::uint16_t* numbers, index_t count,
                            row_t* out) noexcept {
  index_t found = 0;
  for (index_t i = 0; i < count; ++i) {
    const float least = log2_below(numbers[i]) - reach_margin;
    bool hit = false;
    for (int h = 0; h < heads; ++h) {
      const float x = log2_e * (t[h * t_stride + i] - by[h].shift) + by[h].rise;
      const float most = x < by[h].floor ? by[h].floor : x;  // NaN stays
      const float reach = norms == nullptr ? 0.0F : by[h].reach * norms[i];
      hit = hit || !(most + reach < least);
    }
    out[found] = static_cast<row_t>(i);
    found += hit ? 1 : 0;
  }
  return found;
}

inline void proposal_logs(const float* t, const float* norms, const proposal_terms& first,
                          const float* finer, const proposal_terms& second, index_t count,
                          float* out) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float largest = std::numeric_limits<float>::max();
  for (index_t i = 0; i < count; ++i) {
    const float weight = t[i];
    const float plain = weight + first.offset;
    float x = plain < first.floor ? first.floor : plain;  // NaN stays
    if (norms != nullptr) x += first.reach * norms[i];
    const bool sure = !(x < certain_log) || !(weight < largest);
    if (finer != nullptr) {
      const float better = finer[i] + second.offset;
      const float least = better < second.floor ? second.floor : better;
      x = least < x ? least : x;
    }
    out[i] = weight == -infinity ? -infinity : sure ? largest : x;
  }
}

}  // namespace vattn::kernels::scalar
