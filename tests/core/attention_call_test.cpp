// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/attention_call.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

/// Logits of the given dot products, entry i belonging to row `rows[i]`.
std::vector<float> logits_of(const attention_call<kv_view>& call, int head, std::vector<float> dots,
                             const std::vector<index_t>& rows) {
  call.to_logits(head, dots.data(), static_cast<index_t>(dots.size()),
                 [&](index_t i) { return rows[static_cast<std::size_t>(i)]; });
  return dots;
}

}  // namespace

TEST_CASE("a call fills in what the options leave open") {
  test::prepared_call c({30, 16, 3});
  const kv_view kv = c.view();
  query_group queries = c.group();
  const draw_key key{1, 2, 3, 4, 5};
  const attention_call<kv_view> plain(queries, kv, key);
  CHECK(plain.heads() == 3);
  CHECK(plain.visible == 30);
  CHECK(plain.scale == 0.25F);
  CHECK(plain.key.step == 5);
  CHECK(&plain.kernels == &kernels::active());

  queries.logits.visible_rows = 7;
  queries.logits.scale = -2.0F;
  const attention_call<kv_view> set(queries, kv, key);
  CHECK(set.visible == 7);
  CHECK(set.scale == -2.0F);
}

TEST_CASE("logits: scale, then soft-cap, then bias, of the row an entry belongs to") {
  test::prepared_call c({4, 16, 2});
  const kv_view kv = c.view();
  const std::vector<float> bias{0.0F, 1.0F, 2.0F, 3.0F, 10.0F, 11.0F, 12.0F, 13.0F};
  query_group queries = c.group();
  const std::vector<float> dots{4.0F, -8.0F, 400.0F};
  const std::vector<index_t> rows{3, 0, 2};
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(logits_of(call, 0, dots, rows) == std::vector<float>{1.0F, -2.0F, 100.0F});

  queries.logits.bias = bias.data();
  CHECK(logits_of(call, 1, dots, rows) == std::vector<float>{4.0F, -2.0F, 102.0F});
  queries.logits.bias_stride = 4;
  CHECK(logits_of(call, 0, dots, rows) == std::vector<float>{4.0F, -2.0F, 102.0F});
  CHECK(logits_of(call, 1, dots, rows) == std::vector<float>{14.0F, 8.0F, 112.0F});
  CHECK(call.bias_of(1, 3) == 13.0F);

  queries.logits.softcap = 5.0F;
  const std::vector<float> capped = logits_of(call, 1, dots, rows);
  for (std::size_t i = 0; i < 3; ++i)
    CHECK(capped[i] == Approx(5.0 * std::tanh(static_cast<double>(dots[i]) * 0.25 / 5.0) + 10.0 +
                              static_cast<double>(rows[i])));
}

TEST_CASE("logits agree with the double-precision reference, all options at once") {
  test::prepared_call c({50, 24, 3});
  std::vector<float> bias(150);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 11) * 0.3F - 1.0F;
  bias[7] = bias[50 + 9] = -infinity;
  c.options = {.scale = 0.2F, .softcap = 6.0F, .bias = bias.data(), .bias_stride = 50};
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  for (int h = 0; h < 3; ++h) {
    const Eigen::VectorXd expected = logits(queries, kv, h);
    for (index_t row = 0; row < 50; ++row) {
      const float dot = c.head.keys.row(row).dot(c.head.queries.row(h));
      const float l = logits_of(call, h, {dot}, {row})[0];
      CAPTURE(h, row, l, expected[row]);
      CHECK((static_cast<double>(l) == expected[row] ||
             std::fabs(static_cast<double>(l) - expected[row]) < 1e-4));
    }
  }
}

TEST_CASE("a product that is not finite is NaN, a hidden row's logit is -inf all the same") {
  test::prepared_call c({4, 16});
  const kv_view kv = c.view();
  const std::vector<float> bias{-infinity, 0.0F, infinity, nan_value};
  query_group queries = c.group();
  queries.logits.bias = bias.data();
  const attention_call<kv_view> call(queries, kv, {});
  for (const float softcap : {0.0F, 5.0F}) {
    queries.logits.softcap = softcap;
    for (const float dot : {1.0F, nan_value, infinity, -infinity})
      CHECK(logits_of(call, 0, {dot}, {0})[0] == -infinity);
    CHECK(std::isnan(logits_of(call, 0, {nan_value}, {1})[0]));
    CHECK(std::isnan(logits_of(call, 0, {1.0F}, {3})[0]));
    CHECK(logits_of(call, 0, {1.0F}, {2})[0] == infinity);
  }
  // An infinite key would pass the soft-cap as an ordinary logit, or hide as -inf.
  for (const float softcap : {0.0F, 5.0F}) {
    queries.logits.softcap = softcap;
    for (const float dot : {infinity, -infinity, 3e38F * 4.0F})
      CHECK(std::isnan(logits_of(call, 0, {dot}, {1})[0]));
    CHECK(std::isfinite(logits_of(call, 0, {-0.0F, 1e-45F, 4.0F}, {1, 1, 1})[1]));
  }
}

