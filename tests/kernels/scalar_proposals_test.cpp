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
  for (std::uint64_t u = 2; u < 1ULL << 32U; u += 1 + u / 1000) {
    const auto number = static_cast<std::uint32_t>(u);
    const double exact = std::log2((static_cast<double>(number) + 1.0) * 0x1p-32);
    const auto below = static_cast<double>(kernels::scalar::log2_below(number));
    REQUIRE(below <= exact + 1e-4);
    REQUIRE(below >= exact - (number < 1000 ? 1.0 : 0.09));
  }
  CHECK(kernels::scalar::log2_below(0) < -32.0F);
  CHECK(kernels::scalar::log2_below(1) < -31.0F);
}

}  // namespace vattn::test
