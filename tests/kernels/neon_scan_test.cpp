// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/neon_scan.hpp"

#include <cstdlib>
#include <string_view>

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the integer kernels of the neon row are exact", "[kernels]") {
  if (!kernels::supported(kernels::isa::neon)) return;
  check_scan_codes(kernels::get(kernels::isa::neon));
  check_match_signs(kernels::get(kernels::isa::neon));
  check_match_halves(kernels::get(kernels::isa::neon));
}

#if VATTN_NEON_KERNELS
TEST_CASE("the neon row scans with the dot product instructions where there are any", "[kernels]") {
  kernels::table row = kernels::get(kernels::isa::neon);
  const bool dot = kernels::neon::has_dot_product();
  const char* const named = std::getenv("QEMU_CPU");  // what an emulator was told to be
  const std::string_view cpu = named == nullptr ? "" : named;
  if (cpu == "cortex-a53") CHECK(!dot);
  if (cpu == "max") CHECK(dot);
  CHECK(row.scan_codes == (dot ? kernels::neon::scan_codes_dot : kernels::neon::scan_codes));
  row.name = "neon, without dot product instructions";
  row.scan_codes = kernels::neon::scan_codes;
  check_scan_codes(row);
}

TEST_CASE("a scan of more heads than are prepared at a time is exact", "[kernels]") {
  for (const int bits : {1, 2, 4, 8}) {
    check_scan_shape(kernels::get(kernels::isa::neon), bits, 2, 3, 67, false);
  }
}
#endif

}  // namespace vattn::test
