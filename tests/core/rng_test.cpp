// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/rng.hpp"

#include <bit>
#include <cmath>
#include <cstdlib>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr draw_key base{7, 11, 3, 5, 13};

/// Every way to change one thing of (key, purpose), including swaps of neighbouring fields.
std::vector<random_stream> relatives() {
  return {random_stream(base, 1),
          random_stream(base, 2),
          random_stream({8, 11, 3, 5, 13}, 1),
          random_stream({7, 12, 3, 5, 13}, 1),
          random_stream({7, 11, 4, 5, 13}, 1),
          random_stream({7, 11, 3, 6, 13}, 1),
          random_stream({7, 11, 3, 5, 14}, 1),
          random_stream({7ULL << 32, 11, 3, 5, 13}, 1),
          random_stream({7, 11ULL << 32, 3, 5, 13}, 1),
          random_stream({7, 11, 3, 5, 13ULL << 32}, 1),
          random_stream({11, 7, 3, 5, 13}, 1),
          random_stream({7, 13, 3, 5, 11}, 1),
          random_stream({7, 11, 5, 3, 13}, 1),
          random_stream({7, 11, 1, 5, 13}, 3)};
}

/// Pearson's statistic of `draws` values of `value(i)` in [0, cells).
template <class Value>
double chi_square(int cells, int draws, Value&& value) {
  std::vector<int> count(static_cast<std::size_t>(cells), 0);
  for (int i = 0; i < draws; ++i) ++count[static_cast<std::size_t>(value(i))];
  const double expected = static_cast<double>(draws) / cells;
  double sum = 0.0;
  for (const int c : count) sum += (c - expected) * (c - expected) / expected;
  return sum;
}

}  // namespace

TEST_CASE("philox4x32 reproduces the published vectors", "[rng]") {
  // Random123, tests/kat_vectors, lines "philox4x32 10": counter, key, result.
  using four = std::array<std::uint32_t, 4>;
  constexpr std::uint32_t ones = 0xFFFFFFFFU;
  CHECK(philox4x32({0, 0, 0, 0}, {0, 0}) ==
        four{0x6627e8d5U, 0xe169c58dU, 0xbc57ac4cU, 0x9b00dbd8U});
  CHECK(philox4x32({ones, ones, ones, ones}, {ones, ones}) ==
        four{0x408f276dU, 0x41c83b0eU, 0xa20bc7c6U, 0x6d5451fdU});
  CHECK(philox4x32({0x243f6a88U, 0x85a308d3U, 0x13198a2eU, 0x03707344U},
                   {0xa4093822U, 0x299f31d0U}) ==
        four{0xd16cfe09U, 0x94fdcceb, 0x5001e420U, 0x24126ea1U});
}

TEST_CASE("a stream is a function of key, purpose and index alone", "[rng]") {
  const random_stream a(base, 1);
  const random_stream b(draw_key{7, 11, 3, 5, 13}, 1);
  for (std::uint64_t i : {0ULL, 1ULL, 5ULL, 1ULL << 33, ~0ULL}) CHECK(a.u32(i) == b.u32(i));
  CHECK(a.u32(9) == a.quad(2)[1]);
  CHECK(a.u64(5) == (a.u32(10) | std::uint64_t{a.u32(11)} << 32));
  CHECK(a.u32(0) != a.u32(1ULL << 34));  // the upper half of the index counts
  // Frozen: a change of these numbers changes every user's samples.
  CHECK(random_stream({}, 0).u64(0) == 0x72761f00df03e764ULL);
  CHECK(a.u64(0) == 0xf1d01475d521a56aULL);
}

TEST_CASE("streams of different names are unrelated", "[rng]") {
  // Bits in which two streams agree: 4096 x 32 fair coins, sd 181. Bound of 6 sd, 91 pairs: a wrong
  // alarm has odds of 2e-7. Equal numbers at equal index: 91 x 4096 / 2^32, odds 9e-5 of one.
  const std::vector<random_stream> streams = relatives();
  for (std::size_t a = 0; a < streams.size(); ++a)
    for (std::size_t b = a + 1; b < streams.size(); ++b) {
      int agree = 0;
      int equal = 0;
      for (std::uint64_t i = 0; i < 4096; ++i) {
        const std::uint32_t differ = streams[a].u32(i) ^ streams[b].u32(i);
        agree += 32 - std::popcount(differ);
        equal += differ == 0 ? 1 : 0;
      }
      CAPTURE(a, b);
      CHECK(std::abs(agree - 65536) < 6 * 182);
      CHECK(equal == 0);
    }
}

TEST_CASE("numbers are uniform", "[rng]") {
  // Chi-square quantiles at a false-alarm rate of 1e-6 each: 255 df 377.08, 96 df 176.78.
  const random_stream s(base, 1);
  const auto at = [](int i) { return static_cast<std::uint64_t>(i); };
  constexpr int draws = 1 << 18;
  CHECK(chi_square(256, draws, [&](int i) { return s.u32(at(i)) >> 24; }) < 377.08);
  CHECK(chi_square(256, draws, [&](int i) { return s.u32(at(i)) & 255U; }) < 377.08);
  CHECK(chi_square(256, draws, [&](int i) { return s.u64(at(i)) >> 56; }) < 377.08);
  CHECK(chi_square(97, draws, [&](int i) { return s.below(at(i), 97); }) < 176.78);
  SECTION("in pairs of neighbours") {
    CHECK(chi_square(256, draws, [&](int i) {
            return (s.u32(at(2 * i)) >> 28) * 16U + (s.u32(at(2 * i + 1)) >> 28);
          }) < 377.08);
  }
  SECTION("at equal index over the steps of a sequence") {
    CHECK(chi_square(256, draws, [&](int i) {
            return random_stream({7, 11, 3, 5, at(i)}, 1).u32(0) >> 24;
          }) < 377.08);
  }
}

TEST_CASE("below stays below its bound", "[rng]") {
  const random_stream s(base, 1);
  for (std::uint64_t i = 0; i < 1000; ++i) {
    CHECK(s.below(i, 0) == 0);
    CHECK(s.below(i, 1) == 0);
    CHECK(s.below(i, 3) < 3);
    CHECK(s.below(i, ~0ULL) < ~0ULL);
  }
  // Reaches both ends of a small range: missing one in 1000 draws has odds of 3 (2/3)^1000.
  int seen = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) seen |= 1 << s.below(i, 3);
  CHECK(seen == 7);
}

TEST_CASE("a stream is 16 bytes and works in a constant expression", "[rng]") {
  // A constant expression neither holds memory nor has a side effect.
  static_assert(std::is_trivially_copyable_v<random_stream> && sizeof(random_stream) == 16);
  constexpr random_stream s(base, 1);
  static_assert(s.u32(0) == s.quad(0)[0] && s.below(3, 10) < 10);
  static_assert(noexcept(s.u32(0)) && noexcept(s.u64(0)) && noexcept(s.below(0, 1)));
  SUCCEED();
}
