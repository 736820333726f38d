// SPDX-License-Identifier: Apache-2.0
#include "vattention/static_indices/none.hpp"

#include "support/static_indices_contract.hpp"

using namespace vattn;

TEST_CASE("no static indices: the contract, and no row") {
  test::check_static_indices_contract(static_indices::none());
  CHECK(test::static_rows(static_indices::none(), 1000, 1000).empty());
  STATIC_REQUIRE(std::is_empty_v<static_indices::none>);
}
