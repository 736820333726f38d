// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/draw.hpp"

#include <cmath>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a threshold and its probability are one number") {
  STATIC_REQUIRE(probability(certain) == 1.0);
  STATIC_REQUIRE(probability(0) == 0x1p-32);
  STATIC_REQUIRE(threshold_of(1.0) == certain);
  STATIC_REQUIRE(threshold_of(0.5) == 0x7FFFFFFFU);
  for (threshold_t threshold = 1; threshold < certain / 2; threshold = threshold * 3 + 1)
    for (const threshold_t t : {threshold - 1, threshold, certain - threshold}) {
      CAPTURE(t);
      CHECK(threshold_of(probability(t)) == t);
    }
  for (threshold_t t = certain - 5; t != 0; ++t) CHECK(threshold_of(probability(t)) == t);
}

TEST_CASE("the threshold next to a probability is at most half a step away") {
  for (double p = 1.0; p >= 0x1p-32; p *= 0.83) {
    CAPTURE(p);
    CHECK(std::fabs(probability(threshold_of(p)) - p) <= 0x1p-33);
  }
}

TEST_CASE("thresholds are monotone, and end at 2^-32 and 1") {
  threshold_t before = 0;
  for (double p = 1e-12; p < 1.5; p *= 1.07) {
    CHECK(threshold_of(p) >= before);
    before = threshold_of(p);
  }
  CHECK(before == certain);
  CHECK(threshold_of(0.0) == 0);
  CHECK(threshold_of(1e-300) == 0);
  CHECK(threshold_of(0x1p-33) == 0);
  CHECK(threshold_of(0x1p-32) == 0);
  CHECK(threshold_of(0x1p-31) == 1);
  CHECK(threshold_of(1.0 - 0x1p-33) == certain);
  CHECK(threshold_of(1.0 - 0x1p-40) == certain);
  CHECK(threshold_of(1.0 - 0x1p-53) == certain);
  CHECK(threshold_of(1.0 - 0x1p-32) == certain - 1);
  CHECK(threshold_of(1.0 + 1e-9) == certain);
  CHECK(threshold_of(7.0) == certain);
}

TEST_CASE("a draw keeps its rows in order and tells the fresh ones") {
  sample s;
  s.reset(10);
  CHECK(s.size() == 0);
  s.begin_growth();
  s.append(4, 100);
  s.append(9, 100);
  CHECK(s.fresh() == 0);
  s.begin_growth();
  s.append(1, 200);
  CHECK(s.fresh() == 2);
  CHECK(s.size() == 3);
  CHECK(std::vector<row_t>(s.rows().begin(), s.rows().end()) == std::vector<row_t>{4, 9, 1});
  CHECK(s.thresholds()[0] == 100);
  CHECK(s.thresholds()[2] == 200);

  s.set_all(300);
  for (const threshold_t t : std::as_const(s).thresholds()) CHECK(t == 300);
  for (row_t& row : s.rows_from(2)) row = 7;
  CHECK(s.rows()[2] == 7);
  CHECK(s.rows_from(3).empty());

  s.reset(10);
  CHECK(s.size() == 0);
  CHECK(s.fresh() == 0);
  CHECK(s.rows().empty());
}

TEST_CASE("a draw allocates only where it has never been as large") {
  sample s;
  s.reset(1000);
  CHECK(test::count_allocations([&] {
          s.reset(1000);
          s.reset(10);
          s.reset(1500);  // room to spare
          for (row_t row = 0; row < 1500; ++row) s.append(row, certain);
          s.set_all(5);
        }) == 0);
  CHECK(test::count_allocations([&] { s.reset(1501); }) == (test::counts_allocations ? 2 : 0));
}
