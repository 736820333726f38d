// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/bounded.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("only the output's sampler takes a pilot") {
  CHECK(base_sampling::bounded<quantity::denominator>().size(10000) == 0);
  CHECK(base_sampling::bounded<quantity::output>().size(10000) == 96);
  CHECK(base_sampling::bounded<quantity::output>(20).size(10000) == 20);
  CHECK(base_sampling::bounded<quantity::output>(20).size(7) == 7);
}

TEST_CASE("a pilot of no rows is refused") {
  CHECK_THROWS_WITH(base_sampling::bounded<quantity::output>(0),
                    "vattention: base_sampling::bounded: want pilot >= 1, got 0");
}
