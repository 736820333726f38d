// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/residual_range.hpp"

#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void bound(test::prepared_call& c, const std::vector<row_t>& exact, bool keep = false) {
  const top_k::key_code policy(8, rows(0));
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true, exact);
  c.ws.reserve_bounds(c.shape.heads, c.shape.rows);
  bound_residual(policy, attention_call<kv_view>(queries, kv, {}), index, keep, c.ws);
}

}  // namespace

TEST_CASE("the residual's range holds its logits and leaves the exact rows out", "[range]") {
  for (const index_t visible : {index_t{-1}, index_t{301}}) {
    test::prepared_call c({700, 64, 3});
    c.options.visible_rows = visible;
    c.head.keys.row(5) += 5.0F * c.head.queries.row(0).normalized();  // heavy, exact
    const std::vector<row_t> exact = test::row_range(3, 40);
    bound(c, exact);
    for (int h = 0; h < 3; ++h) {
      const Eigen::VectorXd l = logits(c.group(), c.view(), h);
      const double ceiling = c.ws.ranges[2 * h];
      double largest = -infinity, sum = 0.0;
      for (index_t row = 0; row < l.size(); ++row) {
        if (row >= 3 && row < 40) continue;
        largest = std::max(largest, l[row]);
        sum += std::exp(l[row] - ceiling);
      }
      CAPTURE(visible, h, ceiling, largest);
      CHECK(ceiling >= largest);
      CHECK(ceiling <= largest + 0.3);
      CHECK(c.ws.ranges[2 * h + 1] <= sum);
      CHECK(c.ws.ranges[2 * h + 1] >= 0.8 * sum);
    }
  }
}

TEST_CASE("for a sampler every weight's upper bound is kept, and rows without one do not count",
          "[range]") {
  test::prepared_call c({300, 64, 1});
  c.head.keys(7, 7) = std::numeric_limits<float>::quiet_NaN();
  bound(c, {1, 2}, true);
  const double ceiling = c.ws.ranges[0];
  REQUIRE(std::isfinite(ceiling));
  const Eigen::VectorXd l = logits(c.group(), c.view(), 0);
  const auto weights = c.ws.seen.scores(0);
  CHECK(weights[1] == 0.0F);
  CHECK(std::isinf(weights[7]));
  for (std::size_t row = 8; row < 300; ++row) {
    const double weight = std::exp(l[static_cast<index_t>(row)] - ceiling);
    CHECK(static_cast<double>(weights[row]) >= weight);
    CHECK(static_cast<double>(weights[row]) <= 1.6 * weight);
  }
}

TEST_CASE("one loose bound far above the others does not hide them", "[range]") {
  test::prepared_call c({300, 64, 1});
  // A long key across the query: its logit is small, its bound is not.
  Eigen::VectorXf across = c.head.keys.row(20).transpose();
  const Eigen::VectorXf q = c.head.queries.row(0).transpose();
  across -= across.dot(q) / q.squaredNorm() * q;
  c.head.keys.row(20) = 3e4F * across.transpose().normalized();
  bound(c, {1, 2}, true);
  REQUIRE(c.ws.ranges[0] > 100.0);
  const auto weights = c.ws.seen.scores(0);
  CHECK(weights[1] == 0.0F);
  for (std::size_t row = 3; row < 300; ++row) CHECK(weights[row] > 0.0F);
}

TEST_CASE("a row without bounds makes the range unknown, a hidden one does not count", "[range]") {
  test::prepared_call c({300, 64, 2});
  std::vector<float> bias(600, 0.0F);
  std::fill_n(bias.begin(), 300, -std::numeric_limits<float>::infinity());  // head 0 sees nothing
  c.options.bias = bias.data();
  c.options.bias_stride = 300;
  c.head.keys(7, 7) = std::numeric_limits<float>::quiet_NaN();
  bound(c, {});
  CHECK(c.ws.ranges[0] == -infinity);
  CHECK(c.ws.ranges[1] == 0.0);
  CHECK(c.ws.ranges[2] == infinity);
  CHECK(c.ws.ranges[3] == 0.0);
  bound(c, {7});
  CHECK(std::isfinite(c.ws.ranges[2]));
  CHECK(c.ws.ranges[3] > 0.0);
}

TEST_CASE("a state takes the range in its own unit", "[range]") {
  partial p(2);
  const partial_view s = p.view();
  s.max_logit() = 3.0;
  s.floor() = 1.5;
  const double known[] = {2.0, 4.0};
  set_range(s, known);
  CHECK(s.ceiling() == 2.0);
  CHECK(s.floor() == Approx(1.5 + 4.0 * std::exp(-1.0)));
  for (const double odd : {infinity, -infinity}) {
    s.floor() = 1.5;
    const double unknown[] = {odd, 0.0};
    set_range(s, unknown);
    CHECK(s.ceiling() == odd);
    CHECK(s.floor() == 1.5);
  }
}
