// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/static_rows.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/static_indices/sink_window.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

/// The static rows of a call over 40 rows.
list rows_of(const static_indices::sink_window& policy, const logit_options& options, int heads) {
  test::prepared_call c({40, 16, heads});
  c.options = options;
  const kv_view kv = c.view();
  const query_group queries = c.group();
  index_set out;
  out.reset(40);
  select_static(policy, attention_call<kv_view>(queries, kv, {}), out);
  out.list();
  return {out.rows().begin(), out.rows().end()};
}

}  // namespace

TEST_CASE("queries of one position have their static rows and no others") {
  const static_indices::sink_window ends(1, 2);
  CHECK(rows_of(ends, {}, 3) == list{0, 38, 39});
  CHECK(rows_of(ends, {.visible_rows = 20}, 3) == list{0, 18, 19});
  const std::vector<index_t> same{20, 20, 20};
  CHECK(rows_of(ends, {.visible_of = same.data()}, 3) == list{0, 18, 19});
}

TEST_CASE("queries of several positions have each its window, and the rows that some do not see") {
  const std::vector<index_t> positions{23, 20, 21, 23};
  const logit_options options{.visible_of = positions.data()};
  CHECK(rows_of({1, 2}, options, 4) == list{0, 18, 19, 20, 21, 22});
  CHECK(rows_of({0, 0}, options, 4) == list{20, 21, 22});
  const std::vector<index_t> apart{10, 14};
  CHECK(rows_of({2, 3}, {.visible_of = apart.data()}, 2) == list{0, 1, 7, 8, 9, 10, 11, 12, 13});
  const std::vector<index_t> first{1, 3};
  CHECK(rows_of({0, 1}, {.visible_of = first.data()}, 2) == list{0, 1, 2});
}
