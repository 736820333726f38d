// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/product_code.hpp"

#include "support/centroids.hpp"
#include "support/top_k_contract.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;

TEST_CASE("product_code keeps the contract of predictors", "[top_k]") {
  test::check_top_k_contract([](extent k) { return top_k::product_code(9, 4, k); });
  test::check_top_k_contract([](extent k) { return top_k::product_code(16, 5, k); });
}

TEST_CASE("product_code of 8 bits finds heavy rows and lives", "[top_k]") {
  const auto make = [](extent k) { return top_k::product_code(8, 8, k); };
  test::check_finds_heavy_rows(make);
  test::check_index_grows(make);
  test::check_allocates_nothing(make);
}

TEST_CASE("product_code refuses other parts and bits, and says which it takes", "[top_k]") {
  for (const index_t parts : {0, -1, 4097})
    CHECK_THROWS_WITH(
        top_k::product_code(parts, 8, rows(1)),
        "vattention: product_code: want 1 to 4096 parts, got " + std::to_string(parts));
  for (const int bits : {-1, 0, 3, 9})
    CHECK_THROWS_WITH(top_k::product_code(8, bits, rows(1)),
                      "vattention: product_code: want 4 to 8 bits, got " + std::to_string(bits));
  CHECK_THROWS_AS(top_k::product_code_index(0, 8, 64), std::invalid_argument);
  CHECK_THROWS_AS(top_k::product_code_index(8, 3, 64), std::invalid_argument);
  CHECK_THROWS_AS(top_k::product_code_index(8, 8, 0), std::invalid_argument);
}

namespace {

using scores_by_head = std::vector<std::vector<float>>;

/// Scores of the first `visible` rows for all heads.
scores_by_head scores_of(const top_k::product_code& policy, const top_k::product_code_index& index,
                         test::prepared_call& c, index_t visible, team workers = {}) {
  const kv_view kv = c.view();
  c.options.visible_rows = visible;
  const query_group queries = c.group();
  c.begin(true);
  c.ws.workers = workers;
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  c.ws.workers = {};
  scores_by_head all;
  for (int h = 0; h < c.shape.heads; ++h) {
    const auto scores = c.ws.seen.scores(h);
    all.emplace_back(scores.begin(), scores.begin() + visible);
  }
  return all;
}

/// What a row's key is coded as.
Eigen::VectorXd decoded(const top_k::product_code_index& index, index_t row) {
  const top_k::part_centroids& by = index.centroids();
  Eigen::VectorXd key(index.dim());
  for (index_t part = 0; part < by.parts(); ++part)
    for (index_t j = 0; j < by.width(part); ++j)
      key[by.first(part) + j] =
          static_cast<double>(by.of(part)[j * by.count() + index.code(row, part)]);
  return key;
}

/// Mean squared error of the coded keys of rows [first, last).
double coding_error(const top_k::product_code_index& index, const synthetic_head::matrix& keys,
                    index_t first, index_t last) {
  double sum = 0.0;
  for (index_t row = first; row < last; ++row)
    sum += (keys.row(row).transpose().cast<double>() - decoded(index, row)).squaredNorm();
  return sum / static_cast<double>(last - first);
}

top_k::product_code_index index_of(index_t parts, int bits, const synthetic_head& head) {
  top_k::product_code_index index(parts, bits, head.keys.cols());
  index.append(head.view());
  return index;
}

}  // namespace

