// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512_scan.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the integer kernels of the avx512 row are exact", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  check_scan_codes(kernels::get(kernels::isa::avx512));
  check_match_signs(kernels::get(kernels::isa::avx512));
  check_match_halves(kernels::get(kernels::isa::avx512));
}

#if VATTN_X86_KERNELS
TEST_CASE("so are those for CPUs without VNNI and VPOPCNTDQ", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  kernels::table row = kernels::get(kernels::isa::avx512);
  row.scan_codes = kernels::avx512::scan_codes;
  row.match_signs = kernels::avx512::match_signs;
  check_scan_codes(row);
  check_match_signs(row);
}
#endif

}  // namespace vattn::test
