// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/oracle.hpp"

#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

TEST_CASE("oracle keeps the contract of predictors", "[top_k]") {
  test::check_top_k_contract([](extent k) { return top_k::oracle(k); });
}

TEST_CASE("oracle's scores are the true logits, and its picks their k largest") {
  for (const test::cache_shape& shape : test::contract_shapes()) {
    test::prepared_call c(shape);
    std::vector<float> bias(static_cast<std::size_t>(shape.rows));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 5) * 0.5F;
    c.options = {.softcap = 12.0F, .bias = bias.data()};
    const std::vector<row_t> taken = test::newly_selected(top_k::oracle(rows(25)), c);
    std::vector<row_t> expected;
    for (int h = 0; h < shape.heads; ++h) {
      const Eigen::VectorXd l = logits(c.group(), c.view(), h);
      std::vector<row_t> order = test::row_range(0, shape.rows);
      std::sort(order.begin(), order.end(), [&](row_t a, row_t b) { return l[a] > l[b]; });
      expected.insert(expected.end(), order.begin(), order.begin() + 25);
      for (index_t row = 0; row < shape.rows; ++row)
        REQUIRE(std::fabs(static_cast<double>(c.ws.seen.scores(h)[static_cast<std::size_t>(row)]) -
                          l[row]) < 1e-4);
    }
    std::sort(expected.begin(), expected.end());
    expected.erase(std::unique(expected.begin(), expected.end()), expected.end());
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    CHECK(taken == expected);
  }
}

TEST_CASE("k may be a share of the visible rows") {
  test::prepared_call c({500, 16});
  CHECK(test::newly_selected(top_k::oracle(fraction(0.02)), c).size() == 10);
  c.options.visible_rows = 101;
  CHECK(test::newly_selected(top_k::oracle(fraction(0.02)), c).size() == 3);
}

TEST_CASE("oracle reads every visible key") {
  test::prepared_call c({500, 80, 4, element::bf16});
  c.options.visible_rows = 300;
  const kv_view kv = c.view();
  const query_group queries = c.group();
  CHECK(top_k::oracle(rows(1)).bytes_scanned(attention_call<kv_view>(queries, kv, {})) ==
        300 * 80 * 2);
  CHECK(top_k::oracle(rows(1)).coverage() == basis::measured_per_row);
}
