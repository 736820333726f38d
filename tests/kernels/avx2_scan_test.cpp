// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx2_scan.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the integer kernels of the avx2 row are exact", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx2)) return;
  check_scan_codes(kernels::get(kernels::isa::avx2));
  check_match_signs(kernels::get(kernels::isa::avx2));
  check_match_halves(kernels::get(kernels::isa::avx2));
}

}  // namespace vattn::test
