// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/permutation.hpp"

#include <algorithm>
#include <cmath>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

random_stream stream_of(std::uint64_t seed) { return random_stream({seed}, 1); }

/// The first `count` ranks of a permutation of n, drawn in the given steps.
list prefix(permutation& p, index_t n, const std::vector<index_t>& steps, std::uint64_t seed) {
  p.begin(n);
  list all;
  for (const index_t size : steps) {
    const std::span<const row_t> fresh = p.extend(size, stream_of(seed));
    all.insert(all.end(), fresh.begin(), fresh.end());
  }
  return all;
}
list prefix(index_t n, const std::vector<index_t>& steps, std::uint64_t seed) {
  permutation p;
  p.reserve(n);
  return prefix(p, n, steps, seed);
}

}  // namespace

TEST_CASE("all of it is a permutation") {
  for (const index_t n : {1, 2, 3, 10, 64, 1000}) {
    list all = prefix(n, {n}, 3);
    std::sort(all.begin(), all.end());
    REQUIRE(static_cast<index_t>(all.size()) == n);
    for (index_t i = 0; i < n; ++i) REQUIRE(all[static_cast<std::size_t>(i)] == i);
  }
}

TEST_CASE("step i swaps rank i with the one that number origin + i of the stream points at") {
  for (const std::uint64_t origin : {0ULL, 1ULL, 7ULL << 32U, (1ULL << 63U) - 64U}) {
    std::vector<row_t> expected(61);
    std::iota(expected.begin(), expected.end(), 0U);
    for (std::size_t i = 0; i < 61; ++i)
      std::swap(expected[i], expected[i + stream_of(6).below(origin + i, 61 - i)]);
    permutation p;
    p.reserve(61);
    p.begin(61);
    list all;
    for (const index_t size : {1, 4, 4, 9, 10, 60, 61})
      for (const row_t rank : p.extend(size, stream_of(6), origin)) all.push_back(rank);
    CHECK(all == expected);
  }
}

TEST_CASE("any prefix is the beginning of every longer one, in whatever steps it is drawn") {
  const list all = prefix(500, {500}, 8);
  for (const std::vector<index_t>& steps :
       {std::vector<index_t>{0}, {1}, {7, 7, 50}, {1, 2, 3, 4, 499}, {0, 0, 250, 500}}) {
    const list some = prefix(500, steps, 8);
    REQUIRE(static_cast<index_t>(some.size()) == steps.back());
    CHECK(std::equal(some.begin(), some.end(), all.begin()));
  }
}

TEST_CASE("a permutation begins anew from the identity, whatever came before") {
  permutation used;
  used.reserve(300);
  prefix(used, 300, {300}, 1);
  CHECK(prefix(used, 300, {40}, 2) == prefix(300, {40}, 2));
  prefix(used, 300, {17, 200}, 3);
  CHECK(prefix(used, 120, {120}, 2) == prefix(120, {120}, 2));
  CHECK(prefix(used, 300, {300}, 2) == prefix(300, {300}, 2));
  prefix(used, 300, {150}, 5);
  used.reserve(4000);  // grown in the middle of a draw
  CHECK(prefix(used, 4000, {4000}, 2) == prefix(4000, {4000}, 2));
  used.begin(10);
  used.begin(10);
  CHECK(prefix(used, 10, {10}, 2) == prefix(10, {10}, 2));
}

TEST_CASE("a prefix depends on stream, origin and n") {
  const list base = prefix(1000, {50}, 1);
  CHECK(prefix(1000, {50}, 1) == base);
  CHECK(prefix(1000, {50}, 2) != base);
  CHECK(prefix(1001, {50}, 1) != base);
  permutation p;
  p.reserve(1000);
  p.begin(1000);
  const std::span<const row_t> moved = p.extend(50, stream_of(1), 1ULL << 32U);
  CHECK(list(moved.begin(), moved.end()) != base);
}

TEST_CASE("the draw order is uniform over all arrangements") {
  // 5 ranks, first 3: 60 arrangements, 60000 draws; chi-square 59 df, false alarm 1e-6: 124.7.
  std::vector<int> count(125, 0);
  permutation p;
  p.reserve(5);
  constexpr int trials = 60000;
  for (std::uint64_t t = 0; t < trials; ++t) {
    const list three = prefix(p, 5, {1, 3}, t);
    ++count[three[0] * 25 + three[1] * 5 + three[2]];
  }
  double statistic = 0.0;
  int cells = 0;
  for (const int c : count) {
    if (c == 0) continue;
    ++cells;
    statistic += (c - trials / 60.0) * (c - trials / 60.0) / (trials / 60.0);
  }
  CHECK(cells == 60);
  CHECK(statistic < 124.7);
}

TEST_CASE("every rank is equally likely at every place") {
  // n = 50: 2500 cells of 400; the doubly constrained table has 49^2 = 2401 df, false alarm 1e-6: 2741.
  constexpr index_t n = 50;
  constexpr int trials = 20000;
  std::vector<int> count(n * n, 0);
  permutation p;
  p.reserve(n);
  for (std::uint64_t t = 0; t < trials; ++t) {
    const list all = prefix(p, n, {n / 2, n}, t);
    for (std::size_t i = 0; i < n; ++i) ++count[i * n + all[i]];
  }
  double statistic = 0.0;
  for (const int c : count)
    statistic += (c - trials / 50.0) * (c - trials / 50.0) / (trials / 50.0);
  CHECK(statistic * (n - 1.0) / n < 2741.0);
}

TEST_CASE("a permutation allocates in reserve() alone, and only to grow") {
  permutation p;
  p.reserve(1000);
  CHECK(test::count_allocations([&] {
          p.reserve(1000);
          p.reserve(10);
          p.begin(1000);
          static_cast<void>(p.extend(1000, stream_of(1)));
          p.begin(20);
          static_cast<void>(p.extend(20, stream_of(1)));
        }) == 0);
}
