// SPDX-License-Identifier: Apache-2.0
#include "vattention/testing/reference.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float masked = -std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Three keys and two queries in two dimensions. With scale 1 the logits are
/// {0, 1, 2} for head 0 and {1, 0, -1} for head 1.
struct tiny {
  std::vector<float> keys{0, 1, 1, 0, 2, -1};
  std::vector<float> values{1, 0, 0, 0, 1, 0, 0, 0, 4};
  std::vector<float> queries{1, 0, 0, 1};

  kv_view view() const { return {rows_view(keys.data(), 3, 2), rows_view(values.data(), 3, 3)}; }
  query_group group(logit_options options) const {
    if (options.scale == 0.0F) options.scale = 1.0F;
    return {queries.data(), 2, 2, options};
  }
};

const double e = std::exp(1.0);

}  // namespace

TEST_CASE("reference computes what softmax attention says", "[reference]") {
  const tiny t;
  const exact_attention r = reference(t.group({}), t.view());
  const double sum = 1 + 1 / e + 1 / (e * e);  // relative to the largest, both heads
  CHECK(r.output.rows() == 2);
  CHECK(r.output.cols() == 3);
  CHECK(r.max_logit[0] == 2.0);
  CHECK(r.max_logit[1] == 1.0);
  CHECK(r.denominator[0] == Approx(sum).epsilon(1e-15));
  CHECK(r.log_sum_exp[0] == Approx(2 + std::log(sum)).epsilon(1e-15));
  CHECK(r.log_sum_exp[1] == Approx(1 + std::log(sum)).epsilon(1e-15));
  CHECK(r.output(0, 0) == Approx(1 / (e * e) / sum).epsilon(1e-14));
  CHECK(r.output(0, 1) == Approx(1 / e / sum).epsilon(1e-14));
  CHECK(r.output(0, 2) == Approx(4 / sum).epsilon(1e-14));
  CHECK(r.output(1, 2) == Approx(4 / (e * e) / sum).epsilon(1e-14));
  const Eigen::Vector3d p(1 / (e * e) / sum, 1 / e / sum, 1 / sum);
  const double entropy = -(p.array() * p.array().log()).sum();
  CHECK(r.entropy_share[0] == Approx(std::exp(entropy) / 3).epsilon(1e-14));
  CHECK((softmax_weights(t.group({}), t.view(), 0) - p).norm() < 1e-15);
}

TEST_CASE("reference applies scale, soft-cap and bias in this order", "[reference]") {
  const tiny t;
  const std::vector<float> bias{1, 2, 3, 10, 20, 30};
  logit_options options;
  options.scale = 0.5F;
  options.softcap = 2.0F;
  options.bias = bias.data();
  options.bias_stride = 3;
  const Eigen::VectorXd first = logits(t.group(options), t.view(), 0);
  const Eigen::VectorXd second = logits(t.group(options), t.view(), 1);
  CHECK(first[2] == Approx(2 * std::tanh(0.5 * 2 / 2) + 3).epsilon(1e-15));
  CHECK(second[2] == Approx(2 * std::tanh(-0.5 / 2) + 30).epsilon(1e-15));
  options.bias_stride = 0;  // one bias for all heads
  CHECK(logits(t.group(options), t.view(), 1)[2] ==
        Approx(2 * std::tanh(-0.5 / 2) + 3).epsilon(1e-15));
  SECTION("the default scale is 1 / sqrt(d)") {
    const query_group plain(t.queries.data(), 2, 2);
    CHECK(logits(plain, t.view(), 0)[2] == Approx(2 / std::sqrt(2.0)).epsilon(1e-15));
  }
}

TEST_CASE("reference does not look at rows that are masked or not visible", "[reference]") {
  tiny t;
  t.keys[4] = not_a_number;  // row 2
  t.values[8] = not_a_number;
  const double sum = 1 + 1 / e;
  logit_options options;
  SECTION("by visible_rows") { options.visible_rows = 2; }
  const std::vector<float> bias{0, 0, masked};
  SECTION("by a bias of -inf") { options.bias = bias.data(); }
  const exact_attention r = reference(t.group(options), t.view());
  if (options.visible_rows == 2 || options.bias != nullptr) {
    CHECK(r.max_logit[0] == 1.0);
    CHECK(r.denominator[0] == Approx(sum).epsilon(1e-15));
    CHECK(r.output(0, 1) == Approx(1 / sum).epsilon(1e-15));
    CHECK(r.output(0, 2) == 0.0);
  } else {
    CHECK(std::isnan(r.output(0, 0)));
    CHECK(std::isnan(r.log_sum_exp[0]));
  }
}

TEST_CASE("reference gives each query the rows that it sees", "[reference]") {
  const tiny t;
  const index_t sees[2] = {1, 2};
  const query_group both = t.group({.visible_of = sees});
  const exact_attention r = reference(both, t.view());
  for (int h = 0; h < 2; ++h) {
    const exact_attention alone = reference(t.group({.visible_rows = h + 1}), t.view());
    CHECK(r.output.row(h) == alone.output.row(h));
    CHECK(r.log_sum_exp[h] == alone.log_sum_exp[h]);
    CHECK(r.entropy_share[h] == alone.entropy_share[h]);
    CHECK(logits(both, t.view(), h).size() == h + 1);
    CHECK(softmax_weights(both, t.view(), h).sum() == Approx(1.0));
  }
  CHECK(r.output(0, 0) == 1.0);  // the first value, and nothing else
  const index_t far[2] = {3, 4};
  CHECK_THROWS_WITH(reference(t.group({.visible_of = far}), t.view()),
                    "vattention: logits: want visible rows within the cache, got 4");
}

