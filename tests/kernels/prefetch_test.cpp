// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/prefetch.hpp"

#include "support/catch.hpp"

namespace vattn::kernels {

TEST_CASE("the plan looks at least one block ahead", "[kernels]") {
  CHECK(active_plan().blocks_ahead >= 1);
  CHECK(&active_plan() == &active_plan());
}

TEST_CASE("a prefetch never faults", "[kernels]") {
  for (const bool to_l1 : {false, true}) {
    prefetch_lines(nullptr, 300, to_l1);
    prefetch_lines(reinterpret_cast<const void*>(std::uintptr_t{63}), 0, to_l1);
  }
}

TEST_CASE("every `every`-th row is due, from the one named", "[kernels]") {
  const void* const rows[6] = {};
  row_prefetch next{rows, 6, 1, 3, true};
  const index_t waits[8] = {0, 2, 1, 0, 2, 1, 1, 1};
  for (index_t i = 0; i < 8; ++i) {
    next.due(i, 0, 64);
    CHECK(next.wait == waits[i]);
  }
}

TEST_CASE("values are due as whole blocks") {
  const void* const rows[2] = {};
  row_prefetch next{rows, 2, 0, 2, true};
  next.due_values<element::q8_0>(0, 16, 16);
  CHECK(next.wait == 1);
  next.due_values<element::bf16>(1, 3, 5);
  CHECK(next.wait == 0);
}

}  // namespace vattn::kernels
