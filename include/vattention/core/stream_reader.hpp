// SPDX-License-Identifier: Apache-2.0
/// @file
/// Reads a random stream many numbers at a time.
#pragma once

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>

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

/// The random number of a row, uniform on 0 .. 2^32 - 1: its upper half is one of the two halves, the lower one
/// first, of a number of the stream, its lower half that of a number 2^62 further on. So most numbers cost half.
inline std::uint32_t sampling_number(const random_stream& stream, std::uint64_t row) noexcept {
  const std::uint32_t pair = stream.u32(row / 2);
  const std::uint32_t high = row % 2 == 0 ? pair << 16U : pair & 0xFFFF0000U;
  return high | (stream.u32(row + (std::uint64_t{1} << 62U)) & 0xFFFFU);
}

/// Upper halves of the `sampling_number` of rows first .. first + out.size() - 1, the same on every kernel row.
inline void fill_high_halves(const random_stream& stream, std::uint64_t first,
                             std::span<std::uint16_t> out) noexcept {
  constexpr std::size_t most = 256;
  const kernels::table& kernels = kernels::active();
  std::uint64_t words[most / 4 + 2];
  for (std::size_t at = 0; at < out.size(); at += most) {
    const std::size_t count = std::min(most, out.size() - at);
    const std::uint64_t from = first + at;
    const std::size_t ahead = from % 8;
    kernels.random_blocks(stream.state().data(), from / 8,
                          static_cast<index_t>((ahead + count + 7) / 8), words);
    if constexpr (std::endian::native == std::endian::little)
      std::memcpy(out.data() + at, reinterpret_cast<const char*>(words) + 2 * ahead, 2 * count);
    else
      for (std::size_t i = 0; i < count; ++i)
        out[at + i] =
            static_cast<std::uint16_t>(words[(ahead + i) / 4] >> (16 * ((ahead + i) % 4)));
  }
}

}  // namespace vattn
