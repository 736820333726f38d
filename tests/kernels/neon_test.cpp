// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/neon.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the neon row keeps the contract of its dot products", "[kernels]") {
  if (!kernels::supported(kernels::isa::neon)) return;
  const kernels::table& row = kernels::get(kernels::isa::neon);
  check_dot_rows(row);
  check_upcoming(row);
}

}  // namespace vattn::test
