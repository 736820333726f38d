// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/neon_array.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the neon row keeps the contract of its kernels on arrays", "[kernels]") {
  if (!kernels::supported(kernels::isa::neon)) return;
  const kernels::table& row = kernels::get(kernels::isa::neon);
  check_max_of(row);
  check_exp_shifted(row);
  check_scale_sums(row);
  check_not_below(row);
  check_count_reaching(row);
  check_mark_reaching(row);
  check_random_blocks(row);
}

}  // namespace vattn::test
