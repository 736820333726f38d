// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/tempering.hpp"

#include <limits>

#include "support/top_k_contract.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;
using top_k::key_code;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Scores before and after tempering, `[heads x rows]`.
struct tempered {
  std::vector<std::vector<float>> before, after;

  tempered(int bits, test::prepared_call& c, top_k::tempering by) {
    const key_code policy(bits, rows(0));
    const auto index = test::index_of(policy, c);
    const kv_view kv = c.view();
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    c.begin(true);
    policy.predict(call, index, c.ws.seen, c.ws);
    before = copy(c);
    for (int h = 0; h < c.shape.heads; ++h) scale.push_back(top_k::error_scale(call, h));
    float norms[256];
    for (index_t at = 0; at < c.visible(); at += 256) {
      const index_t count = std::min<index_t>(256, c.visible() - at);
      index.error_norms(at, count, norms);
      for (int h = 0; h < c.shape.heads; ++h)
        top_k::temper_scores(c.ws.seen.scores(h).data() + at, norms, count, by,
                             scale[static_cast<std::size_t>(h)]);
    }
    after = copy(c);
    for (index_t row = 0; row < c.shape.rows; ++row) error.push_back(index.error_norm(row));
  }
  static std::vector<std::vector<float>> copy(const test::prepared_call& c) {
    std::vector<std::vector<float>> scores;
    for (int h = 0; h < c.shape.heads; ++h) {
      const auto s = c.ws.seen.scores(h);
      scores.emplace_back(s.begin(), s.begin() + c.visible());
    }
    return scores;
  }
  std::vector<float> scale, error;
};

}  // namespace

TEST_CASE("a score becomes tau p + kappa s^2, s^2 = scale^2 |q|^2 e^2 / d", "[top_k]") {
  for (const int bits : {1, 2, 4, 8})
    for (const float factor : {0.0F, 0.3F}) {
      test::prepared_call c({600, 80, 3});
      c.options.scale = factor;
      const tempered t(bits, c, {0.75F, 0.5F});
      const double scale = factor > 0.0F ? 0.3 : 1.0 / std::sqrt(80.0);
      for (int h = 0; h < 3; ++h) {
        const auto head = static_cast<std::size_t>(h);
        const double q2 = c.head.queries.row(h).cast<double>().squaredNorm();
        CHECK(t.scale[head] == Approx(scale * scale * q2 / 80.0).epsilon(1e-5));
        for (std::size_t i = 0; i < 600; ++i) {
          const auto e = static_cast<double>(t.error[i]);
          const double want = 0.75 * static_cast<double>(t.before[head][i]) +
                              0.5 * scale * scale * q2 * e * e / 80.0;
          CAPTURE(bits, h, i);
          REQUIRE(t.after[head][i] == Approx(want).epsilon(1e-5).margin(1e-5));
        }
      }
    }
}

TEST_CASE("s is the standard deviation of a prediction's error, about", "[top_k]") {
  for (const int bits : {1, 2, 4}) {
    test::prepared_call c({1000, 64, 1});
    const tempered t(bits, c, {1.0F, 1.0F});
    double off = 0.0, variance = 0.0;
    const Eigen::VectorXd l = ((c.head.keys * c.head.queries.transpose()) / 8.0F).cast<double>();
    for (index_t i = 0; i < 1000; ++i) {
      const auto at = static_cast<std::size_t>(i);
      off += std::pow(static_cast<double>(t.before[0][at]) - l[i], 2.0) / 1000.0;
      variance += static_cast<double>(t.after[0][at] - t.before[0][at]) / 1000.0;
    }
    CAPTURE(bits, off, variance);
    CHECK(off < 1.15 * variance);
    CHECK(off > 0.5 * variance);  // norms of 1 and 2 bits are rounded up to a quarter octave
  }
}

TEST_CASE("hidden rows stay hidden, rows without a code cannot be predicted", "[top_k]") {
  for (const int bits : {2, 4}) {
    test::prepared_call c({400, 64, 2});
    std::vector<float> bias(400, 0.0F);
    for (const std::size_t row : {5U, 6U, 7U, 8U}) bias[row] = -infinity;
    c.options.bias = bias.data();
    c.head.keys(6, 0) = c.head.keys(300, 0) = std::numeric_limits<float>::quiet_NaN();
    for (const index_t row : {7, 301}) c.head.keys.row(row) *= 5e5F;
    for (const float kappa : {0.0F, 1.0F}) {
      const tempered t(bits, c, {0.75F, kappa});
      for (int h = 0; h < 2; ++h) {
        const std::vector<float>& after = t.after[static_cast<std::size_t>(h)];
        for (const std::size_t row : {5U, 6U, 7U, 8U}) CHECK(after[row] == -infinity);
        for (const std::size_t row : {300U, 301U}) CHECK_FALSE(after[row] < infinity);
        CHECK(std::isfinite(after[9]));
      }
    }
  }
}

TEST_CASE("a tempered score gives its logit back", "[top_k]") {
  const float before[3] = {-3.0F, 0.5F, 12.0F}, norms[3] = {0.0F, 1.5F, 4.0F};
  for (const top_k::tempering by : {top_k::tempering{1.0F, 1.0F}, {0.6F, 0.5F}}) {
    float t[3];
    std::copy_n(before, 3, t);
    top_k::temper_scores(t, norms, 3, by, 0.3F);
    for (int i = 0; i < 3; ++i)
      CHECK(top_k::untempered(t[i], norms[i], by, 0.3F) == Approx(before[i]).margin(1e-5));
  }
}
