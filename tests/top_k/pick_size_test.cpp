// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/pick_size.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;

TEST_CASE("a size is rows, a share of rows or a share of the mass") {
  CHECK(pick_size(rows(7)).most(100) == 7);
  CHECK(pick_size(fraction(0.25)).most(100) == 25);
  CHECK_FALSE(pick_size(rows(7)).of_mass());
  const pick_size size = mass(0.9);
  CHECK(size.of_mass());
  CHECK(size.share() == 0.9);
  CHECK(size.most(100) == 100);
  CHECK(pick_size(mass(0.0)).most(100) == 0);
  CHECK_THROWS_AS(mass(-0.1), std::invalid_argument);
  CHECK_THROWS_AS(mass(1.1), std::invalid_argument);
  CHECK_THROWS_AS(mass(std::nan("")), std::invalid_argument);
}

TEST_CASE("a size is taken for each head, among the rows that are not in the exact set yet") {
  test::prepared_call c({.rows = 100, .dim = 8, .heads = 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const auto taken = [&](const pick_size& size) {
    const std::vector<row_t> already{0, 50};
    c.begin(true, already);
    for (int h = 0; h < 2; ++h) std::fill_n(c.ws.seen.scores(h).begin(), 100, 0.0F);
    // Of the rows left 10 have e^5 of weight each, 88 have 1: 94 % and 6 %.
    for (std::size_t i = 0; i < 10; ++i) {
      c.ws.seen.scores(0)[10 + i] = 5.0F;
      c.ws.seen.scores(1)[40 + i] = 5.0F;
    }
    for (const row_t row : already) c.ws.seen.scores(0)[row] = c.ws.seen.scores(1)[row] = 90.0F;
    select_sized(call, size, c.ws);
    c.ws.exact.list();
    return test::rows_without(c.ws.exact.rows(), already);
  };
  const auto both = [](index_t count) {
    std::vector<row_t> all = test::row_range(10, 10 + count);
    for (const row_t row : test::row_range(40, 40 + count)) all.push_back(row);
    return all;
  };
  CHECK(taken(rows(0)).empty());
  CHECK(taken(rows(3)) == both(3));
  CHECK(taken(fraction(0.1)) == both(10));
  CHECK(taken(mass(0.0)).empty());
  CHECK(taken(mass(0.42)) == both(5));  // 4.46 of 10
  CHECK(taken(mass(0.9)) == both(10));
  CHECK(taken(mass(1.0)).size() == 98);
}
