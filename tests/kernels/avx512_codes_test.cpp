// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512_codes.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("codes of single keys are summed exactly by the avx512 row, for any number of words",
          "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  for (const int bits : {1, 2, 4, 8})
    for (index_t words = 1; words <= 20; ++words)
      check_scan_shape(kernels::get(kernels::isa::avx512), bits, 1, words, 2, false);
}

}  // namespace vattn::test