TEST_CASE("product_code: a score is the logit of the coded key", "[top_k]") {
  for (const test::cache_shape& shape : test::contract_shapes())
    for (const int bits : {4, 7}) {
      test::prepared_call c(shape);
      std::vector<float> bias(static_cast<std::size_t>(shape.rows));
      for (std::size_t row = 0; row < bias.size(); ++row)
        bias[row] = 0.01F * static_cast<float>(row % 50);
      c.options.bias = bias.data();
      c.options.softcap = 30.0F;
      c.options.scale = 0.2F;
      const top_k::product_code policy(12, bits, rows(1));
      const auto index = test::index_of(policy, c);
      const scores_by_head scores = scores_of(policy, index, c, shape.rows);
      CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type), bits);
      for (index_t row = 0; row < shape.rows; ++row) {
        const Eigen::VectorXd key = decoded(index, row);
        for (int h = 0; h < shape.heads; ++h) {
          const double dot = c.head.queries.row(h).cast<double>() * key;
          const double logit = 30.0 * std::tanh(static_cast<double>(0.2F) * dot / 30.0) +
                               static_cast<double>(bias[static_cast<std::size_t>(row)]);
          REQUIRE(static_cast<double>(
                      scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]) ==
                  Approx(logit).margin(2e-4));
        }
      }
    }
}

TEST_CASE("product_code: every part is coded as its nearest centroid", "[top_k]") {
  for (const int bits : {4, 5, 8}) {
    test::prepared_call c({.rows = 1500, .dim = 22});
    const auto index = test::index_of(top_k::product_code(7, bits, rows(1)), c);
    const top_k::part_centroids& by = index.centroids();
    CHECK(index.planes() == (bits == 4 ? 4 : 7));
    for (index_t row = 0; row < 1500; ++row)
      for (index_t part = 0; part < 7; ++part) {
        const auto distance = [&](index_t centroid) {
          double sum = 0.0;
          for (index_t j = 0; j < by.width(part); ++j) {
            const auto off = static_cast<double>(c.head.keys(row, by.first(part) + j)) -
                             static_cast<double>(by.of(part)[j * by.count() + centroid]);
            sum += off * off;
          }
          return sum;
        };
        double least = 1e30;
        for (index_t centroid = 0; centroid < by.count(); ++centroid)
          least = std::min(least, distance(centroid));
        REQUIRE(distance(index.code(row, part)) <= least * (1.0 + 1e-5) + 1e-9);
      }
  }
}

TEST_CASE("product_code: tables in one pass or in several, and any threads, give the same bits",
          "[top_k]") {
  parallel::thread_pool pool(3);
  test::worker_spaces some;
  for (const int heads : {1, 2, 3, 5, 8}) {
    test::prepared_call c({8300, 24, heads, element::bf16, 3});
    const top_k::product_code policy(16, heads == 8 ? 8 : 6, rows(1));
    const auto index = test::index_of(policy, c);
    const scores_by_head whole = scores_of(policy, index, c, 8300);
    CAPTURE(heads);
    CHECK(scores_of(policy, index, c, 8300, {pool, &some, test::worker_spaces::at}) == whole);
    for (const index_t visible : {1, 100, 255, 256, 257, 900, 3000}) {
      const scores_by_head part = scores_of(policy, index, c, visible);
      for (std::size_t h = 0; h < part.size(); ++h)
        REQUIRE(std::equal(part[h].begin(), part[h].end(), whole[h].begin()));
    }
  }
}

TEST_CASE("product_code: as many keys as centroids or fewer are coded exactly", "[top_k]") {
  for (const index_t n : {1, 2, 16, 200, 256}) {
    const synthetic_head head = make_head(head_kind::log_normal, n, 32, 4, 1, 5);
    CAPTURE(n);
    CHECK(coding_error(index_of(8, 8, head), head.keys, 0, n) == 0.0);
    CHECK((coding_error(index_of(8, 4, head), head.keys, 0, n) == 0.0) == (n <= 16));
  }
}

