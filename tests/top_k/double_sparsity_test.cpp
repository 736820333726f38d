// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/double_sparsity.hpp"

#include <set>

#include "support/channels.hpp"
#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using test::by_size;
using test::keys_of;
using test::magnitudes;

TEST_CASE("double_sparsity keeps the contract of predictors", "[top_k]") {
  for (const index_t channels : {16, 27, 4096})
    test::check_top_k_contract([=](extent k) { return top_k::double_sparsity(channels, k); });
}

TEST_CASE("double_sparsity: channels that are none are refused by name", "[top_k]") {
  using list = std::vector<std::int32_t>;
  CHECK_THROWS_WITH(top_k::double_sparsity(0, rows(1)),
                    Catch::Contains("double_sparsity") && Catch::Contains("0"));
  CHECK_THROWS_AS(top_k::double_sparsity(-1, rows(1)), std::invalid_argument);
  const auto made = [](const list& channels, index_t dim) {
    return top_k::double_sparsity_index(channels, dim);
  };
  CHECK_NOTHROW(made({63, 0, 5}, 64));
  CHECK_THROWS_AS(made({1, 64}, 64), std::invalid_argument);
  CHECK_THROWS_WITH(made({1, 64}, 64), Catch::Contains("got 64, 64"));
  CHECK_THROWS_WITH(made({1, -7}, 64), Catch::Contains("got -7, 64"));
  CHECK_THROWS_WITH(made({9, 31, 4, 31}, 64),
                    Catch::Contains("each channel once") && Catch::Contains("31"));
  CHECK_THROWS_WITH(made({}, 64), Catch::Contains("at least 1 channel"));
  CHECK_THROWS_AS(made({0}, 0), std::invalid_argument);
  CHECK_THROWS_AS(made({0}, 4097), std::invalid_argument);
  CHECK_THROWS_AS(top_k::double_sparsity_index::choosing(0, 64), std::invalid_argument);
  CHECK_THROWS_AS(top_k::double_sparsity_index::choosing(4, 0), std::invalid_argument);
  const top_k::double_sparsity policy(3, rows(1));
  CHECK_THROWS_WITH(policy.make_index({1, 2}, 64), Catch::Contains("got 2, 3"));
  CHECK(policy.make_index({1, 0}, 2).channels().size() == 2);
}

namespace {

using channel_set = std::set<std::int32_t>;

channel_set channels_of(const top_k::double_sparsity_index& index) {
  return {index.channels().begin(), index.channels().end()};
}

channel_set set_of(const std::vector<std::int32_t>& list) { return {list.begin(), list.end()}; }

/// The product of a query and a key over the channels, of rounded query and labelled key, and how far it may be off
/// the product of the numbers themselves. What is rounded is a float, as it is there; sums are double.
struct coded_product {
  double coded = 0.0, exact = 0.0, error = 0.0;

  coded_product(const float* query, const float* key, const channel_set& channels) {
    float low = 1e30F, high = -1e30F, largest = 0.0F;
    for (const std::int32_t j : channels) {
      low = std::min(low, key[j]);
      high = std::max(high, key[j]);
      largest = std::max(largest, std::fabs(query[j]));
    }
    low = -half_up(-low);
    const float step = half_up((high - low) / 15.0F), unit = largest / 127.0F;
    for (const std::int32_t j : channels) {
      const float steps = step > 0.0F ? std::nearbyint((key[j] - low) / step) : 0.0F;
      const auto q = static_cast<double>(query[j]);
      const double label = static_cast<double>(low) +
                           static_cast<double>(step) * static_cast<double>(std::min(steps, 15.0F));
      exact += q * static_cast<double>(key[j]);
      coded +=
          static_cast<double>(unit) * static_cast<double>(std::nearbyint(query[j] / unit)) * label;
      error += 0.5 * static_cast<double>(step) * std::fabs(q) +
               0.5 * static_cast<double>(unit) * std::fabs(label);
    }
  }

private:
  /// The least half that is not below x.
  static float half_up(float x) {
    if (x == 0.0F) return 0.0F;
    int exponent;
    std::frexp(x, &exponent);
    const float ulp = std::ldexp(1.0F, std::max(exponent - 11, -24));
    return ulp * std::ceil(x / ulp);
  }
};

double softcapped(double x, float cap) {
  const auto c = static_cast<double>(cap);
  return cap > 0.0F ? c * std::tanh(x / c) : x;
}

template <class Policy, class Index>
void predict(const Policy& policy, const Index& index, test::prepared_call& c) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
}

}  // namespace

