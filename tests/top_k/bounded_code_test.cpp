// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/bounded_code.hpp"

#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

TEST_CASE("values' norms are bounds, rounded up little") {
  test::prepared_call c({300, 16, 1, element::bf16});
  c.head.values.row(7).setZero();
  c.head.values.row(8) *= 1e6F;  // beyond fp16
  c.head.values(9, 1) = std::nanf("");
  const kv_view kv = c.view();
  top_k::bounded_code policy(8);
  auto index = policy.make_index(16);
  index.append(kv);
  std::vector<float> norms(300);
  policy.value_norms(index, 300, norms.data());
  for (index_t row = 0; row < 300; ++row) {
    const double norm = c.head.values.row(row).cast<double>().norm();
    if (row == 8 || row == 9) {
      CHECK(std::isinf(norms[static_cast<std::size_t>(row)]));
      continue;
    }
    CHECK(static_cast<double>(norms[static_cast<std::size_t>(row)]) >= norm);
    CHECK(static_cast<double>(norms[static_cast<std::size_t>(row)]) <= norm * 1.002 + 1e-6);
  }
}

TEST_CASE("an index grown row by row equals one built at once") {
  test::prepared_call c({400, 16, 1});
  const kv_view kv = c.view();
  const top_k::bounded_code policy(8);
  auto once = policy.make_index(16);
  once.append(kv);
  auto grown = policy.make_index(16);
  for (const index_t rows : {1, 100, 255, 256, 300, 400}) grown.append(kv.shard(0, rows));
  CHECK(grown.rows() == 400);
  CHECK(grown.matches(kv));
  for (index_t row = 0; row < 400; ++row) {
    CHECK(grown.value_norm(row) == once.value_norm(row));
    CHECK(grown.codes().factor(row) == once.codes().factor(row));
    CHECK(grown.codes().error_norm(row) == once.codes().error_norm(row));
  }
}

TEST_CASE("only rows that cannot be bounded are taken") {
  test::prepared_call c({300, 16, 2});
  c.head.keys(33, 2) = std::nanf("");
  c.head.keys(44, 0) = std::numeric_limits<float>::infinity();
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const top_k::bounded_code policy(8);
  auto index = policy.make_index(16);
  index.append(kv);
  c.begin(true);
  policy.predict(call, index, c.ws.seen, c.ws);
  policy.select(call, c.ws.seen, c.ws);
  c.ws.exact.list();
  const std::vector<row_t> taken(c.ws.exact.rows().begin(), c.ws.exact.rows().end());
  CHECK(taken == std::vector<row_t>{33, 44});
}

TEST_CASE("bounds are those of the code") {
  test::prepared_call c({300, 16, 1});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const top_k::bounded_code policy(6);
  auto index = policy.make_index(16);
  index.append(kv);
  const top_k::key_code code(6, rows(0));
  auto codes = code.make_index(16);
  codes.append(kv);
  c.begin(true);
  std::vector<float> low(300), high(300), low_code(300), high_code(300);
  policy.bounds(call, index, 0, low, high, c.ws);
  code.bounds(call, codes, 0, low_code, high_code, c.ws);
  CHECK(low == low_code);
  CHECK(high == high_code);
}

TEST_CASE("other widths are refused, and views that shrank") {
  CHECK_THROWS_AS(top_k::bounded_code(3), std::invalid_argument);
  test::prepared_call c({300, 16, 1});
  const kv_view kv = c.view();
  auto index = top_k::bounded_code(8).make_index(16);
  index.append(kv);
  CHECK_THROWS_AS(index.append(kv.shard(0, 200)), std::invalid_argument);
  CHECK(index.rows() == 300);
  CHECK(index.matches(kv));
}
