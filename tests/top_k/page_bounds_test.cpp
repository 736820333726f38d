// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/page_bounds.hpp"

#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

TEST_CASE("page_bounds keeps the contract of predictors", "[top_k]") {
  for (const index_t page : {1, 3, 4})
    test::check_top_k_contract([=](extent k) { return top_k::page_bounds(page, k); });
}

TEST_CASE("page_bounds: no page and pages too large are refused") {
  CHECK_THROWS_AS(top_k::page_bounds(0, rows(1)), std::invalid_argument);
  CHECK_THROWS_AS(top_k::page_bounds(-4, rows(1)), std::invalid_argument);
  CHECK_THROWS_AS(top_k::page_bounds(4097, rows(1)), std::invalid_argument);
  CHECK_THROWS_WITH(top_k::page_bounds(0, rows(1)),
                    Catch::Contains("page_bounds") && Catch::Contains("0"));
}

namespace {

/// Scores of all rows for a call of all heads.
template <class Check>
void with_scores(test::prepared_call& c, index_t page, Check check) {
  const top_k::page_bounds policy(page, rows(1));
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  check(queries, kv);
}

}  // namespace

TEST_CASE("page_bounds: a score is the bound of the page, and no logit is above it", "[top_k]") {
  for (const float scale : {0.0F, 0.5F, -0.25F})  // 0: 1 / sqrt(d)
    for (const test::cache_shape& shape : test::contract_shapes()) {
      constexpr index_t page = 16;
      test::prepared_call c(shape);
      c.options.scale = scale;
      CAPTURE(scale, shape.dim, shape.heads, static_cast<int>(shape.type));
      with_scores(c, page, [&](const query_group& queries, const kv_view& kv) {
        std::vector<float> key(static_cast<std::size_t>(shape.dim));
        for (int h = 0; h < shape.heads; ++h) {
          const Eigen::VectorXd l = logits(queries, kv, h);
          const auto scores = c.ws.seen.scores(h);
          const double factor = scale == 0.0F ? 1.0 / std::sqrt(static_cast<double>(shape.dim))
                                              : static_cast<double>(scale);
          for (index_t row = 0; row < shape.rows; ++row) {
            const auto score = static_cast<double>(scores[static_cast<std::size_t>(row)]);
            REQUIRE(score >= l[row] - 1e-4 * std::fabs(l[row]));
            if (row % page != 0) {
              REQUIRE(score == static_cast<double>(scores[static_cast<std::size_t>(row - 1)]));
              continue;
            }
            double bound = 0.0;
            for (index_t j = 0; j < shape.dim; ++j) {
              double high = -1e30, low = 1e30;
              for (index_t i = row; i < std::min(shape.rows, row + page); ++i) {
                kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(i)), shape.dim,
                                  key.data());
                const auto x = static_cast<double>(key[static_cast<std::size_t>(j)]);
                high = std::max(high, x);
                low = std::min(low, x);
              }
              const double q = factor * static_cast<double>(queries.data[h * queries.stride + j]);
              bound += std::max(q * high, q * low);
            }
            REQUIRE(score == Approx(bound).epsilon(0.01));
          }
        }
      });
    }
}

TEST_CASE("page_bounds: whole pages are taken, the better ones first, and a part of the last") {
  test::prepared_call c({.rows = 200, .dim = 16});
  for (const index_t row : {35, 121}) c.head.keys.row(row) = 3.0F * c.head.queries.row(0);
  c.head.keys.row(121) *= 2.0F;
  const auto taken = [&](index_t k) {
    return test::newly_selected(top_k::page_bounds(10, rows(k)), c);
  };
  CHECK(taken(10) == test::row_range(120, 130));
  std::vector<row_t> both = test::row_range(30, 34);
  for (const row_t row : test::row_range(120, 130)) both.push_back(row);
  CHECK(taken(14) == both);
}

TEST_CASE("page_bounds: bounds that bfloat16 cannot hold are rounded outwards") {
  for (const float x : {1.0F, 1.001F, -1.001F, 0.0F, 3.3e38F, -3.3e38F, 1e-40F, -1e-40F}) {
    const float up = kernels::bf16_to_float(kernels::bf16_up(x));
    CHECK(up >= x);
    CHECK(
        (x == 0.0F || std::fabs(x) < 1e-38F || up <= x + std::fabs(x) * 0x1p-7F || std::isinf(up)));
  }
  CHECK(kernels::bf16_to_float(kernels::bf16_up(-1.001F)) == -1.0F);
  CHECK(std::isnan(kernels::bf16_to_float(kernels::bf16_up(std::nanf("")))));
}
