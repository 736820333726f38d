// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/prefetch.hpp"

#include "support/catch.hpp"

namespace vattn::kernels {

TEST_CASE("the plan looks ahead by whole blocks", "[kernels]") {
  CHECK(active_plan().rows_ahead >= 16);
  CHECK(active_plan().rows_ahead % 16 == 0);
  CHECK(&active_plan() == &active_plan());
}

TEST_CASE("a prefetch never faults", "[kernels]") {
  for (const bool to_l1 : {false, true}) {
    prefetch_lines(nullptr, 300, to_l1);
    prefetch_lines(reinterpret_cast<const void*>(std::uintptr_t{63}), 0, to_l1);
  }
}

TEST_CASE("the rows ahead end with the last one of the list", "[kernels]") {
  const char bytes[8] = {};
  const void* rows[8];
  for (int i = 0; i < 8; ++i) rows[i] = bytes + i;
  const rows_ahead next(rows, 8, 5);
  CHECK(next.address(0) == bytes + 5);
  CHECK(next.address(2) == bytes + 7);
  CHECK(next.address(100) == bytes + 7);
  for (const index_t i : {0, 2, 3, 100}) next.ask(i, 0, 300);
  rows_ahead().ask(0, 0, 64);
}

}  // namespace vattn::kernels
