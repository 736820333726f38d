// SPDX-License-Identifier: Apache-2.0
/// @file
/// Reads a random stream many numbers at a time.
#pragma once

#include "vattention/core/rng.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// Reads a stream in rising order, 64 blocks at a time: the numbers of `random_stream::u64` at a fraction
/// of their price, the same on every kernel row.
class stream_reader {
public:
  explicit stream_reader(const random_stream& stream) noexcept
      : stream_(stream), kernels_(kernels::active()) {}

  /// The same number as `random_stream::below(i, bound)`.
  std::uint64_t below(std::uint64_t i, std::uint64_t bound) noexcept {
    if (i - first_ >= held) refill(i);
    __extension__ using wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<wide>(numbers_[i - first_]) * bound) >> 64);
  }

private:
  static constexpr std::size_t held = 128;

  void refill(std::uint64_t i) noexcept {
    first_ = i & ~std::uint64_t{1};
    kernels_.random_blocks(stream_.state().data(), first_ / 2, held / 2, numbers_.data());
  }

  random_stream stream_;
  const kernels::table& kernels_;
  std::array<std::uint64_t, held> numbers_;
  std::uint64_t first_ = ~std::uint64_t{0} - held;
};

}  // namespace vattn
