// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/scratch.hpp"

#include <utility>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("scratch grows with room to spare and keeps what it has") {
  scratch<int> s;
  s.reserve(10);
  for (index_t i = 0; i < 10; ++i) s[i] = static_cast<int>(i);
  CHECK(test::count_allocations([&] { s.reserve(15); }) == 0);
  s.reserve(1000);
  for (index_t i = 0; i < 10; ++i) CHECK(std::as_const(s)[i] == i);
  CHECK(s.first(7).size() == 7);
  CHECK(s.first(7).data() == s.data());
  CHECK(std::as_const(s).data() == s.data());
}
