// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/scalar.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the scalar row keeps the contract of the table", "[kernels]") {
  check_table(kernels::get(kernels::isa::scalar));
}

TEST_CASE("a dot product of any length", "[kernels]") {
  const float a[11] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  CHECK(kernels::scalar::dot(a, a, 0) == 0);
  CHECK(kernels::scalar::dot(a, a, 8) == 204);
  CHECK(kernels::scalar::dot(a, a, 11) == 506);
}

}  // namespace vattn::test
