// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/collision_rule.hpp"

#include <numeric>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

/// P(N = n) by Pascal's triangle; fine for a few tables.
double point(int tables, double agree, int n) {
  double choose = 1.0;
  for (int i = 0; i < n; ++i) choose = choose * (tables - i) / (i + 1);
  return choose * std::pow(agree, n) * std::pow(1.0 - agree, tables - n);
}

double expected(const collision_rule& rule, double same_side) {
  const double agree = std::pow(same_side, rule.bits);
  double sum = 0.0;
  for (int n = 0; n <= rule.tables; ++n)
    sum += point(rule.tables, agree, n) * probability(rule.threshold(n));
  return sum;
}

}  // namespace

TEST_CASE("a rule's chance is the mean of its thresholds over the number of collisions") {
  for (const int tables : {1, 2, 8, 33})
    for (const int bits : {1, 2, 8})
      for (int least = 0; least <= tables + 1; ++least)
        for (const double same_side : {0.0, 0.01, 0.4, 0.5, 0.61, 0.93, 1.0}) {
          const collision_rule rule{tables, bits, least, 0x5000'0000U, 0x0020'0000U};
          CAPTURE(tables, bits, least, same_side);
          CHECK(rule.chance(same_side) == Approx(expected(rule, same_side)).epsilon(1e-12));
        }
}

TEST_CASE("two collisions or more, as MagicPIG has it") {
  collision_rule rule{150, 10, 2, 0, 0};
  for (const double same_side : {0.5, 0.6, 0.7, 0.8}) {
    const double p = std::pow(same_side, 10);
    const double theirs = 1.0 - std::pow(1.0 - p, 149) * (1.0 - p + 150 * p);
    // A threshold of 0 still is a chance of 2^-32.
    CHECK(rule.chance(same_side) == Approx(theirs).epsilon(1e-9).margin(0x1p-32));
  }
}

TEST_CASE("a chance has no more than rounding between one threshold and the next") {
  const collision_rule certain_rule{128, 1, 0, 0, 0};
  CHECK(certain_rule.chance(0.3) == 1.0);
  CHECK(certain_rule.threshold(0) == certain);
  const collision_rule rule{128, 1, 70, 1000, 10};
  CHECK(rule.threshold(128) == certain);
  CHECK(rule.threshold(70) == certain);
  CHECK(rule.threshold(69) == 1000);
  CHECK(rule.threshold(68) == 10);
  CHECK(rule.threshold(0) == 10);
  CHECK(rule.chance(0.0) == Approx(probability(10)).epsilon(1e-12));
  CHECK(rule.chance(1.0) == Approx(1.0).epsilon(1e-15));
  CHECK(std::isnan(rule.chance(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("a share lets about that share of the counted rows through") {
  std::vector<index_t> counts(65);
  for (int n = 0; n <= 64; ++n)
    counts[static_cast<std::size_t>(n)] = static_cast<index_t>(1e6 * point(64, 0.5, n));
  const index_t rows = std::accumulate(counts.begin(), counts.end(), index_t{0});
  for (const double share : {1e-4, 0.01, 0.03, 0.2, 0.7, 0.999})
    for (const double floor : {0.1, 0.3, 0.9}) {
      collision_rule rule{64, 1};
      rule.set(share, floor, counts);
      double taken = 0.0;
      for (int n = 0; n <= 64; ++n)
        taken += static_cast<double>(counts[static_cast<std::size_t>(n)]) *
                 probability(rule.threshold(n));
      CAPTURE(share, floor, rule.least);
      CHECK(taken / static_cast<double>(rows) == Approx(share).epsilon(1e-6));
      CHECK(probability(rule.even) == Approx(floor * share).epsilon(1e-5));
      CHECK(rule.edge >= rule.even);
    }
}

TEST_CASE("a larger share lowers no threshold, and at 1 all are certain") {
  const std::vector<index_t> counts{40, 0, 7, 3, 0, 1, 0, 0, 2};
  std::vector<threshold_t> before(9, 0);
  for (double share = 0.0; share < 1.1; share += 0.003) {
    collision_rule rule{8, 4};
    rule.set(share, 0.3, counts);
    for (int n = 0; n <= 8; ++n) {
      CAPTURE(share, n);
      const threshold_t now = rule.threshold(n);
      REQUIRE(now >= before[static_cast<std::size_t>(n)]);
      before[static_cast<std::size_t>(n)] = now;
    }
  }
  for (const threshold_t threshold : before) CHECK(threshold == certain);
}

TEST_CASE("without a row to go by, or without tables, chances are equal") {
  collision_rule rule{8, 1};
  rule.set(0.2, 0.3, std::vector<index_t>(9, 0));
  CHECK(rule.chance(0.1) == 1.0);
  collision_rule none{0, 1};
  none.set(0.2, 0.3, std::vector<index_t>{50});
  CHECK(probability(none.threshold(0)) == Approx(0.2).epsilon(1e-6));
  CHECK(none.chance(0.7) == Approx(0.2).epsilon(1e-6));
}
