// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/neon_sum.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the neon row keeps the contract of its weighted sums", "[kernels]") {
  if (!kernels::supported(kernels::isa::neon)) return;
  const kernels::table& row = kernels::get(kernels::isa::neon);
  check_sum_rows(row);
  check_long_sum(row);
}

}  // namespace vattn::test
