// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/simple_random_sample.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/none.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

/// A cache of n rows, none of them exact but those given; grown in the sizes given.
list grown(index_t n, const std::vector<index_t>& sizes, draw_key key, index_t first_row = 0,
           const list& exact = {}) {
  test::prepared_call c({n, 4});
  const kv_view all = c.view();
  const kv_view kv(all.keys(), all.values(), first_row);
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, key);
  c.begin(false, exact);
  const population rest(call.visible, c.ws.exact);
  const top_k::none predictor;
  const top_k::no_index index;
  const drawing d{call, rest, predictor, index, c.ws};
  for (const index_t size : sizes) {
    grow_simple_random_sample(d, size);
    CHECK(d.drawn.size() == size);
    const double p = static_cast<double>(size) / static_cast<double>(rest.size());
    for (const threshold_t t : d.drawn.thresholds()) {
      CHECK(t == threshold_of(p));
      CHECK(std::fabs(probability(t) - p) <= 0x1p-33);
    }
  }
  return {c.ws.drawn.rows().begin(), c.ws.drawn.rows().end()};
}

list sorted(list rows) {
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace

TEST_CASE("all probabilities are size / n, in every growth") {
  grown(300, {1, 2, 3, 50, 299, 300}, {1});
  grown(300, {64}, {1}, 0, {0, 5, 299});
  grown(1, {1}, {1});
}

TEST_CASE("growing in steps draws the rows of growing at once") {
  const list once = grown(300, {120}, {4});
  CHECK(sorted(grown(300, {10, 11, 60, 120}, {4})) == sorted(once));
  CHECK(std::is_sorted(once.begin(), once.end()));
  CHECK(sorted(grown(300, {300}, {4})) == test::row_range(0, 300));
}

TEST_CASE("exact rows are never drawn, ranks skip them") {
  const list exact{0, 1, 2, 100, 150, 299};
  const list all = grown(300, {294}, {4}, 0, exact);
  CHECK(all == test::rows_without(test::row_range(0, 300), exact));
  CHECK(test::rows_without(exact, grown(300, {200}, {4}, 0, exact)) == exact);
}

TEST_CASE("shards draw independently of each other") {
  const list first = grown(4000, {400}, {4}, 0);
  const list second = grown(4000, {400}, {4}, 4000);
  const list far = grown(4000, {400}, {4}, (index_t{1} << 31) - 4000);
  CHECK(first == grown(4000, {400}, {4}, 0));
  // Rows in common of two independent draws: hypergeometric, mean 40, sd 5.7; 6 sd is 2e-9.
  for (const list* other : {&second, &far}) {
    const auto common = first.size() - test::rows_without(first, *other).size();
    CHECK(common > 6);
    CHECK(common < 75);
  }
}

TEST_CASE("an empty residual is an empty draw") {
  CHECK(grown(8, {0}, {4}, 0, test::row_range(0, 8)).empty());
  CHECK(grown(8, {0}, {4}).empty());
}

TEST_CASE("the variance formula") {
  const contributions y{{}, 30.0};
  CHECK(simple_random_variance(y, 10, 100, 10, correction::finite_population) ==
        Approx(100.0 * 100.0 * (0.1 - 0.01) * 3.0));
  CHECK(simple_random_variance(y, 10, 100, 40, correction::none) ==
        Approx(100.0 * 100.0 / 40.0 * 3.0));
  CHECK(simple_random_variance(y, 10, 100, 100, correction::finite_population) == 0.0);
  CHECK(simple_random_variance(y, 10, 100, 101, correction::finite_population) == 0.0);
}
