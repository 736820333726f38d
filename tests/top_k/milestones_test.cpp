// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/milestones.hpp"

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

namespace {

struct number {
  double value = 0.0;
};

}  // namespace

TEST_CASE("a sum goes back to what it was at any 16th row", "[top_k]") {
  top_k::milestones<number> all;
  number now;
  const auto add = [&](index_t from, index_t to) {
    for (index_t row = from; row < to; ++row) {
      all.pass(row, now);
      now.value += static_cast<double>(row);
    }
  };
  const auto sum_below = [](index_t rows) { return static_cast<double>(rows * (rows - 1) / 2); };
  add(0, 100);
  now = all.back_to(96, now);
  CHECK(now.value == sum_below(96));
  now = all.back_to(32, now);
  CHECK(now.value == sum_below(32));
  add(32, 64);
  CHECK(all.back_to(64, now).value == sum_below(64));  // that row has not come yet
  CHECK(all.back_to(1600, now).value == sum_below(64));
  CHECK(all.back_to(48, now).value == sum_below(48));
  now = all.back_to(0, now);
  CHECK(now.value == 0.0);
  CHECK(all.back_to(0, number{5.0}).value == 0.0);
  all.reserve(1000);
  CHECK(test::count_allocations([&] { add(0, 1000); }) == 0);
}
