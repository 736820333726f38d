// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/cost_profile.hpp"

#include <limits>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("every price has its item, and every item its count") {
  STATIC_REQUIRE(sizeof(cost_profile) == cost_items.size() * sizeof(double));
  STATIC_REQUIRE(sizeof(call_work) == cost_items.size() * sizeof(double));
  STATIC_REQUIRE(std::is_aggregate_v<cost_profile>);
  STATIC_REQUIRE(std::is_trivially_copyable_v<cost_profile>);
  // Each name once, in the order of the members.
  cost_profile prices;
  call_work work;
  for (std::size_t i = 0; i < cost_items.size(); ++i) {
    prices.*cost_items[i].price = static_cast<double>(i + 1);
    work.*cost_items[i].count = static_cast<double>(i + 1);
  }
  const auto* price = reinterpret_cast<const double*>(&prices);
  const auto* count = reinterpret_cast<const double*>(&work);
  for (std::size_t i = 0; i < cost_items.size(); ++i) {
    CHECK(price[i] == static_cast<double>(i + 1));
    CHECK(count[i] == static_cast<double>(i + 1));
    for (std::size_t j = 0; j < i; ++j)
      CHECK(std::string(cost_items[i].name) != cost_items[j].name);
  }
  CHECK(prices.dense_row == static_cast<double>(dense_items));
}

TEST_CASE("time is counts times prices") {
  cost_profile prices;
  prices.record = 3.0;
  prices.look = 7.0;
  call_work work;
  CHECK(time_of(work, prices) == 0.0);
  work.record = 10.0;
  work.look = 2.0;
  CHECK(time_of(work, prices) == 44.0);
}

TEST_CASE("a price that is none is refused by its name") {
  CHECK_NOTHROW(require_prices("here", {}));
  for (const cost_item& item : cost_items)
    for (const double bad : {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(),
                             std::numeric_limits<double>::infinity()}) {
      cost_profile prices;
      prices.*item.price = bad;
      CHECK_THROWS_AS(require_prices("here", prices), std::invalid_argument);
      CHECK_THROWS_WITH(
          require_prices("here", prices),
          Catch::Matchers::StartsWith(std::string("vattention: here: want a positive finite ") +
                                      item.name + " [ns], got "));
    }
}
