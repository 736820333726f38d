// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/softmax_state.hpp"

#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float masked = -std::numeric_limits<float>::infinity();

/// A call with its workspace; `state()` begins anew.
struct prepared {
  explicit prepared(const random_cache& c)
      : cache(c), queries(cache.group()), kv(cache.view()), call(queries, kv, {}) {
    ws.reserve(queries.heads, kv.rows(), kv.key_dim(), kv.value_dim(), false);
  }
  prepared(const prepared&) = delete;
  prepared& operator=(const prepared&) = delete;
  softmax_state<kv_view> state() { return {call, ws}; }
  double sum_of_weights(int h, const std::vector<row_t>& rows) const {
    const Eigen::VectorXd l = logits(queries, kv, h);
    double sum = 0.0;
    for (const row_t row : rows) sum += std::exp(l[row]);
    return sum;
  }

  random_cache cache;
  query_group queries;
  kv_view kv;
  attention_call<kv_view> call;
  workspace ws;
};

}  // namespace

TEST_CASE("an empty softmax has no maximum and no sum", "[softmax_state]") {
  prepared p(random_cache({.rows = 10, .dim = 8, .value_dim = 4, .heads = 2}));
  const auto state = p.state();
  for (int h = 0; h < 2; ++h) {
    CHECK(state.max(h) == -infinity);
    CHECK(state.sum(h) == 0.0);
    for (int j = 0; j < 4; ++j) CHECK(state.numerator(h)[j] == 0.0);
  }
}

TEST_CASE("learned sinks open the sum", "[softmax_state]") {
  random_cache c({.rows = 10, .dim = 8, .value_dim = 4, .heads = 4});
  const float sinks[4] = {3.0F, masked, std::numeric_limits<float>::infinity(), std::nanf("")};
  c.options.sink_logits = sinks;
  prepared p(c);
  const auto state = p.state();
  CHECK(state.max(0) == 3.0);
  CHECK(state.sum(0) == 1.0);
  CHECK(state.max(1) == -infinity);
  CHECK(state.sum(1) == 0.0);
  CHECK(std::isnan(state.sum(2)));
  CHECK(std::isnan(state.sum(3)));
  state.add_range(0, 10);
  CHECK(std::isnan(state.sum(2)));
  CHECK(std::isnan(state.sum(3)));
}

TEST_CASE("listed rows and ranges add up, in any number of steps", "[softmax_state]") {
  const random_cache c({.rows = 900, .dim = 32, .value_dim = 12, .heads = 3});
  prepared p(c);
  std::vector<row_t> rows;
  for (row_t row = 0; row < 900; row += 2) rows.push_back(row);
  std::vector<row_t> all = rows;
  for (row_t row = 100; row < 800; ++row)
    if (row % 2 == 1) all.push_back(row);
  const auto state = p.state();
  state.add(std::span(rows).first(7));
  state.add(std::span(rows).subspan(7));
  for (row_t row = 100; row < 800; ++row)
    if (row % 2 == 1) state.add_range(row, row + 1);
  for (int h = 0; h < 3; ++h) {
    CHECK(std::log(state.sum(h)) + state.max(h) ==
          Approx(std::log(p.sum_of_weights(h, all))).epsilon(1e-6));
    Eigen::VectorXd want = Eigen::VectorXd::Zero(12);
    const Eigen::VectorXd l = logits(p.queries, p.kv, h);
    for (const row_t row : all)
      want += std::exp(l[row] - state.max(h)) * c.values.row(row).cast<double>().transpose();
    const Eigen::Map<const Eigen::VectorXd> got(state.numerator(h), 12);
    CHECK((got - want).norm() <= 1e-5 * want.norm());
  }
}

TEST_CASE("no rows change nothing", "[softmax_state]") {
  prepared p(random_cache({.rows = 10, .dim = 8, .value_dim = 4}));
  const auto state = p.state();
  state.add_range(0, 10);
  const double sum = state.sum(0), most = state.max(0);
  state.add({});
  state.add_range(5, 5);
  CHECK(state.sum(0) == sum);
  CHECK(state.max(0) == most);
}

TEST_CASE("the maximum moves up by any amount without loss", "[softmax_state]") {
  const std::vector<float> l{-1e4F, -1e4F, 0.0F, 50.0F, 1e4F, 1e4F, -1e4F};
  prepared p(cache_with_logits(l));
  const auto state = p.state();
  state.add_range(0, 2);
  CHECK(state.max(0) == -1e4);
  CHECK(state.sum(0) == 2.0);
  state.add_range(2, 3);
  CHECK(state.max(0) == 0.0);
  CHECK(state.sum(0) == 1.0);
  state.add_range(3, 4);
  CHECK(state.max(0) == 50.0);
  state.add_range(4, 5);
  state.add_range(5, 7);
  CHECK(state.max(0) == 1e4);
  CHECK(state.sum(0) == 2.0);
}

TEST_CASE("rows that no head may see are not read", "[softmax_state]") {
  random_cache c({.rows = 600, .dim = 16, .value_dim = 8, .heads = 2});
  std::vector<float> bias(600, 0.0F);
  for (const row_t row : {3U, 256U, 599U}) {
    bias[row] = masked;
    c.keys.row(row).setConstant(std::nanf(""));
    c.values.row(row).setConstant(std::nanf(""));
  }
  c.store();
  c.options.bias = bias.data();
  prepared p(c);
  const auto state = p.state();
  state.add_range(0, 600);
  std::vector<row_t> rows;
  for (row_t row = 0; row < 600; ++row)
    if (bias[row] == 0.0F) rows.push_back(row);
  for (int h = 0; h < 2; ++h)
    CHECK(std::log(state.sum(h)) + state.max(h) ==
          Approx(std::log(p.sum_of_weights(h, rows))).epsilon(1e-6));
}

TEST_CASE("with nothing but -inf the sums stay zero, and NaN does not hide among them",
          "[softmax_state]") {
  random_cache c({.rows = 5, .dim = 8, .value_dim = 4, .heads = 2});
  std::vector<float> bias(10, masked);
  bias[7] = 0.0F;  // row 2 of head 1
  c.options.bias = bias.data();
  c.options.bias_stride = 5;
  c.keys.row(2).setConstant(std::nanf(""));
  c.store();
  prepared p(c);
  const auto state = p.state();
  state.add_range(0, 5);
  CHECK(state.max(0) == -infinity);
  CHECK(state.sum(0) == 0.0);
  CHECK(std::isnan(state.sum(1)));
}