TEST_CASE("double_sparsity: a score is the logit of the coded query and key over the channels",
          "[top_k]") {
  for (const float scale : {0.0F, 0.5F, -0.25F})  // 0: 1 / sqrt(d)
    for (const float cap : {0.0F, 20.0F})
      for (const index_t count : {1, 8, 13, 200})
        for (const test::cache_shape& shape : test::contract_shapes()) {
          test::prepared_call c(shape);
          c.options.scale = scale;
          c.options.softcap = cap;
          std::vector<float> bias(static_cast<std::size_t>(shape.rows));
          for (std::size_t i = 0; i < bias.size(); ++i)
            bias[i] = 0.01F * static_cast<float>(i % 50);
          c.options.bias = bias.data();
          CAPTURE(scale, cap, count, shape.dim, shape.heads, static_cast<int>(shape.type));
          const top_k::double_sparsity policy(count, rows(1));
          const auto index = test::index_of(policy, c);
          const synthetic_head::matrix keys = keys_of(c.view());
          const channel_set channels = set_of(by_size(magnitudes(keys.topRows(256)), count));
          REQUIRE(channels_of(index) == channels);
          predict(policy, index, c);
          const double factor = scale == 0.0F ? 1.0 / std::sqrt(static_cast<double>(shape.dim))
                                              : static_cast<double>(scale);
          for (int h = 0; h < shape.heads; ++h)
            for (index_t row = 0; row < shape.rows; ++row) {
              const auto at = static_cast<std::size_t>(row);
              const coded_product p(c.head.queries.row(h).data(), keys.row(row).data(), channels);
              const auto score =
                  static_cast<double>(c.ws.seen.scores(h)[at]) - static_cast<double>(bias[at]);
              REQUIRE(score == Approx(softcapped(factor * p.coded, cap)).margin(1e-4));
              REQUIRE(std::fabs(score - softcapped(factor * p.exact, cap)) <=
                      std::fabs(factor) * p.error + 1e-4);
            }
        }
}

TEST_CASE("double_sparsity: of all channels the scores are off by 5 to 13 percent of the logits",
          "[top_k]") {
  test::prepared_call c({.rows = 600, .dim = 128, .heads = 2});
  const top_k::double_sparsity policy(128, rows(1));
  predict(policy, test::index_of(policy, c), c);
  const query_group queries = c.group();
  for (int h = 0; h < 2; ++h) {
    const Eigen::VectorXd l = logits(queries, c.view(), h);
    const Eigen::VectorXd p =
        Eigen::Map<const Eigen::VectorXf>(c.ws.seen.scores(h).data(), 600).cast<double>();
    // Labels of a normal key are off by step / sqrt(12), and the step is about a third.
    CHECK((p - l).norm() < 0.13 * l.norm());
    CHECK((p - l).norm() > 0.05 * l.norm());
  }
}

TEST_CASE("double_sparsity: channels are chosen by the first 256 keys, then never again") {
  test::prepared_call c({.rows = 900, .dim = 32});
  for (index_t j = 0; j < 32; ++j) {
    c.head.keys.col(j).topRows(200) *= 1.0F + 0.1F * static_cast<float>(j);
    c.head.keys.col(j).middleRows(200, 56) *= 40.0F - static_cast<float>(j);
    c.head.keys.col(j).bottomRows(644) *= (j % 2 == 0) ? 500.0F : 1.0F;
  }
  const kv_view kv = c.view();
  auto index = top_k::double_sparsity(6, rows(1)).make_index(32);
  const auto by_first = [&](index_t n) {
    return set_of(by_size(magnitudes(c.head.keys.topRows(n)), 6));
  };
  for (const index_t n : {1, 90, 200, 255, 256, 257, 900}) {
    index.append(kv.shard(0, n));
    CAPTURE(n);
    CHECK(channels_of(index) == by_first(std::min<index_t>(n, 256)));
  }
  CHECK(by_first(200) != by_first(256));
  CHECK(by_first(900) != by_first(256));
  index.forget(300);
  CHECK(channels_of(index) == by_first(256));
  truncate(index, kv.shard(0, 200));
  CHECK(channels_of(index) == by_first(200));
}

namespace {

/// Makes indices of five given channels.
struct of_given_channels : top_k::double_sparsity {
  explicit of_given_channels(extent k) : double_sparsity(5, k) {}
  top_k::double_sparsity_index make_index(index_t dim) const {
    return double_sparsity::make_index({6, 0, 3, 1, 2}, dim);
  }
};

}  // namespace