TEST_CASE("product_code: centroids are fitted to the first 1,024 rows and kept", "[top_k]") {
  const synthetic_head head = make_head(head_kind::log_normal, 1300, 32, 4, 1, 6);
  const kv_view kv = head.view();
  const auto centroids = [](const top_k::product_code_index& index) {
    const float* all = index.centroids().of(0);
    return std::vector<float>(all, all + 32 * index.centroids().count());
  };
  top_k::product_code_index index(4, 5, 32);
  std::vector<float> before = centroids(index);
  CHECK(before == std::vector<float>(32 * 32));
  index_t fits = 0;
  for (index_t n = 1; n <= 1300; ++n) {
    const index_t fitted = index.fitted_on(n), last = index.fitted_on(n - 1);
    REQUIRE(fitted <= std::min<index_t>(n, 1024));
    REQUIRE(5 * fitted >= 4 * std::min<index_t>(n, 1024));
    if (n != fitted && n % 50 != 0) continue;
    index.append(kv.shard(0, n));
    const std::vector<float> now = centroids(index);
    REQUIRE((now == before) == (fitted == last));
    fits += now == before ? 0 : 1;
    before = now;
  }
  CHECK(fits == 32 + 5 * 4);
  index.append(kv);
  CHECK(centroids(index) == before);
  top_k::product_code_index read(4, 5, 32);
  std::istringstream in(test::saved_index(index));
  load_index(read, in);
  CHECK(centroids(read) == before);
  index.forget(1024);
  CHECK(index.rows() == 1024);
  CHECK(centroids(index) == before);
  index.forget(1023);
  CHECK(index.rows() == 0);
}

TEST_CASE(
    "product_code: grown over the last fit, cut and read, an index equals one built at once") {
  test::prepared_call c({2100, 24, 1, element::f16, 4});
  for (const index_t row : {3, 900, 1500})
    c.head.keys(row, 5) = std::numeric_limits<float>::infinity();
  const kv_view kv = c.view();
  for (const int bits : {4, 8}) {
    const top_k::product_code policy(5, bits, rows(1));
    auto at_once = policy.make_index(24);
    at_once.append(kv);
    const std::string whole = test::saved_index(at_once);
    auto grown = policy.make_index(24);
    CAPTURE(bits);
    for (const index_t n : {1000, 1023, 1024, 1025, 1279, 1280, 1281, 2000, 2001, 2100})
      grown.append(kv.shard(0, n));
    CHECK((test::saved_index(grown) == whole));
    for (const index_t n : {1800, 1025, 1024, 1023, 300}) {
      grown.forget(n);
      grown.append(kv);
      CHECK((test::saved_index(grown) == whole));
    }
    std::istringstream in(whole);
    auto other = top_k::product_code(6, bits, rows(1)).make_index(24);
    CHECK_THROWS_WITH(load_index(other, in), Catch::Contains("parts 5, not 6"));
  }
}

TEST_CASE("product_code: given centroids are kept, and every part is coded as the nearest",
          "[top_k]") {
  constexpr index_t dim = 22, parts = 7;
  for (const int bits : {4, 8}) {
    test::prepared_call c({1500, dim, 2, element::bf16, 6});
    c.head.keys(30, 2) = std::nanf("");
    const std::vector<float> numbers = test::made_up_centroids(dim, bits);
    const top_k::part_centroids given(numbers.data(), parts, bits, dim);
    const top_k::product_code policy(parts, bits, rows(9));
    auto index = policy.make_index(given);
    CHECK(index.fitted_on(1500) == 0);
    const kv_view kv = c.view();
    for (const index_t n : {1, 5, 300, 1024, 1500}) index.append(kv.shard(0, n));
    CAPTURE(bits);
    const float* centroid = numbers.data();
    for (index_t part = 0; part < parts; ++part)
      for (index_t i = 0; i < given.count(); ++i)
        for (index_t j = 0; j < given.width(part); ++j)
          REQUIRE(index.centroids().of(part)[j * given.count() + i] == *centroid++);
    std::vector<float> key(dim);
    for (index_t row = 0; row < 1500; row += 7) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim, key.data());
      for (index_t part = 0; part < parts; ++part)
        REQUIRE(index.code(row, part) == given.nearest(part, key.data() + given.first(part)));
    }

    auto at_once = policy.make_index(given);
    at_once.append(kv);
    const std::string whole = test::saved_index(at_once);
    CHECK((test::saved_index(index) == whole));
    for (const index_t n : {1025, 1023, 40, 0}) {
      index.forget(n);
      REQUIRE(index.rows() == n);
      index.append(kv);
      CHECK((test::saved_index(index) == whole));
    }
    std::istringstream in(whole), again(whole);
    auto read = policy.make_index(top_k::part_centroids(parts, bits, dim));
    load_index(read, in);
    CHECK((test::saved_index(read) == whole));
    auto fitting = policy.make_index(dim);
    CHECK_THROWS_WITH(load_index(fitting, again), Catch::Contains("that are given 1, not 0"));
    CHECK(test::newly_selected(top_k::product_code(parts, bits, rows(0)), index, c) ==
          std::vector<row_t>{30});
  }
}

