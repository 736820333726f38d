// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx2_sum.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the avx2 row keeps the contract of its weighted sums", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx2)) return;
  const kernels::table& row = kernels::get(kernels::isa::avx2);
  check_sum_rows(row);
  check_long_sum(row);
}

}  // namespace vattn::test