TEST_CASE("reference adds a learned sink to the denominator only", "[reference]") {
  const tiny t;
  const std::vector<float> sinks{0, 3};
  logit_options options;
  options.sink_logits = sinks.data();
  const exact_attention with = reference(t.group(options), t.view());
  const exact_attention without = reference(t.group({}), t.view());
  const double rows = std::exp(without.log_sum_exp[1]);
  CHECK(with.max_logit[0] == 2.0);
  CHECK(with.max_logit[1] == 3.0);
  CHECK(with.log_sum_exp[1] == Approx(std::log(rows + std::exp(3.0))).epsilon(1e-15));
  CHECK(with.output(1, 0) ==
        Approx(without.output(1, 0) * rows / (rows + std::exp(3.0))).epsilon(1e-14));
  CHECK(with.entropy_share[1] == Approx(without.entropy_share[1]).epsilon(1e-14));
  CHECK(softmax_weights(t.group(options), t.view(), 1).sum() ==
        Approx(rows / (rows + std::exp(3.0))).epsilon(1e-14));
}

TEST_CASE("reference with every row masked", "[reference]") {
  const tiny t;
  const std::vector<float> bias(3, masked);
  logit_options options;
  options.bias = bias.data();
  const exact_attention r = reference(t.group(options), t.view());
  CHECK(r.output.norm() == 0.0);
  CHECK(r.log_sum_exp[0] == -infinity);
  CHECK(r.denominator[0] == 0.0);
  CHECK(r.entropy_share[0] == 0.0);
  CHECK(softmax_weights(t.group(options), t.view(), 0).norm() == 0.0);
  const std::vector<float> sinks{-1, 5};
  options.sink_logits = sinks.data();
  const exact_attention sunk = reference(t.group(options), t.view());
  CHECK(sunk.output.norm() == 0.0);
  CHECK(sunk.log_sum_exp[1] == 5.0);
  CHECK(sunk.denominator[1] == 1.0);
}

TEST_CASE("reference does not overflow and spots one key or equal keys", "[reference]") {
  tiny t;
  logit_options options;
  options.scale = 5000.0F;
  const exact_attention sharp = reference(t.group(options), t.view());
  CHECK(sharp.log_sum_exp[0] == 10000.0);
  CHECK(sharp.entropy_share[0] == Approx(1.0 / 3).epsilon(1e-15));
  CHECK(sharp.output(0, 2) == 4.0);
  t.keys.assign(6, 1.0F);
  CHECK(reference(t.group({}), t.view()).entropy_share[0] == Approx(1.0).epsilon(1e-15));
}

TEST_CASE("reference reads narrow elements, strides and shards", "[reference]") {
  const tiny t;
  std::vector<Eigen::bfloat16> keys(12, Eigen::bfloat16(not_a_number));  // rows 4 elements apart
  for (std::size_t i = 0; i < 6; ++i) keys[i / 2 * 4 + i % 2] = Eigen::bfloat16(t.keys[i]);
  std::vector<Eigen::half> values;
  for (const float v : t.values) values.push_back(Eigen::half(v));
  const kv_view view(rows_view(keys.data(), 3, 2, 4), rows_view(values.data(), 3, 3));
  const exact_attention wide = reference(t.group({}), t.view());
  CHECK((reference(t.group({}), view).output - wide.output).norm() == 0.0);
  // The three shards of one row, merged by their log-sum-exp, are the whole.
  Eigen::RowVectorXd merged = Eigen::RowVectorXd::Zero(3);
  for (index_t i = 0; i < 3; ++i) {
    const exact_attention part = reference(t.group({}), view.shard(i, 1));
    merged += std::exp(part.log_sum_exp[0] - wide.log_sum_exp[0]) * part.output.row(0);
  }
  CHECK(relative_error(merged, wide.output.row(0)) < 1e-15);
}

TEST_CASE("reference refuses shapes that do not fit", "[reference]") {
  const tiny t;
  CHECK_THROWS_AS(logits(t.group({}), t.view(), 2), std::invalid_argument);
  CHECK_THROWS_AS(reference(query_group(t.queries.data(), 1, 3), t.view()), std::invalid_argument);
  logit_options options;
  options.visible_rows = 4;
  CHECK_THROWS_AS(reference(t.group(options), t.view()), std::invalid_argument);
}

TEST_CASE("relative_error", "[reference]") {
  const Eigen::RowVectorXd exact = Eigen::RowVector2d(3, 4);
  CHECK(relative_error(Eigen::VectorXf(Eigen::Vector2f(3, 3)), exact) == Approx(0.2));
  CHECK(relative_error(exact, exact) == 0.0);
  const Eigen::RowVectorXd zero = Eigen::RowVector2d(0, 0);
  CHECK(relative_error(zero, zero) == 0.0);
  CHECK(relative_error(exact, zero) == infinity);
  const Eigen::RowVectorXd bad = Eigen::RowVector2d(3, std::nan(""));
  CHECK(std::isnan(relative_error(bad, exact)));
  CHECK(std::isnan(relative_error(exact, bad)));
  CHECK_THROWS_AS(relative_error(Eigen::RowVector3d(1, 2, 3), exact), std::invalid_argument);
}
