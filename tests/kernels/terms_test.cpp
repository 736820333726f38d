// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/terms.hpp"

#include <cmath>

#include "support/catch.hpp"

TEST_CASE("log2 e is the float next to it", "[kernels]") {
  CHECK(vattn::kernels::log2_e == static_cast<float>(1.0 / std::log(2.0)));
}
