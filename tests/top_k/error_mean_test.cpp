// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/error_mean.hpp"

#include <limits>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a mean of squares leaves out what is not finite", "[top_k]") {
  top_k::error_mean mean;
  CHECK(mean.square() == 0.0);
  mean.add(0, 3.0F);
  mean.add(1, std::numeric_limits<float>::infinity());
  mean.add(2, std::numeric_limits<float>::quiet_NaN());
  mean.add(3, 1.0F);
  CHECK(mean.square() == 5.0);
  mean.clear();
  CHECK(mean.square() == 0.0);
}

TEST_CASE("a mean goes back to a multiple of 16 keys") {
  top_k::error_mean whole, part;
  for (index_t row = 0; row < 100; ++row) {
    const float norm = 0.1F + 0.01F * static_cast<float>(row * row % 17);
    whole.add(row, norm);
    if (row < 48) part.add(row, norm);
  }
  whole.forget(48);
  CHECK(whole.square() == part.square());
  whole.add(48, 2.0F);
  part.add(48, 2.0F);
  CHECK(whole.square() == part.square());
  whole.forget(0);
  CHECK(whole.square() == 0.0);
}
