// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the avx512 row keeps the contract of its dot products", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  const kernels::table& row = kernels::get(kernels::isa::avx512);
  check_dot_rows(row);
  check_upcoming(row);
}

}  // namespace vattn::test
