// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/rotation_hash.hpp"

#include "support/fitted_rotation.hpp"
#include "support/hash_rotations.hpp"
#include "support/top_k_contract.hpp"

using namespace vattn;
using test::fitted_to;
using test::rows_of;
using test::same;
using test::uneven;
using top_k::hash_rotation;

TEST_CASE("rotation_hash keeps the contract of predictors", "[top_k]") {
  for (const int bits : {32, 256})
    test::check_top_k_contract([&](extent k) { return top_k::rotation_hash(bits, k); });
}

namespace {

/// Predicts on a call of all heads.
void predict(const top_k::rotation_hash& policy, const top_k::rotation_hash_index& index,
             test::prepared_call& c) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
}

/// The k rows of largest score, ties by row number, ascending.
template <class Score>
std::vector<row_t> best(index_t rows, index_t k, Score score) {
  std::vector<row_t> order = test::row_range(0, rows);
  std::stable_sort(order.begin(), order.end(),
                   [&](row_t a, row_t b) { return score(a) > score(b); });
  order.resize(static_cast<std::size_t>(k));
  std::sort(order.begin(), order.end());
  return order;
}

/// Share of the k rows of largest q.k that are among the k of largest count, mean over the heads.
double recall(const hash_rotation& by, index_t k, test::prepared_call& c) {
  const top_k::rotation_hash policy(by.bits(), rows(k));
  auto index = policy.make_index(by);
  index.append(c.view());
  predict(policy, index, c);
  double found = 0.0;
  for (int h = 0; h < c.shape.heads; ++h) {
    const Eigen::VectorXf dots = c.head.keys * c.head.queries.row(h).transpose();
    const auto counts = c.ws.seen.counts(h);
    const std::vector<row_t> wanted =
        best(c.shape.rows, k, [&](row_t row) { return dots[static_cast<index_t>(row)]; });
    const std::vector<row_t> taken = best(c.shape.rows, k, [&](row_t row) { return counts[row]; });
    found += static_cast<double>(k) - static_cast<double>(test::rows_without(wanted, taken).size());
  }
  return found / static_cast<double>(k * c.shape.heads);
}

}  // namespace

TEST_CASE("rotation_hash: equal signs are counted", "[top_k]") {
  std::vector<test::cache_shape> shapes = test::contract_shapes();
  shapes.push_back({4200, 7, 2, element::f32, 11});
  for (const int bits : {32, 64, 96, 256})
    for (const test::cache_shape& shape : shapes) {
      test::prepared_call c(shape);
      const top_k::rotation_hash policy(bits, rows(1));
      const auto index = test::index_of(policy, c);
      c.options.scale = shape.heads == 2 ? -0.5F : 0.0F;
      predict(policy, index, c);
      const kv_view kv = c.view();
      const Eigen::MatrixXd directions = rows_of(index.matrix());
      const auto key_of = [&](index_t row) {
        Eigen::VectorXf key(shape.dim);
        kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), shape.dim,
                          key.data());
        return key;
      };
      Eigen::VectorXd mean = Eigen::VectorXd::Zero(shape.dim);
      for (index_t row = 0; row < 256; ++row) mean += key_of(row).cast<double>() / 256.0;
      const double spare = bits == 96 ? 32.0 : 0.0;
      CAPTURE(bits, shape.rows, shape.dim, shape.heads, static_cast<int>(shape.type));
      for (int h = 0; h < shape.heads; ++h) {
        const double sign = shape.heads == 2 ? -1.0 : 1.0;
        const Eigen::VectorXd turned =
            sign * directions * c.head.queries.row(h).transpose().cast<double>();
        for (index_t row = 0; row < shape.rows; ++row) {
          const Eigen::VectorXd y = directions * (key_of(row).cast<double>() - mean);
          double shared = 1.0 + spare;
          double unsure = 0.0;  // a product this near 0 may have either sign
          for (index_t bit = 0; bit < bits; ++bit) {
            shared += (y[bit] > 0.0) == (turned[bit] > 0.0) ? 1.0 : 0.0;
            unsure += std::fabs(y[bit]) < 1e-5 ? 1.0 : 0.0;
          }
          const auto count = c.ws.seen.counts(h)[static_cast<std::size_t>(row)];
          REQUIRE(std::fabs(static_cast<double>(count) - shared) <= unsure);
        }
      }
    }
}

TEST_CASE("rotation_hash: fitted signs find more heavy keys than random ones", "[top_k]") {
  test::prepared_call c({.rows = 8192, .dim = 128, .heads = 32});
  c.head.keys = uneven(8192, 128, 1);
  c.head.queries = uneven(32, 128, 2);
  const hash_rotation fitted = fitted_to(uneven(256, 128, 3), c.head.keys.topRows(1024), 64, 20);
  const double with = recall(fitted, 64, c);
  const double without = recall(hash_rotation::random(64, 128, 1), 64, c);
  CAPTURE(with, without);
  CHECK(with > 1.2 * without);
  CHECK(with > 0.25);
}

