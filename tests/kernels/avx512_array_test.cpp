// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512_array.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the avx512 row keeps the contract of its kernels on arrays", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  const kernels::table& row = kernels::get(kernels::isa::avx512);
  check_max_of(row);
  check_exp_shifted(row);
  check_scale_sums(row);
  check_not_below(row);
  check_count_reaching(row);
  check_mark_reaching(row);
  check_random_blocks(row);
}

}  // namespace vattn::test