TEST_CASE(
    "product_code: centroids fitted to other keys are taken, and what does not fit is refused") {
  const synthetic_head head = make_head(head_kind::log_normal, 1024, 24, 4, 1, 6);
  top_k::part_centroids fitted(6, 5, 24);
  fitted.fit({head.keys.data(), head.keys.data() + head.keys.size()});
  const top_k::product_code policy(6, 5, rows(9));
  auto given = policy.make_index(fitted);
  given.append(head.view());
  const auto own = index_of(6, 5, head);
  CHECK(coding_error(given, head.keys, 0, 1024) == coding_error(own, head.keys, 0, 1024));

  CHECK_THROWS_WITH(top_k::product_code(6, 6, rows(9)).make_index(fitted), Catch::Contains("5, 6"));
  CHECK_THROWS_WITH(top_k::product_code(5, 5, rows(9)).make_index(fitted), Catch::Contains("6, 5"));
}

TEST_CASE("product_code: more parts than coordinates stand for as many", "[top_k]") {
  const synthetic_head head = make_head(head_kind::log_normal, 600, 12, 4, 1, 7);
  CHECK((test::saved_index(index_of(4096, 5, head)) == test::saved_index(index_of(12, 5, head))));
}

TEST_CASE("product_code: the coding error falls with bits and with parts", "[top_k]") {
  const synthetic_head head = make_head(head_kind::log_normal, 4096, 64, 4, 1, 8);
  const auto error = [&](index_t parts, int bits) {
    const auto index = index_of(parts, bits, head);
    const double fitted = coding_error(index, head.keys, 0, 1024);
    const double later = coding_error(index, head.keys, 1024, 4096);
    UNSCOPED_INFO(parts << " parts, " << bits << " bits: " << fitted << ", " << later);
    return later;
  };
  for (const index_t parts : {8, 32}) {
    double last = 64.0;
    for (int bits = 4; bits <= 8; ++bits) {
      const double now = error(parts, bits);
      CHECK(now < 0.97 * last);
      last = now;
    }
  }
  double last = 64.0;
  for (const index_t parts : {4, 8, 16, 32, 64}) {
    const double now = error(parts, 6);
    CHECK(now < 0.9 * last);
    last = now;
  }
  CHECK(last < 0.01 * 64.0);
}

namespace {

/// Share of head 0's true top 64 among the 64 rows of largest score, a mean over heads of different seeds.
template <class Policy>
double recall(const Policy& policy, head_kind kind) {
  constexpr index_t n = 4096, k = 64;
  double found = 0.0;
  constexpr int seeds = 3;
  for (int seed = 1; seed <= seeds; ++seed) {
    const synthetic_head head = make_head(kind, n, 64, 4, 1, static_cast<std::uint64_t>(seed));
    const kv_view kv = head.view();
    auto index = policy.make_index(64);
    index.append(kv);
    const query_group queries = head.group();
    workspace ws;
    ws.reserve(1, n, 64, 4, true);
    const attention_call<kv_view> call(queries, kv, {});
    policy.predict(call, index, ws.seen, ws);
    policy.select(call, ws.seen, ws);
    ws.exact.list();
    const Eigen::VectorXd l = logits(queries, kv, 0);
    std::vector<row_t> order = test::row_range(0, n);
    std::nth_element(order.begin(), order.begin() + k, order.end(),
                     [&](row_t a, row_t b) { return l[a] > l[b]; });
    std::sort(order.begin(), order.begin() + k);
    const auto missed = test::rows_without(std::span(order).first(k), ws.exact.rows());
    found += 1.0 - static_cast<double>(missed.size()) / static_cast<double>(k);
  }
  return found / seeds;
}

}  // namespace

