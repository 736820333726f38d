// SPDX-License-Identifier: Apache-2.0
/// @file
/// Independent random hyperplanes for hashing keys and queries, each key under a sign pattern of its own.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "vattention/core/rotation.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn::top_k {

/// Two halves of `bits` planes each through the origin, directions normal in every coordinate, independent: any vector
/// of either half has each of its bits for itself, and two vectors agree in one with probability 1 - angle / pi. (The
/// rows of a random rotation do not hash independently, so sign_hash's directions would not do.)
///
/// A row is hashed as D R x: R a rotation that spreads x over all coordinates, D one of 128 diagonals of random signs,
/// by a hash of the row's number, which also says which half of the planes is used. Both keep angles, so a row agrees
/// with the query as often as without them. But hashed by the same planes, similar keys are taken or missed together:
/// on captured heads that makes the variance of an output 5 times what it is for independent rows (median; 56 times on
/// the worst of 48 rows), and that of a denominator 28 times. With the patterns rows of different patterns are nearly
/// independent, of different halves exactly, and it is 1.1 and 1.4 times (1.5 and 5 on the worst row). The price is that
/// a query is hashed under each pattern.
///
/// Planes are floats: chances are those of uniformly random directions to about 1e-7. A bit is the sign of the product
/// in double wherever that in float is in doubt, so that it does not depend on the kernels.
/// Memory: (8 bits + 520) d bytes and 16 a bit, whatever the number of keys.
class lsh_planes {
public:
  static constexpr int patterns = 128;

  /// `bits` is a multiple of 64.
  lsh_planes(int bits, index_t dim, std::uint64_t seed)
      : turn_(dim, 0x15A9), bits_(bits), dim_(dim) {
    const std::size_t count = 2 * static_cast<std::size_t>(bits);
    const auto d = static_cast<std::size_t>(dim);
    planes_.resize(count * d);
    reach_.resize(count);
    const random_stream normals({.seed = seed, .layer = 1},
                                static_cast<std::uint32_t>(purpose::projection));
    for (std::size_t i = 0; i < planes_.size(); ++i) planes_[i] = normal(normals, i);
    for (std::size_t p = 0; p < count; ++p) {
      double square = 0.0;
      for (std::size_t j = 0; j < d; ++j)
        square += static_cast<double>(planes_[p * d + j]) * static_cast<double>(planes_[p * d + j]);
      reach_[p] = static_cast<double>(dim + 3) * 0x1p-24 * std::sqrt(square);
    }
    const random_stream signs({.seed = seed, .layer = 2},
                              static_cast<std::uint32_t>(purpose::projection));
    flips_.resize(patterns * d);
    for (std::size_t i = 0; i < flips_.size(); ++i) flips_[i] = signs.u32(i) & 0x80000000U;
  }

  int bits() const noexcept { return bits_; }
  /// 64-bit words of a signature.
  int words() const noexcept { return bits_ / 64; }
  index_t dim() const noexcept { return dim_; }

  /// Pattern of a row, and half of the planes that a pattern goes with (0 or 1).
  static int pattern_of(index_t row) noexcept {
    std::uint64_t x =
        static_cast<std::uint64_t>(row) * 0xD1342543DE82EF95ULL + 0x2545F4914F6CDD1DULL;
    x ^= x >> 29U;
    x *= 0xBF58476D1CE4E5B9ULL;
    return static_cast<int>(x >> 57U);
  }
  static int half_of(int pattern) noexcept { return pattern % 2; }

  /// R x, in place.
  void turn(float* x) const noexcept { turn_.apply(x); }

