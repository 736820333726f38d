// SPDX-License-Identifier: Apache-2.0
/// @file
/// The limit that everything is measured against: reading bytes, and doing next to nothing with them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "vattention/kernels/kernels.hpp"

namespace vattn_bench {

/// A way to read memory: how wide, from how many places at once, and how far ahead it asks for lines.
struct read_plan {
  std::string name;
  std::uint64_t (*read)(const std::byte* data, std::size_t bytes);
};

namespace detail {

/// Defines `name<Streams, Ahead>(data, bytes)`: the sum of all bytes as 64-bit words, in vectors of `width`
/// bytes, a cache line at a time from each of `Streams` equal parts, with a sum for every vector of a line;
/// `Ahead` bytes in front of each are asked for (0: left to the hardware). `data` is aligned to 64 bytes. A
/// macro, for vectors are taken apart before a function is inlined into one with a target.
#define VATTN_BENCH_READ(name, width, target)                                   \
  template <std::size_t Streams, std::size_t Ahead>                             \
  target std::uint64_t name(const std::byte* data, std::size_t bytes) {         \
    using lanes = std::uint64_t __attribute__((vector_size(width), may_alias)); \
    constexpr std::size_t line = 64, per_line = line / (width);                 \
    const std::size_t part = bytes / Streams / line * line;                     \
    lanes sums[Streams * per_line] = {};                                        \
    for (std::size_t at = 0; at < part; at += line)                             \
      for (std::size_t s = 0; s < Streams; ++s) {                               \
        const std::byte* from = data + s * part + at;                           \
        if (Ahead > 0) __builtin_prefetch(from + Ahead, 0, 0);                  \
        for (std::size_t v = 0; v < per_line; ++v)                              \
          sums[s * per_line + v] += reinterpret_cast<const lanes*>(from)[v];    \
      }                                                                         \
    std::uint64_t total = 0;                                                    \
    for (const lanes& sum : sums)                                               \
      for (std::size_t i = 0; i < (width) / 8; ++i) total += sum[i];            \
    for (std::size_t at = Streams * part; at < bytes; ++at)                     \
      total += static_cast<std::uint64_t>(data[at]);                            \
    return total;                                                               \
  }

VATTN_BENCH_READ(read_16, 16, )
#if defined(__x86_64__)
VATTN_BENCH_READ(read_32, 32, __attribute__((target("avx2"))))
VATTN_BENCH_READ(read_64, 64, __attribute__((target("avx512f"))))
#endif
#undef VATTN_BENCH_READ

}  // namespace detail

/// All ways this machine has. All are tried where it matters; the fastest is the limit.
inline const std::vector<read_plan>& read_plans() {
  static const std::vector<read_plan> plans = [] {
    std::vector<read_plan> all;
#define VATTN_BENCH_PLANS(name, text)                             \
  all.push_back({text ", 1 stream", name<1, 0>});                 \
  all.push_back({text ", 2 streams", name<2, 0>});                \
  all.push_back({text ", 4 streams", name<4, 0>});                \
  all.push_back({text ", 8 streams", name<8, 0>});                \
  all.push_back({text ", 1 stream, 2 KB ahead", name<1, 2048>});  \
  all.push_back({text ", 2 streams, 1 KB ahead", name<2, 1024>}); \
  all.push_back({text ", 4 streams, 1 KB ahead", name<4, 1024>});
    VATTN_BENCH_PLANS(detail::read_16, "16 bytes")
#if defined(__x86_64__)
    using vattn::kernels::isa;
    if (vattn::kernels::supported(isa::avx2)) {
      VATTN_BENCH_PLANS(detail::read_32, "32 bytes")
    }
    if (vattn::kernels::supported(isa::avx512)) {
      VATTN_BENCH_PLANS(detail::read_64, "64 bytes")
    }
#endif
#undef VATTN_BENCH_PLANS
    return all;
  }();
  return plans;
}

}  // namespace vattn_bench
