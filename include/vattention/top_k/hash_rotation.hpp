// SPDX-License-Identifier: Apache-2.0
/// @file
/// The matrix of a hash: directions whose products with a vector give the bits of its signature.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "vattention/core/kv_view.hpp"
#include "vattention/core/rotation.hpp"

namespace vattn::top_k {

namespace detail {

inline void require_hash_bits(const char* where, int bits) {
  require(bits >= 32 && bits <= 256 && bits % 32 == 0, where, "32, 64, ... 256 bits", bits);
}
inline void require_hash_dim(const char* where, index_t dim) {
  require(dim >= 1 && dim <= rows_view::max_dim, where, "1 <= key dimension <= 4096", dim);
}
inline void require_finite(const char* where, const char* want, const float* x, index_t count) {
  const float* const odd = std::find_if(x, x + count, [](float c) { return !std::isfinite(c); });
  require(odd == x + count, where, want, odd == x + count ? 0.0F : *odd);
}

}  // namespace detail

/// The matrix of a hash: `bits` directions in `key_dim` coordinates. The bit of a vector is the sign of its product
/// with a direction. A value; memory 4 bits d bytes, once an index.
class hash_rotation {
public:
  static constexpr int most_bits = 256;
  static constexpr const char* appending = "rotation_hash_index::append";

  /// A matrix of one's own, `[bits x key_dim]`, row-major, which is copied.
  /// @throws std::invalid_argument for bits that are not 32, 64, ... 256, a dimension outside [1, 4096], or a number
  /// that is not finite.
  hash_rotation(const float* rows, int bits, index_t key_dim) : hash_rotation(bits, key_dim) {
    detail::require_finite("hash_rotation", "a finite matrix", rows, bits * key_dim);
    for (int bit = 0; bit < bits; ++bit)
      for (index_t j = 0; j < key_dim; ++j)
        columns_[static_cast<std::size_t>(j * bits + bit)] = rows[bit * key_dim + j];
  }

  /// Random directions, orthonormal in groups of `key_dim` (the last group is smaller, if need be): those of
  /// `rotation`s, as `sign_hash` has them. The same for the same arguments. O(bits d log d); allocates.
  /// @throws std::invalid_argument as above.
  static hash_rotation random(int bits, index_t key_dim, std::uint64_t seed) {
    hash_rotation made(bits, key_dim);
    std::vector<float> turned(static_cast<std::size_t>(key_dim));
    for (index_t first = 0; first < bits; first += key_dim) {
      const rotation turn(key_dim, seed + static_cast<std::uint64_t>(first));
      for (index_t j = 0; j < key_dim; ++j) {
        std::fill(turned.begin(), turned.end(), 0.0F);
        turned[static_cast<std::size_t>(j)] = 1.0F;
        turn.apply(turned.data());
        for (index_t bit = first; bit < std::min<index_t>(bits, first + key_dim); ++bit)
          made.columns_[static_cast<std::size_t>(j * bits + bit)] =
              turned[static_cast<std::size_t>(bit - first)];
      }
    }
    return made;
  }

  int bits() const noexcept { return bits_; }
  index_t dim() const noexcept { return dim_; }
  float at(int bit, index_t j) const noexcept {
    return columns_[static_cast<std::size_t>(j * bits_ + bit)];
  }

  /// Packs the signs of the products with `x` `[d]` into 64-bit words, as many as are begun; 1 is positive. O(bits d).
  /// Products of floats are exact in double and summed in the order of coordinates, so every machine finds the same
  /// signs.
  void hash(const float* x, std::uint64_t* signature) const noexcept {
    double sums[most_bits] = {};
    const float* column = columns_.data();
    for (index_t j = 0; j < dim_; ++j, column += bits_) {
      const auto by = static_cast<double>(x[j]);
      for (int bit = 0; bit < bits_; ++bit) sums[bit] += by * static_cast<double>(column[bit]);
    }
    std::fill_n(signature, (bits_ + 63) / 64, 0);
    for (int bit = 0; bit < bits_; ++bit)
      signature[bit / 64] |= std::uint64_t{sums[bit] > 0.0} << (bit % 64);
  }

  /// The same; needs no scratch.
  void hash(const float* x, float* /*turned*/, std::uint64_t* signature) const noexcept {
    hash(x, signature);
  }

  template <class File>
  void exchange(File& file) {
    file.same("bits", bits_);
    file.same("dimension", dim_);
    file.numbers(columns_, bits_ * dim_);
  }

private:
  hash_rotation(int bits, index_t key_dim) : dim_(key_dim), bits_(bits) {
    detail::require_hash_bits("hash_rotation", bits);
    detail::require_hash_dim("hash_rotation", key_dim);
    columns_.resize(static_cast<std::size_t>(bits * key_dim));
  }

  /// `[d x bits]`: what one coordinate of a vector adds to all products lies side by side.
  std::vector<float> columns_;
  index_t dim_;
  int bits_;
};

}  // namespace vattn::top_k
