// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/prospect.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("what is not read for certain may be sampled") {
  const call_prospect call{.rows = 1000, .exact = 96};
  CHECK(call.rest() == 904);
}

TEST_CASE("a prospect of nothing asks for no error and grows by nothing") {
  CHECK(std::isnan(call_prospect{}.epsilon));
  CHECK(call_prospect{}.levels == 0);
  CHECK(growth_prospect{}.more == 0.0);
}
