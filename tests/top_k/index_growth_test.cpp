// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/index_growth.hpp"

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;

TEST_CASE("an index takes in a view that has grown, of its own dimension", "[top_k]") {
  test::prepared_call c({30, 16});
  const kv_view kv = c.view();
  CHECK_NOTHROW(top_k::require_growth("here", kv, 16, 30));
  CHECK_NOTHROW(top_k::require_growth("here", kv, 16, 0));
  CHECK_THROWS_AS(top_k::require_growth("here", kv, 17, 30), std::invalid_argument);
  CHECK_THROWS_WITH(top_k::require_growth("here", kv, 16, 31),
                    Catch::Contains("here") && Catch::Contains("30, 31"));
}

TEST_CASE("room is made for half as many more") {
  std::vector<int> all{1, 2};
  top_k::reserve_ahead(all, 100);
  CHECK(all.capacity() >= 150);
  CHECK(all == std::vector<int>{1, 2});
  CHECK(test::count_allocations([&] { top_k::reserve_ahead(all, 150); }) == 0);
}
