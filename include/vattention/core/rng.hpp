// SPDX-License-Identifier: Apache-2.0
/// @file
/// Random numbers without a state: the i-th number of a named stream, the same on every machine.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace vattn {

/// Names the randomness of one call. Two calls that differ in any field draw independently; two
/// that agree in all of them draw the same rows.
struct draw_key {
  std::uint64_t seed = 0, sequence = 0;
  /// `head` is the KV head: the query heads of a group share their sample.
  std::uint32_t layer = 0, head = 0;
  /// Must change with every decoded token: a sample kept over steps depends on the query.
  std::uint64_t step = 0;
};

/// Philox4x32-10: 128 bits that a 64-bit key makes of a 128-bit counter.
///
/// A bijection of the counter for every key, integer arithmetic only; passes TestU01's BigCrush by
/// its authors' account. Not for secrets. About 20 multiplications for four numbers.
/// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                                  std::array<std::uint32_t, 2> key) noexcept {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t even = std::uint64_t{0xD2511F53U} * counter[0];
    const std::uint64_t odd = std::uint64_t{0xCD9E8D57U} * counter[2];
    counter = {static_cast<std::uint32_t>(odd >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(odd),
               static_cast<std::uint32_t>(even >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(even)};
    key[0] += 0x9E3779B9U;  // golden ratio
    key[1] += 0xBB67AE85U;  // sqrt(3) - 1
  }
  return counter;
}

/// One stream of 2^64 uniform numbers, addressed by index: no state, no order of calls.
///
/// Call key and purpose are condensed to 128 bits by two Philox blocks. Within a seed all pairs
/// (sequence, step) keep distinct intermediate blocks; that two different streams coincide has odds
/// of 2^-128. A copy is 16 bytes. Every function is O(1), thread-safe, and allocates nothing.
class random_stream {
public:
  /// `purpose` separates the uses within one call (base sample, tests, generators ...).
  constexpr random_stream(const draw_key& key, std::uint32_t purpose) noexcept {
    const block first =
        philox4x32({low(key.sequence), high(key.sequence), low(key.step), high(key.step)},
                   {low(key.seed), high(key.seed)});
    state_ = philox4x32({key.layer ^ first[2], key.head ^ first[3], purpose, 0x76617474U},
                        {first[0], first[1]});
  }

  /// Numbers 4 i .. 4 i + 3 of `u32` at the price of one; i < 2^62.
  constexpr std::array<std::uint32_t, 4> quad(std::uint64_t i) const noexcept {
    return philox4x32({low(i), high(i), state_[2], state_[3]}, {state_[0], state_[1]});
  }
  /// The i-th number, uniform on 0 .. 2^32 - 1.
  constexpr std::uint32_t u32(std::uint64_t i) const noexcept { return quad(i >> 2)[i & 3]; }
  /// The i-th 64-bit number: `u32` 2 i (low half) and 2 i + 1, so not independent of those; i <
  /// 2^63.
  constexpr std::uint64_t u64(std::uint64_t i) const noexcept {
    const block four = quad(i >> 1);
    const std::size_t half = (i & 1) * 2;
    return four[half] | std::uint64_t{four[half + 1]} << 32;
  }
  /// Uniform on 0 .. bound - 1 (0 if bound is 0), made of `u64(i)` alone by multiply-high.
  ///
  /// Every value's probability is within 2^-64 of 1 / bound, so no event is more than bound 2^-64
  /// off; nothing is rejected, so number i never depends on the others.
  /// Source: Lemire, "Fast random integer generation in an interval", TOMACS 29(1), 2019.
  constexpr std::uint64_t below(std::uint64_t i, std::uint64_t bound) const noexcept {
    __extension__ using wide = unsigned __int128;
    return static_cast<std::uint64_t>((static_cast<wide>(u64(i)) * bound) >> 64);
  }

  /// Philox key (two words) and upper half of the counter, for kernels that form many blocks at once.
  constexpr const std::array<std::uint32_t, 4>& state() const noexcept { return state_; }

private:
  using block = std::array<std::uint32_t, 4>;
  static constexpr std::uint32_t low(std::uint64_t x) noexcept {
    return static_cast<std::uint32_t>(x);
  }
  static constexpr std::uint32_t high(std::uint64_t x) noexcept {
    return static_cast<std::uint32_t>(x >> 32);
  }

  block state_{};
};

}  // namespace vattn
