// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/guarantee.hpp"

#include <limits>
#include <type_traits>

#include "support/catch.hpp"

using namespace vattn;

TEMPLATE_TEST_CASE("epsilons and delta hold a number strictly between 0 and 1", "", epsilon,
                   epsilon_of_values, delta) {
  CHECK(TestType(0.05).value() == 0.05);
  CHECK(TestType(std::numeric_limits<double>::denorm_min()).value() > 0.0);
  CHECK(TestType(std::nextafter(1.0, 0.0)).value() < 1.0);

  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {0.0, -0.0, 1.0, -0.1, 1.1, inf, -inf, nan}) {
    CAPTURE(bad);
    CHECK_THROWS_AS(TestType(bad), std::invalid_argument);
  }
}

TEST_CASE("epsilon and delta are told apart, by type and by message") {
  STATIC_REQUIRE_FALSE(std::is_convertible_v<double, epsilon>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<double, delta>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<epsilon, delta>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<delta, epsilon>);
  CHECK_THROWS_WITH(epsilon(2.0), "vattention: epsilon: want 0 < epsilon < 1, got 2");
  CHECK_THROWS_WITH(delta(0.0), "vattention: delta: want 0 < delta < 1, got 0");
}

TEST_CASE("an extent in rows is that many, and never more than there are") {
  CHECK(rows(128).of(1000) == 128);
  CHECK(rows(128).of(128) == 128);
  CHECK(rows(128).of(100) == 100);
  CHECK(rows(128).of(0) == 0);
  CHECK(rows(0).of(1000) == 0);
  CHECK(rows(std::numeric_limits<index_t>::max()).of(7) == 7);
  CHECK_THROWS_WITH(rows(-1), "vattention: extent::rows: want count >= 0, got -1");
}

TEST_CASE("an extent as a fraction is rounded up") {
  CHECK(fraction(0.0).of(1000) == 0);
  CHECK(fraction(1.0).of(1000) == 1000);
  CHECK(fraction(0.5).of(1000) == 500);
  CHECK(fraction(0.5).of(1001) == 501);
  CHECK(fraction(1e-9).of(10) == 1);
  CHECK(fraction(0.3).of(0) == 0);
  CHECK(fraction(1.0).of((index_t{1} << 31) - 1) == (index_t{1} << 31) - 1);
}

TEST_CASE("a fraction outside 0 to 1 is refused") {
  CHECK_THROWS_WITH(fraction(1.5), "vattention: extent::fraction: want 0 <= share <= 1, got 1.5");
  CHECK_THROWS_AS(fraction(-0.01), std::invalid_argument);
  CHECK_THROWS_AS(fraction(std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
}

TEST_CASE("an extent never leaves 0 to population") {
  for (const index_t population : {0, 1, 2, 3, 10, 97, 32768}) {
    for (const double share : {0.0, 1e-12, 0.02, 1.0 / 3.0, 0.999999999999, 1.0}) {
      const index_t size = fraction(share).of(population);
      CAPTURE(population, share, size);
      CHECK(size >= 0);
      CHECK(size <= population);
      CHECK(static_cast<double>(size) >= share * static_cast<double>(population));
    }
  }
}

TEST_CASE("absolute errors are positive and finite") {
  CHECK(absolute_error(1e-300).value() == 1e-300);
  CHECK(absolute_error(1e300).value() == 1e300);
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity(), std::nan("")})
    CHECK_THROWS_AS(absolute_error(bad), std::invalid_argument);
  CHECK_THROWS_WITH(absolute_error(-1.0),
                    "vattention: absolute_error: want a positive finite error, got -1");
}

TEST_CASE("what may be asked of an output says what it is measured in") {
  STATIC_REQUIRE(output_target<epsilon>);
  STATIC_REQUIRE(output_target<epsilon_of_values>);
  STATIC_REQUIRE(output_target<absolute_error>);
  STATIC_REQUIRE_FALSE(output_target<delta>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<epsilon, epsilon_of_values>);
}
