// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/lsh.hpp"

#include "support/reseeded.hpp"
#include "vattention/dynamic_sampling/lsh.hpp"
#include "vattention/top_k/lsh.hpp"

using namespace vattn;

namespace {

auto with_tables(int tables, int bits, base_sampling::lsh base) {
  return [=](std::uint64_t seed) {
    return test::samplers{base, dynamic_sampling::lsh(), top_k::lsh(tables, bits, rows(0), seed)};
  };
}

}  // namespace

TEST_CASE("base lsh keeps the contract of samplers over the seeds of the index", "[sampling]") {
  SECTION("tables of a bit") {
    test::check_reseeded_samplers(with_tables(64, 1, base_sampling::lsh(rows(30), 1)));
  }
  SECTION("tables of eight bits") {
    test::check_reseeded_samplers(with_tables(8, 8, base_sampling::lsh(fraction(0.1), 1, 40)));
  }
}

TEST_CASE("the expected size of a sample by collisions is a share of the residual in its limits") {
  const base_sampling::lsh usual;
  CHECK(usual.size(10) == 10);
  CHECK(usual.size(1000) == 64);
  CHECK(usual.size(10000) == 300);
  CHECK(usual.size(0) == 0);
  const base_sampling::lsh within(rows(100), 1, 50);
  CHECK(within.size(4000) == 50);
}

TEST_CASE("limits of a sample by collisions out of order are refused") {
  CHECK_THROWS_WITH(base_sampling::lsh(rows(1), 0, 4),
                    "vattention: base_sampling::lsh: want 1 <= at_least <= at_most, got 0, 4");
  CHECK_THROWS_AS(base_sampling::lsh(rows(1), 9, 4), std::invalid_argument);
}

TEST_CASE("a base sample by collisions has about the rows that it states", "[sampling]") {
  double drawn = 0.0;
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    test::sampling s(with_tables(64, 1, base_sampling::lsh(rows(50), 1))(seed), 2);
    s.draw({seed});
    drawn += static_cast<double>(s.drawn().size()) / 200.0;
  }
  CHECK(drawn == Approx(50.0).epsilon(0.08));
}

TEST_CASE("an empty residual gives an empty draw by collisions") {
  test::sampling s(with_tables(64, 1, base_sampling::lsh())(1), 1, 8);
  s.draw({3});
  CHECK(s.residual() == 0);
  CHECK(s.drawn().size() == 0);
}
