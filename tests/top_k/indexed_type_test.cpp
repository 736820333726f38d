// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/indexed_type.hpp"

#include <sstream>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/index_file.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("an index without rows admits keys of any type, then of that one alone", "[top_k]") {
  prepared_call wide({30, 32}), narrow({30, 32, 1, element::f16}),
      blocks({30, 32, 1, element::q8_0});
  top_k::indexed_type type;
  for (prepared_call* c : {&wide, &narrow, &blocks}) CHECK(type.admits(c->view(), 0));
  type.took(narrow.view());
  CHECK(type.admits(narrow.view(), 30));
  CHECK_FALSE(type.admits(wide.view(), 30));
  CHECK_FALSE(type.admits(blocks.view(), 1));
  CHECK(type.admits(blocks.view(), 0));
  CHECK_NOTHROW(type.require_of("here", narrow.view(), 30));
  CHECK_THROWS_WITH(type.require_of("here", blocks.view(), 30),
                    "vattention: here: want keys of the type that the index has taken in (keys, "
                    "index), got q8_0, f16");
}

TEST_CASE("the type goes to a file and back", "[top_k]") {
  prepared_call narrow({30, 32, 1, element::bf16});
  top_k::indexed_type type, read;
  type.took(narrow.view());
  detail::index_writer out;
  type.exchange(out);
  detail::index_reader in(out.bytes());
  read.exchange(in);
  CHECK(read.admits(narrow.view(), 30));
}

TEST_CASE("element types have names") {
  CHECK(std::string(to_string(element::f32)) == "f32");
  CHECK(std::string(to_string(element::bf16)) == "bf16");
  CHECK(std::string(to_string(element::f16)) == "f16");
  CHECK(std::string(to_string(element::q8_0)) == "q8_0");
  CHECK(std::string(to_string(static_cast<element>(9))) == "none known");
}