  /// Signature `[words]` of a turned vector `[d]` under a pattern; `room` is scratch `[d]`. O(bits d).
  void hash(const float* turned, int pattern, float* room,
            std::uint64_t* signature) const noexcept {
    hash_under(turned, pattern, 1, room, signature);
  }
  /// The same under every pattern, `[patterns x words]`; `room` is scratch `[8 d]`.
  void hash_all(const float* turned, float* room, std::uint64_t* signatures) const noexcept {
    std::uint64_t some[most_together * most_words];
    for (int first = 0; first < patterns; first += 2 * most_together)
      for (int half = 0; half < 2; ++half) {
        hash_under(turned, first + half, most_together, room, some);
        for (int i = 0; i < most_together; ++i)
          std::copy_n(some + i * words(), words(), signatures + (first + half + 2 * i) * words());
      }
  }

  /// Words of the longest signature.
  static constexpr int most_words = 16;

private:
  /// Patterns that are hashed under together, all of one half.
  static constexpr int most_together = 8;

  /// Signatures under `count` patterns: `pattern` and every second one from there on.
  void hash_under(const float* turned, int pattern, int count, float* room,
                  std::uint64_t* signatures) const noexcept {
    double square = 0.0;
    for (index_t j = 0; j < dim_; ++j)
      square += static_cast<double>(turned[j]) * static_cast<double>(turned[j]);
    for (int i = 0; i < count; ++i) {
      const std::uint32_t* flip = flips_.data() + (pattern + 2 * i) * dim_;
      for (index_t j = 0; j < dim_; ++j)
        room[i * dim_ + j] =
            std::bit_cast<float>(std::bit_cast<std::uint32_t>(turned[j]) ^ flip[j]);
    }
    // Products of floats are not to be relied on where they may be too large for one, or lose bits as too small.
    const double norm =
        square < 0x1p200 ? std::sqrt(square) : std::numeric_limits<double>::infinity();
    const double tiny = static_cast<double>(dim_) * 0x1p-148;
    for (int word = 0; word < words(); ++word) {
      const index_t first = index_t{half_of(pattern)} * bits_ + 64 * index_t{word};
      const void* planes[64];
      float products[64 * most_together];
      for (index_t i = 0; i < 64; ++i) planes[i] = plane(first + i);
      kernels::active().dot_rows(element::f32, planes, 64, 0, dim_, room, dim_, count, products,
                                 64);
      for (int k = 0; k < count; ++k) {
        std::uint64_t bits = 0;
        for (index_t i = 0; i < 64; ++i) {
          const auto product = static_cast<double>(products[64 * k + i]);
          const double reach = reach_[static_cast<std::size_t>(first + i)] * norm + tiny;
          const bool positive = std::fabs(product) > reach
                                    ? product > 0.0
                                    : exact_product(first + i, room + k * dim_) > 0.0;
          bits |= std::uint64_t{positive} << static_cast<unsigned>(i);
        }
        signatures[k * words() + word] = bits;
      }
    }
  }

  const float* plane(index_t i) const noexcept { return planes_.data() + i * dim_; }
  double exact_product(index_t i, const float* x) const noexcept {
    double sum = 0.0;
    for (index_t j = 0; j < dim_; ++j)
      sum += static_cast<double>(plane(i)[j]) * static_cast<double>(x[j]);
    return sum;
  }
  /// By Box and Muller's method.
  static float normal(const random_stream& stream, std::size_t i) noexcept {
    const std::uint64_t pair = i / 2;
    const double u = (static_cast<double>(stream.u64(2 * pair) >> 12U) + 0.5) * 0x1p-52;
    const double turn = static_cast<double>(stream.u64(2 * pair + 1) >> 11U) * 0x1p-53;
    const double angle = 2.0 * std::numbers::pi * turn;
    return static_cast<float>(std::sqrt(-2.0 * std::log(u)) *
                              (i % 2 == 0 ? std::cos(angle) : std::sin(angle)));
  }

  rotation turn_;
  /// `[2 x bits x d]`; error of a product per norm of the vector; sign bits `[patterns x d]`.
  std::vector<float> planes_;
  std::vector<double> reach_;
  std::vector<std::uint32_t> flips_;
  int bits_;
  index_t dim_;
};

}  // namespace vattn::top_k
