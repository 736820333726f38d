// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/none.hpp"

#include "support/top_k_contract.hpp"

using namespace vattn;

TEST_CASE("no predictor: the contract, and no row") {
  test::check_top_k_contract([](extent) { return top_k::none(); });
  test::prepared_call c({100, 16, 2});
  CHECK(test::newly_selected(top_k::none(), c).empty());
  c.head.keys(3, 0) = std::numeric_limits<float>::quiet_NaN();
  CHECK(test::newly_selected(top_k::none(), c).empty());
  STATIC_REQUIRE(std::is_empty_v<top_k::none>);
  STATIC_REQUIRE_FALSE(predicts_log_weights<top_k::none>);
}

TEST_CASE("no predictor reads nothing and vouches on average only") {
  test::prepared_call c({100, 16});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  CHECK(top_k::none().bytes_scanned(attention_call<kv_view>(queries, kv, {})) == 0);
  CHECK(top_k::none().coverage() == basis::measured_on_average);
}

TEST_CASE("the index that keeps nothing fits every cache and counts its rows") {
  test::prepared_call c({100, 16});
  top_k::no_index index;
  CHECK(index.rows() == 0);
  index.append(c.view());
  CHECK(index.rows() == 100);
  CHECK(index.matches(c.view()));
  CHECK(index.matches(c.view().shard(0, 50)));
}