TEST_CASE("rows are hidden where every head's bias is -inf") {
  test::prepared_call c({4, 16, 2});
  const kv_view kv = c.view();
  query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK_FALSE(call.hides(0));
  CHECK(call.count_hidden() == 0);

  const std::vector<float> bias{-infinity, -infinity, 0.0F, -infinity,
                                -infinity, 0.0F,      0.0F, -infinity};
  queries.logits.bias = bias.data();
  queries.logits.bias_stride = 4;
  CHECK(call.hides(0));
  CHECK_FALSE(call.hides(1));
  CHECK_FALSE(call.hides(2));
  CHECK(call.hides(3));
  CHECK(call.count_hidden() == 2);
  queries.logits.visible_rows = 3;
  CHECK(attention_call<kv_view>(queries, kv, {}).count_hidden() == 1);
  queries.logits.bias_stride = 0;
  CHECK(call.hides(1));
}

TEST_CASE("each query of several positions sees its own rows") {
  test::prepared_call c({6, 16, 3});
  const kv_view kv = c.view();
  query_group queries = c.group();
  const attention_call<kv_view> plain(queries, kv, {});
  CHECK(plain.visible == 6);
  CHECK(plain.shared == 6);
  CHECK(plain.visible_to(2) == 6);
  CHECK(plain.count_beyond(1) == 0);
  CHECK_FALSE(plain.hides(1, 5));

  const std::vector<index_t> sees{3, 5, 2};
  queries.logits.visible_of = sees.data();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(call.visible == 5);
  CHECK(call.shared == 2);
  for (int h = 0; h < 3; ++h) {
    const index_t mine = sees[static_cast<std::size_t>(h)];
    CAPTURE(h);
    CHECK(call.visible_to(h) == mine);
    CHECK(call.count_beyond(h) == 5 - mine);
    CHECK_FALSE(call.hides(h, mine - 1));
    const std::vector<float> got = logits_of(call, h, {4.0F, nan_value, 8.0F}, {4, mine, mine - 1});
    CHECK(got[0] == (h == 1 ? 1.0F : -infinity));
    if (mine < 5) CHECK(got[1] == -infinity);
    CHECK(got[2] == 2.0F);
    float lower = 0.0F;
    float upper = 0.0F;
    if (mine < 5) {
      CHECK(call.hides(h, mine));
      call.bound_logit(h, mine, -1.0, 1.0, lower, upper);
      CHECK((lower == -infinity && upper == -infinity));
    }
    call.bound_logit(h, mine - 1, -4.0, 4.0, lower, upper);
    CHECK((lower <= -1.0F && lower > -1.01F && upper >= 1.0F && upper < 1.01F));
  }
  CHECK_FALSE(call.hides(4));
  CHECK(call.count_hidden() == 0);

  // With a bias: row 3 is hidden from the one query that sees it, row 4 from another alone.
  const std::vector<float> bias{0,         0, 0, 0, -infinity, 0, 0, 0, 0,
                                -infinity, 0, 0, 0, 0,         0, 0, 0, 0};
  queries.logits.bias = bias.data();
  queries.logits.bias_stride = 6;
  const attention_call<kv_view> biased(queries, kv, {});
  CHECK(biased.hides(3));
  CHECK_FALSE(biased.hides(4));
  CHECK(biased.count_hidden() == 1);
  CHECK(biased.count_beyond(0) == 1);
  CHECK(biased.count_beyond(1) == 0);
  CHECK(biased.count_beyond(2) == 2);
}

TEST_CASE("bounds of a product become bounds of the logit, in and outside of floats") {
  test::prepared_call c({4, 16});
  const kv_view kv = c.view();
  std::vector<float> bias{0.25F, -infinity, nan_value, 3e38F};
  query_group queries = c.group();
  float lower = 0.0F;
  float upper = 0.0F;
  for (const float scale : {0.3F, -0.3F, 1e-20F})
    for (const float softcap : {0.0F, 2.0F})
      for (const bool biased : {false, true})
        for (const double product : {0.0, 1e-44, -0.7, 3.0, -1e4}) {
          CAPTURE(scale, softcap, biased, product);
          queries.logits = {.scale = scale, .softcap = softcap};
          if (biased) queries.logits.bias = bias.data();
          const attention_call<kv_view> call(queries, kv, {});
          call.bound_logit(0, 0, product, product, lower, upper);
          float l = static_cast<float>(product);
          call.to_logits(0, &l, 1, [](index_t) { return 0; });
          CHECK(lower <= l);
          CHECK(l <= upper);
          CHECK(static_cast<double>(upper) - static_cast<double>(lower) <=
                0x1p-15 * (std::fabs(static_cast<double>(l)) + (biased ? 0.25 : 1e-38)));
        }
  queries.logits = {.scale = 1.0F, .bias = bias.data()};
  const attention_call<kv_view> call(queries, kv, {});
  call.bound_logit(0, 1, -1.0, 1.0, lower, upper);
  CHECK((lower == -infinity && upper == -infinity));
  for (const index_t row : {2, 3}) {
    call.bound_logit(0, row, -1.0, 1.0, lower, upper);
    CHECK((lower == -infinity && upper == infinity));
  }
  for (const double large : {1e39, std::numeric_limits<double>::infinity(), std::nan("")}) {
    call.bound_logit(0, 0, -large, large, lower, upper);
    CHECK((lower == -infinity && upper == infinity));
  }
}

TEST_CASE("logits rise with the product of the rising query") {
  test::prepared_call c({20, 8, 2});
  for (const float scale : {0.5F, -0.5F}) {
    c.options.scale = scale;
    const kv_view kv = c.view();
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    for (int h = 0; h < 2; ++h) {
      Eigen::RowVectorXf x(8);
      call.rising_query(h, x.data());
      CHECK(x == (scale < 0.0F ? -1.0F : 1.0F) * c.head.queries.row(h));
    }
  }
}
