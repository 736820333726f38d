// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/error_mean.hpp"

#include <limits>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a mean of squares leaves out what is not finite", "[top_k]") {
  top_k::error_mean mean;
  CHECK(mean.square() == 0.0);
  mean.add(3.0F);
  mean.add(std::numeric_limits<float>::infinity());
  mean.add(std::numeric_limits<float>::quiet_NaN());
  mean.add(1.0F);
  CHECK(mean.square() == 5.0);
  mean.clear();
  CHECK(mean.square() == 0.0);
}
