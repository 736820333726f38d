// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx2_proposals.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("proposals of the avx2 row keep the contract", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx2)) return;
  const kernels::table& row = kernels::get(kernels::isa::avx2);
  check_weigh_sums(row);
  check_byte_norms(row);
  check_within_reach(row);
  check_proposal_logs(row);
}

}  // namespace vattn::test
