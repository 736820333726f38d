// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/none.hpp"

#include "support/cost_contract.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("no thought of cost keeps the contract of costs") { check_cost_contract(cost::none()); }

TEST_CASE("no thought of cost never answers densely") {
  for (const call_prospect& call : many_calls()) {
    CHECK_FALSE(cost::none().dense_at_once(call));
    CHECK_FALSE(cost::none().dense_from_here(call, {.drawn = 1, .refined = 1, .more = 1e9}));
  }
}