TEST_CASE("double_sparsity: an index keeps the channels it is given, in any order, and lives on") {
  const top_k::double_sparsity policy(5, rows(9));
  test::check_index_grows([](extent k) { return of_given_channels(k); });
  test::check_index_lives([](extent k) { return of_given_channels(k); });
  test::prepared_call c({.rows = 400, .dim = 64, .heads = 2});
  auto one = policy.make_index({60, 1, 33, 9, 17}, 64);
  auto other = policy.make_index({1, 9, 17, 33, 60}, 64);
  one.append(c.view().shard(0, 100));
  one.append(c.view());
  other.append(c.view());
  CHECK(test::saved_index(one) == test::saved_index(other));
  CHECK(channels_of(one) == channel_set{1, 9, 17, 33, 60});

  const auto refused = [&](top_k::double_sparsity_index index) {
    std::istringstream in(test::saved_index(one));
    try {
      load_index(index, in);
    } catch (const std::runtime_error& e) {
      CHECK(index.rows() == 0);
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK_THAT(refused(policy.make_index({1, 9, 18, 33, 60}, 64)),
             Catch::Contains("channel 17, not 18"));
  CHECK_THAT(refused(top_k::double_sparsity_index({1, 9}, 64)),
             Catch::Contains("channels 5, not 2"));
  CHECK_THAT(refused(policy.make_index(64)), Catch::Contains("given"));
  CHECK_THAT(refused(policy.make_index({1, 9, 17, 33, 60}, 61)), Catch::Contains("dimension"));
  CHECK(refused(policy.make_index({60, 33, 17, 9, 1}, 64)).empty());
}

TEST_CASE("double_sparsity: keys without a label are read, those without a spread are not") {
  test::prepared_call c({.rows = 300, .dim = 16});
  c.head.keys.row(40).setConstant(2.5F);
  c.head.keys.row(41).setZero();
  c.head.keys(50, 3) = 60000.0F;   // a half
  c.head.keys(51, 3) = -3e38F;     // none
  c.head.keys(52, 3) = -70000.0F;  // none
  c.head.keys.row(53).setConstant(1e-9F);
  c.head.keys(54, 9) = 1e30F;  // in no kept channel
  const top_k::double_sparsity policy(3, rows(0));
  auto index = policy.make_index({3, 4, 5}, 16);
  index.append(c.view());
  CHECK(test::newly_selected(policy, index, c) == std::vector<row_t>{51, 52});
  predict(policy, index, c);
  const auto scores = c.ws.seen.scores(0);
  const auto q = c.head.queries.row(0);
  const double sum = 2.5 * static_cast<double>(q[3] + q[4] + q[5]) / 4.0;
  CHECK(static_cast<double>(scores[40]) == Approx(sum).margin(0.1));
  CHECK(scores[41] == 0.0F);
  CHECK(std::fabs(scores[53]) < 1e-5F);
  CHECK(std::isfinite(scores[54]));

  // A query that is not finite tells nothing: all rows are read.
  c.head.queries(0, 9) = std::numeric_limits<float>::infinity();
  CHECK(test::newly_selected(policy, index, c) == test::row_range(0, 300));
  c.head.queries.setZero();
  predict(policy, index, c);
  CHECK(c.ws.seen.scores(0)[40] == 0.0F);
}

TEST_CASE("double_sparsity: rows beyond a head's sight are hidden from it alone") {
  test::prepared_call c({.rows = 400, .dim = 64, .heads = 2});
  c.head.keys(290, 2) = c.head.keys(310, 2) = std::numeric_limits<float>::quiet_NaN();
  const index_t sees[] = {300, 400};
  c.options.visible_rows = 400;
  c.options.visible_of = sees;
  const top_k::double_sparsity policy(16, rows(1));
  predict(policy, test::index_of(policy, c), c);
  for (std::size_t row = 0; row < 400; ++row) {
    const float first = c.ws.seen.scores(0)[row], second = c.ws.seen.scores(1)[row];
    CHECK((first == -std::numeric_limits<float>::infinity()) == (row >= 300));
    CHECK(std::isnan(first) == (row == 290));
    CHECK(std::isnan(second) == (row == 290 || row == 310));
  }
}

TEST_CASE("double_sparsity: what it reads and keeps is half a byte a channel and 4 bytes") {
  test::prepared_call c({.rows = 320, .dim = 128});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(top_k::double_sparsity(16, rows(1)).bytes_scanned(call) == 320 * 12);
  CHECK(top_k::double_sparsity(17, rows(1)).bytes_scanned(call) == 320 * 16);
  CHECK(top_k::double_sparsity(128, rows(1)).bytes_scanned(call) == 320 * 68);
  CHECK(top_k::double_sparsity(500, rows(1)).bytes_scanned(call) == 320 * 68);
}

namespace {

/// Share of the rows of the k largest logits that are among the k best scores, mean of the heads.
double recall(const top_k::double_sparsity& policy, const top_k::double_sparsity_index& index,
              const synthetic_head& head, index_t k) {
  const kv_view kv = head.view();
  const query_group queries = head.group();
  workspace ws;
  ws.reserve(queries.heads, kv.rows(), kv.key_dim(), kv.value_dim(), true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, ws.seen, ws);
  const auto best = [k](const auto& score, index_t n) {
    std::vector<row_t> order = test::row_range(0, n);
    std::stable_sort(order.begin(), order.end(),
                     [&](row_t a, row_t b) { return score(a) > score(b); });
    return std::set<row_t>(order.begin(), order.begin() + k);
  };
  double found = 0.0;
  for (int h = 0; h < queries.heads; ++h) {
    const Eigen::VectorXd l = logits(queries, kv, h);
    const auto scores = ws.seen.scores(h);
    const auto heavy = best([&](row_t row) { return l[row]; }, kv.rows());
    for (const row_t row : best([&](row_t r) { return scores[r]; }, kv.rows()))
      found += heavy.count(row) > 0 ? 1.0 : 0.0;
  }
  return found / static_cast<double>(k * queries.heads);
}
double recall(index_t channels, const synthetic_head& head, index_t k) {
  const top_k::double_sparsity policy(channels, rows(k));
  auto index = policy.make_index(head.keys.cols());
  index.append(head.view());
  return recall(policy, index, head, k);
}

/// Normal keys and queries `[rows x d]` of given deviations a channel.
synthetic_head loud_head(const Eigen::VectorXf& keys, const Eigen::VectorXf& queries, index_t n) {
  test::prepared_call c({.rows = n, .dim = keys.size(), .heads = 4, .seed = 31});
  c.head.keys *= keys.asDiagonal();
  c.head.queries *= queries.asDiagonal() * (1.0F / 3.0F);
  return c.head;
}

}  // namespace

TEST_CASE("double_sparsity finds heavy rows many times better than chance", "[top_k]") {
  // 41 of 4096 rows: chance finds 1 %. No channel of these heads is louder than others.
  for (const head_kind kind : {head_kind::mixed, head_kind::power_law}) {
    double quarter = 0.0, half = 0.0, all = 0.0;
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      const synthetic_head head = make_head(kind, 4096, 64, 8, 4, seed);
      quarter += recall(16, head, 41) / 3.0;
      half += recall(32, head, 41) / 3.0;
      all += recall(64, head, 41) / 3.0;
    }
    CAPTURE(static_cast<int>(kind), quarter, half, all);
    CHECK(quarter > 0.04);
    CHECK(half > 0.15);
    CHECK(all > 0.8);
  }
}

TEST_CASE("double_sparsity: a few loud channels are enough, and a fit sees those of the queries",
          "[top_k]") {
  constexpr index_t n = 4096, d = 128, k = 64;
  Eigen::VectorXf loud = Eigen::VectorXf::Ones(d), deaf = Eigen::VectorXf::Ones(d);
  for (index_t j = 0; j < 12; ++j) loud[(37 * j + 5) % d] = 8.0F;
  for (index_t j = 0; j < 12; ++j) deaf[(37 * j + 5) % d] = 0.02F;
  Eigen::VectorXf asked = deaf;
  for (index_t j = 0; j < 12; ++j) asked[(37 * j + 6) % d] = 8.0F;

  const double outliers = recall(16, loud_head(loud, Eigen::VectorXf::Ones(d), n), k);
  const synthetic_head head = loud_head(loud, asked, n);
  const double blind = recall(16, head, k);
  const top_k::double_sparsity policy(16, rows(k));
  auto fitted = policy.make_index(
      top_k::choose_channels(head.queries.data(), head.queries.rows(), head.view(), 16), d);
  fitted.append(head.view());
  const double seeing = recall(policy, fitted, head, k);
  CAPTURE(outliers, blind, seeing);
  CHECK(outliers > 0.6);
  CHECK(seeing > blind + 0.4);
}
