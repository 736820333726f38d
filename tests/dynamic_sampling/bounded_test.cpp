// SPDX-License-Identifier: Apache-2.0
#include "vattention/dynamic_sampling/bounded.hpp"

#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;

TEST_CASE("bounded samplers of one quantity go together") {
  STATIC_REQUIRE(dynamic_sampling_policy<dynamic_sampling::bounded<quantity::denominator>>);
  STATIC_REQUIRE(dynamic_sampling::bounded<quantity::output>::what ==
                 base_sampling::bounded<quantity::output>::what);
  STATIC_REQUIRE(dynamic_sampling::bounded<quantity::output>::scheme == design::independent);
}

TEST_CASE("what a strict call draws depends on its draw key alone") {
  const synthetic_head head = make_head(head_kind::mixed, 4096, 64, 32, 2, 8);
  const auto functor = presets::strict_denominator(epsilon{0.3}, delta{0.1});
  const auto index = functor.make_index(head.view());
  workspace ws;
  const auto rows_of = [&](draw_key key) {
    static_cast<void>(functor(head.group(), head.view(), index, key, ws));
    return std::vector<row_t>(ws.drawn.rows().begin(), ws.drawn.rows().end());
  };
  const std::vector<row_t> rows = rows_of({1, 2, 3, 4, 5});
  CHECK(rows.size() > 20);
  CHECK(rows == rows_of({1, 2, 3, 4, 5}));
  CHECK(rows != rows_of({1, 2, 3, 4, 6}));
  CHECK(rows != rows_of({1, 2, 3, 5, 5}));
}
