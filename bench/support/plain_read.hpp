// SPDX-License-Identifier: Apache-2.0
/// @file
/// The limit that everything is measured against: reading bytes, and doing next to nothing with them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vattn_bench {

/// A way to read memory: from how many places at once, and how far ahead it asks for lines.
struct read_plan {
  const char* name;
  std::uint64_t (*read)(const std::byte* data, std::size_t bytes);
};

namespace detail {

/// Two registers' worth; the compiler makes of it what the target has.
using lanes = std::uint64_t __attribute__((vector_size(32), may_alias));

/// Sum of all bytes as 64-bit words, a cache line at a time from each of `Streams` equal parts; `ahead`
/// bytes in front of each are asked for (0: left to the hardware). `data` is aligned to 64 bytes.
template <int Streams, std::size_t Ahead>
std::uint64_t read_all(const std::byte* data, std::size_t bytes) {
  constexpr std::size_t line = 64;
  const std::size_t part = bytes / Streams / line * line;
  lanes sums[2 * Streams] = {};
  for (std::size_t at = 0; at < part; at += line)
    for (int s = 0; s < Streams; ++s) {
      const std::byte* from = data + static_cast<std::size_t>(s) * part + at;
      if constexpr (Ahead > 0) __builtin_prefetch(from + Ahead, 0, 0);
      const auto* words = reinterpret_cast<const lanes*>(from);
      sums[2 * s] += words[0];
      sums[2 * s + 1] += words[1];
    }
  std::uint64_t total = 0;
  for (const lanes& sum : sums) total += sum[0] + sum[1] + sum[2] + sum[3];
  for (std::size_t at = Streams * part; at < bytes; ++at)
    total += static_cast<std::uint64_t>(data[at]);
  return total;
}

}  // namespace detail

/// All of them are tried on each machine, the fastest is the limit.
inline constexpr std::array<read_plan, 9> read_plans{{
    {"1 stream", detail::read_all<1, 0>},
    {"1 stream, 1 KB ahead", detail::read_all<1, 1024>},
    {"1 stream, 4 KB ahead", detail::read_all<1, 4096>},
    {"2 streams", detail::read_all<2, 0>},
    {"2 streams, 1 KB ahead", detail::read_all<2, 1024>},
    {"4 streams", detail::read_all<4, 0>},
    {"4 streams, 1 KB ahead", detail::read_all<4, 1024>},
    {"4 streams, 4 KB ahead", detail::read_all<4, 4096>},
    {"8 streams", detail::read_all<8, 0>},
}};

}  // namespace vattn_bench