TEST_CASE("product_code: finds far more of the heavy rows than signs do", "[top_k]") {
  for (const head_kind kind : {head_kind::power_law, head_kind::mixed}) {
    const double signs = recall(top_k::sign_hash(64, rows(64)), kind);
    const double same_bytes = recall(top_k::product_code(8, 8, rows(64)), kind);
    const double packed = recall(top_k::product_code(32, 4, rows(64)), kind);
    const double twice = recall(top_k::product_code(16, 8, rows(64)), kind);
    CAPTURE(static_cast<int>(kind), signs, same_bytes, packed, twice);
    CHECK(signs > 0.1);
    CHECK(same_bytes > signs + 0.05);
    CHECK(packed > signs + 0.3);
    CHECK(twice > signs + 0.4);
  }
}

TEST_CASE("product_code: a share of the mass takes fewer rows than a larger one", "[top_k]") {
  test::prepared_call c({.rows = 2000, .dim = 32});
  const auto taken = [&](double share) {
    return test::newly_selected(top_k::product_code(8, 8, mass(share)), c).size();
  };
  CHECK(taken(0.0) == 0);
  CHECK(taken(0.5) > 0);
  CHECK(taken(0.9) > taken(0.5));
  CHECK(taken(1.0) == 2000);
}

TEST_CASE("product_code: hidden rows score -inf, rows of odd keys NaN unless hidden", "[top_k]") {
  test::prepared_call c({600, 32, 3});
  for (const index_t row : {20, 560}) c.head.keys(row, 31) = std::nanf("");
  const std::vector<index_t> sees{550, 600, 1};
  c.options.visible_of = sees.data();
  const top_k::product_code policy(8, 8, rows(5));
  const scores_by_head scores = scores_of(policy, test::index_of(policy, c), c, 600);
  for (std::size_t h = 0; h < 3; ++h)
    for (std::size_t row = 0; row < 600; ++row) {
      const bool hidden = static_cast<index_t>(row) >= sees[h];
      const bool odd = row == 20 || row == 560;
      REQUIRE((scores[h][row] == -std::numeric_limits<float>::infinity()) == hidden);
      REQUIRE(std::isnan(scores[h][row]) == (odd && !hidden));
    }
}

TEST_CASE("product_code counts the bytes of its codes and centroids", "[top_k]") {
  test::prepared_call c({.rows = 500, .dim = 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(top_k::product_code(16, 8, rows(1)).bytes_scanned(call) == 500 * 16 + 4 * 64 * 256);
  CHECK(top_k::product_code(16, 5, rows(1)).bytes_scanned(call) == 500 * 16 + 4 * 64 * 32);
  CHECK(top_k::product_code(15, 4, rows(1)).bytes_scanned(call) == 500 * 8 + 4 * 64 * 16);
  CHECK(top_k::product_code(99, 8, rows(1)).bytes_scanned(call) == 500 * 64 + 4 * 64 * 256);
}

TEST_CASE("product_code: keys near the largest float are coded, and one value many times is too") {
  test::prepared_call c({.rows = 700, .dim = 16});
  c.head.keys.topRows(400).setConstant(0.5F);
  c.head.keys.row(500).setConstant(3e38F);
  c.head.keys.row(501).setConstant(-3e38F);
  const auto index = test::index_of(top_k::product_code(4, 8, rows(1)), c);
  CHECK(coding_error(index, c.head.keys, 0, 400) < 1e-12);
  CHECK(decoded(index, 500)[0] == static_cast<double>(3e38F));
  CHECK(decoded(index, 501)[0] == static_cast<double>(-3e38F));
}
