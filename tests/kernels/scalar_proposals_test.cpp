// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/scalar_proposals.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("proposals of the scalar row keep the contract", "[kernels]") {
  const kernels::table& row = kernels::get(kernels::isa::scalar);
  check_weigh_sums(row);
  check_byte_norms(row);
  check_within_reach(row);
  check_proposal_logs(row);
}

TEST_CASE("the rough logarithm is never above the exact one, and at most .09 below", "[kernels]") {
  for (std::uint32_t u = 0; u < 1U << 16U; ++u) {
    const double exact = std::log2((static_cast<double>(u) * 0x1p16 + 1.0) * 0x1p-32);
    const auto below =
        static_cast<double>(kernels::scalar::log2_below(static_cast<std::uint16_t>(u)));
    REQUIRE(below <= exact + 1e-4);
    if (u > 0) REQUIRE(below >= exact - 0.09);
  }
}

}  // namespace vattn::test
