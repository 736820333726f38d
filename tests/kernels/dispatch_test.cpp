// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/dispatch.hpp"

#include <cstdlib>
#include <string>

#include "support/catch.hpp"

namespace vattn::kernels {

TEST_CASE("every row has its own number and name and no hole", "[kernels]") {
  CHECK(supported(isa::scalar));
  if (supported(isa::avx512)) CHECK(supported(isa::avx2));
  for (const isa id : all_isas) {
    if (!supported(id)) continue;
    const table& row = get(id);
    CHECK(row.id == id);
    const char* const names[] = {"scalar", "avx2", "avx512", "neon"};
    CHECK(row.name == std::string(names[static_cast<int>(id)]));
    CHECK(row.dot_rows != nullptr);
    CHECK(row.sum_rows != nullptr);
    CHECK(row.random_blocks != nullptr);
    CHECK(row.max_of != nullptr);
    CHECK(row.exp_shifted != nullptr);
    CHECK(row.scan_codes != nullptr);
    CHECK(row.match_signs != nullptr);
    CHECK(row.match_halves != nullptr);
    CHECK(row.proposal_logs != nullptr);
    CHECK(row.scale_sums != nullptr);
    CHECK(row.not_below != nullptr);
    CHECK(row.count_reaching != nullptr);
    CHECK(row.mark_reaching != nullptr);
  }
}

TEST_CASE("the rows are those of the machine the program was compiled for", "[kernels]") {
#if VATTN_X86_KERNELS
  CHECK(!supported(isa::neon));
#elif VATTN_NEON_KERNELS
  CHECK(supported(isa::neon));
  CHECK(!supported(isa::avx2));
  CHECK(!supported(isa::avx512));
#else
  CHECK(!supported(isa::neon));
  CHECK(!supported(isa::avx2));
#endif
}

TEST_CASE("the active row is chosen once and can run", "[kernels]") {
  CHECK(supported(active().id));
  CHECK(&active() == &active());
  CHECK(&active() == &get(active().id));
}

TEST_CASE("VATTN_ISA picks a supported row and nothing else", "[kernels]") {
  const char* const before = std::getenv("VATTN_ISA");
  const std::string kept = before == nullptr ? "" : before;
  unsetenv("VATTN_ISA");
  const isa best = compiled_rows<>::chosen();
  for (const isa id : all_isas) {
    if (supported(id)) CHECK(static_cast<int>(best) >= static_cast<int>(id));
  }
  setenv("VATTN_ISA", "scalar", 1);
  CHECK(compiled_rows<>::chosen() == isa::scalar);
  setenv("VATTN_ISA", "avx2", 1);
  CHECK(compiled_rows<>::chosen() == (supported(isa::avx2) ? isa::avx2 : best));
  setenv("VATTN_ISA", "avx512", 1);
  CHECK(compiled_rows<>::chosen() == (supported(isa::avx512) ? isa::avx512 : best));
  setenv("VATTN_ISA", "neon", 1);
  CHECK(compiled_rows<>::chosen() == (supported(isa::neon) ? isa::neon : best));
  for (const char* unknown : {"", "avx", "AVX2", "asimd"}) {
    setenv("VATTN_ISA", unknown, 1);
    CHECK(compiled_rows<>::chosen() == best);
  }
  if (before == nullptr) {
    unsetenv("VATTN_ISA");
  } else {
    setenv("VATTN_ISA", kept.c_str(), 1);
  }
}

}  // namespace vattn::kernels