TEST_CASE("rotation_hash finds heavy rows of made-up heads", "[top_k]") {
  for (const head_kind kind : {head_kind::power_law, head_kind::mixed}) {
    test::prepared_call c({.rows = 4096, .dim = 64, .heads = 4});
    c.head = make_head(kind, 4096, 64, 4, 4, 7);
    const hash_rotation fitted = fitted_to(c.head.queries, c.head.keys.topRows(512), 256, 10);
    CAPTURE(static_cast<int>(kind), recall(fitted, 40, c));
    CHECK(recall(fitted, 40, c) > 10.0 * 40.0 / 4096.0);
  }
}

TEST_CASE("rotation_hash: fitted directions are kept, and stored with the index", "[top_k]") {
  test::prepared_call c({.rows = 401, .dim = 40});
  for (const int bits : {32, 96}) {
    const top_k::rotation_hash policy(bits, rows(9));
    const hash_rotation fitted = fitted_to(uneven(20, 40, 1), uneven(300, 40, 2), bits, 5);
    auto index = policy.make_index(fitted);
    const kv_view kv = c.view();
    for (const index_t size : {1, 2, 255, 256, 257, 258, 401}) index.append(kv.shard(0, size));
    CHECK(same(index.matrix(), fitted));
    auto at_once = policy.make_index(fitted);
    at_once.append(kv);
    CHECK(test::saved_index(at_once) == test::saved_index(index));
    auto read = policy.make_index(40);
    CHECK_FALSE(same(read.matrix(), fitted));
    std::istringstream in(test::saved_index(index));
    load_index(read, in);
    CHECK(same(read.matrix(), fitted));
    CHECK(test::newly_selected(policy, read, c) == test::newly_selected(policy, index, c));
    read.forget(0);
    CHECK(same(read.matrix(), fitted));
    read.append(kv);
    CHECK(test::saved_index(read) == test::saved_index(index));
    auto wider = top_k::rotation_hash(bits + 32, rows(9)).make_index(40);
    std::istringstream again(test::saved_index(index));
    CHECK_THROWS_AS(load_index(wider, again), std::runtime_error);
  }
}

TEST_CASE("rotation_hash counts the bytes of its signatures", "[top_k]") {
  test::prepared_call c({.rows = 500, .dim = 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  for (const auto& [bits, bytes] : {std::pair{32, 4}, {64, 8}, {96, 16}, {256, 32}}) {
    const top_k::rotation_hash policy(bits, rows(1));
    CHECK(policy.bytes_scanned(call) == 500 * bytes);
    CHECK(test::index_of(policy, c).bytes_of(500) == 500 * bytes);
  }
}

TEST_CASE("rotation_hash: rows beyond a query's sight are not free, odd ones must be read",
          "[top_k]") {
  test::prepared_call c({300, 32, 2});
  const std::vector<index_t> sees{290, 300};
  c.options.visible_of = sees.data();
  for (const index_t row : {7, 295}) c.head.keys(row, 3) = std::numeric_limits<float>::quiet_NaN();
  const top_k::rotation_hash policy(64, rows(5));
  predict(policy, test::index_of(policy, c), c);
  for (std::size_t row = 0; row < 300; ++row) {
    const std::uint16_t count = c.ws.seen.counts(0)[row];
    CHECK((count == predictions::not_free) == (row >= 290));
    CHECK((count == predictions::must_read) == (row == 7));
    CHECK((c.ws.seen.counts(1)[row] == predictions::must_read) == (row == 7 || row == 295));
  }
}

TEST_CASE("rotation_hash refuses other bits and other matrices, and says so", "[top_k]") {
  using Catch::Contains;
  for (const int bits : {0, 16, 33, 288, -64})
    CHECK_THROWS_WITH(
        top_k::rotation_hash(bits, rows(1)),
        "vattention: rotation_hash: want 32, 64, ... 256 bits, got " + std::to_string(bits));
  const top_k::rotation_hash policy(64, rows(1));
  CHECK_THROWS_WITH(policy.make_index(hash_rotation::random(32, 48, 1)), Contains("got 32, 64"));
  CHECK_THROWS_WITH(top_k::rotation_hash_index(hash_rotation::random(32, 48, 1), 49),
                    Contains("rotation_hash_index") && Contains("48, 49"));
  CHECK_THROWS_AS(policy.make_index(index_t{0}), std::invalid_argument);
}
