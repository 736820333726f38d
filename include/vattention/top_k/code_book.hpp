// SPDX-License-Identifier: Apache-2.0
/// @file
/// Scalar codes of rotated key coordinates: levels, thresholds, and how codes are packed.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "vattention/core/kv_view.hpp"

namespace vattn::top_k {

/// Codes of 1, 2, 4, 6 or 8 bits a coordinate. A code c stands for the odd-symmetric integer level(c); a
/// key is its codes and one factor. 1 bit: the sign. 2 and 4 bits: the Lloyd-Max quantiser of a normal
/// coordinate (J. Max, "Quantizing for minimum distortion", 1960), scaled to the key's root mean square; the
/// thresholds nest. 6 and 8 bits: equal steps up to the key's largest coordinate.
///
/// Packed as one or two bit planes (6 = 4 + 2) in the layout of `kernels::table::scan_codes`.
class code_book {
public:
  explicit code_book(int bits) : bits_(bits) {
    require(bits == 1 || bits == 2 || bits == 4 || bits == 6 || bits == 8, "key_code",
            "1, 2, 4, 6 or 8 bits", bits);
    for (int c = 0; c < 16; ++c) lookup_[static_cast<std::size_t>(c)] = byte_of(c);
    for (int c = 0; c < 1 << bits; ++c)
      levels_[static_cast<std::size_t>(c)] = static_cast<std::int16_t>(level_of(c));
  }

  int bits() const noexcept { return bits_; }
  int planes() const noexcept { return bits_ == 6 ? 2 : 1; }
  int plane_bits(int plane) const noexcept { return bits_ == 6 ? (plane == 0 ? 4 : 2) : bits_; }
  /// 64-byte words of a block of 16 keys in a plane, for keys of `dim` coordinates.
  index_t words(int plane, index_t dim) const noexcept {
    const index_t per = 32 / plane_bits(plane);
    return (dim + per - 1) / per;
  }
  /// Bytes that codes 0..15 stand for in `scan_codes`.
  const std::uint8_t* lookup() const noexcept { return lookup_.data(); }

  /// sum q level = level_times() S + level_plus() sum q, with S the scan's sum (first plane + 16 second).
  int level_times() const noexcept { return normal() ? 1 : 2; }
  int level_plus() const noexcept { return normal() ? -middle() : 1 - (1 << bits_); }

  int level(int code) const noexcept { return levels_[static_cast<std::size_t>(code)]; }

  /// Code of a coordinate, given the key's root mean square and largest magnitude.
  int code(float x, float rms, float largest) const noexcept {
    if (bits_ >= 6) {
      const int count = 1 << bits_;
      const float step = 2.0F * largest / static_cast<float>(count);
      const float at = step > 0.0F ? std::floor(x / step) : 0.0F;
      const int c = static_cast<int>(at) + count / 2;
      return c < 0 ? 0 : (c >= count ? count - 1 : c);
    }
    const int half = 1 << (bits_ - 1);
    const float at = std::fabs(x);
    int magnitude = 0;
    if (bits_ == 4)
      for (const float threshold : four_bit_thresholds) magnitude += at > rms * threshold ? 1 : 0;
    else if (bits_ == 2)
      magnitude = at > rms * two_bit_threshold ? 1 : 0;
    return x < 0.0F ? half - 1 - magnitude : half + magnitude;
  }

private:
  static constexpr float two_bit_threshold = .9816F;
  static constexpr std::array<float, 7> four_bit_thresholds{.2582F,  .5224F,  .7996F, 1.0993F,
                                                            1.4371F, 1.8435F, 2.4008F};

  /// True for the quantisers of a normal coordinate whose levels are not in equal steps.
  bool normal() const noexcept { return bits_ == 2 || bits_ == 4; }
  /// The byte between those of the two levels next to 0. Small for 2 bits, so that sums of bytes stay small.
  int middle() const noexcept { return bits_ == 2 ? 10 : 128; }

  int level_of(int code) const noexcept {
    return normal() ? static_cast<int>(byte_of(code)) - middle() : 2 * code + 1 - (1 << bits_);
  }
  std::uint8_t byte_of(int code) const noexcept {
    static constexpr std::array<int, 2> two{3, 10};
    static constexpr std::array<int, 8> four{6, 18, 31, 44, 58, 75, 96, 127};
    if (!normal()) return static_cast<std::uint8_t>(code);
    const int half = 1 << (bits_ - 1);
    const auto magnitude = static_cast<std::size_t>(code >= half ? code - half : half - 1 - code) %
                           static_cast<std::size_t>(half);
    const int size = bits_ == 2 ? two[magnitude] : four[magnitude];
    return static_cast<std::uint8_t>(middle() + (code >= half ? size : -size));
  }

  int bits_;
  std::array<std::uint8_t, 16> lookup_{};
  std::array<std::int16_t, 256> levels_{};
};

}  // namespace vattn::top_k
