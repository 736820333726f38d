// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/socket.hpp"

#include "support/top_k_contract.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;

TEST_CASE("socket keeps the contract of predictors", "[top_k]") {
  // Values of 4 normal coordinates differ much in length: 4 planes cannot tell keys apart that well.
  test::check_top_k_contract([](extent k) { return top_k::socket(40, 6, k, 0.1); });
  test::check_top_k_contract([](extent k) { return top_k::socket(61, 8, k); });
}

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// Scores `[heads x visible]` of a call.
std::vector<std::vector<float>> scores_of(const top_k::socket& policy,
                                          const top_k::socket_index& index,
                                          test::prepared_call& c) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  std::vector<std::vector<float>> all;
  for (int h = 0; h < c.shape.heads; ++h) {
    const auto scores = c.ws.seen.scores(h);
    all.emplace_back(scores.begin(), scores.begin() + c.visible());
  }
  return all;
}

/// What the softmax over the 2^K corners of a table gives each of them, term by term; corner bit k is plane k's.
std::vector<double> corner_chances(const float* projections, int planes, double per_tau) {
  std::vector<double> chance;
  double sum = 0.0;
  for (int corner = 0; corner < 1 << planes; ++corner) {
    double logit = 0.0;
    for (int k = 0; k < planes; ++k)
      logit += ((corner >> k & 1) != 0 ? 1.0 : -1.0) *
               std::tanh(static_cast<double>(projections[k])) * per_tau;
    chance.push_back(std::exp(logit));
    sum += chance.back();
  }
  for (double& p : chance) p /= sum;
  return chance;
}

/// Chances, for a query, of the buckets of a centred key, added up over the tables.
double agreeing_tables(const top_k::socket_index& index, std::vector<float> key,
                       std::vector<float> query, double tau) {
  const auto size = static_cast<std::size_t>(index.tables() * index.planes());
  std::vector<float> of_key(size), of_query(size), turned(key.size());
  index.project(key.data(), turned.data(), of_key.data());
  index.project(query.data(), turned.data(), of_query.data());
  double sum = 0.0;
  for (int t = 0; t < index.tables(); ++t) {
    std::size_t bucket = 0;
    for (int k = 0; k < index.planes(); ++k)
      if (of_key[static_cast<std::size_t>(t * index.planes() + k)] > 0.0F)
        bucket |= std::size_t{1} << k;
    sum += corner_chances(of_query.data() + t * index.planes(), index.planes(),
                          1.0 / (std::sqrt(static_cast<double>(key.size())) * tau))[bucket];
  }
  return sum;
}

/// The `count` best of some numbers, ascending.
std::vector<row_t> best(const std::vector<double>& of, index_t count) {
  std::vector<row_t> order = test::row_range(0, static_cast<index_t>(of.size()));
  std::sort(order.begin(), order.end(), [&](row_t a, row_t b) { return of[a] > of[b]; });
  order.resize(static_cast<std::size_t>(count));
  std::sort(order.begin(), order.end());
  return order;
}

/// Share of the k rows of largest weight times value norm that the policy picks, over some heads.
double recall(head_kind kind, index_t dim, const top_k::socket& policy, index_t k) {
  double found = 0.0;
  constexpr int heads = 2;
  for (std::uint64_t seed = 0; seed < heads; ++seed) {
    test::prepared_call c({.rows = 4096, .dim = dim});
    c.head = make_head(kind, 4096, dim, 64, 1, 100 + seed);
    const auto index = test::index_of(policy, c);
    const std::vector<float> predicted = scores_of(policy, index, c)[0];
    std::vector<double> truth, scores(predicted.begin(), predicted.end());
    for (index_t row = 0; row < 4096; ++row)
      truth.push_back(static_cast<double>(c.head.keys.row(row).dot(c.head.queries.row(0))) /
                          std::sqrt(static_cast<double>(dim)) +
                      std::log(static_cast<double>(c.head.values.row(row).norm())));
    found += static_cast<double>(
        k - static_cast<index_t>(test::rows_without(best(truth, k), best(scores, k)).size()));
  }
  return found / static_cast<double>(heads * k);
}

}  // namespace

TEST_CASE("socket: a score is the softmax of the row's buckets times the value's norm", "[top_k]") {
  // Both ways to find a chance: tables as long as the cache, and none.
  const std::tuple<int, int, double> kinds[] = {{1, 1, 0.2},  {7, 3, 0.05}, {40, 4, 0.2},
                                                {31, 4, 0.3}, {64, 8, 0.2}, {3, 8, 1.0}};
  for (const auto& [tables, planes, tau] : kinds)
    for (const float scale : {0.0F, -0.25F})  // 0: 1 / sqrt(d)
      for (const test::cache_shape& shape : test::contract_shapes()) {
        test::prepared_call c(shape);
        c.options.scale = scale;
        CAPTURE(tables, planes, tau, scale, shape.dim, shape.heads, static_cast<int>(shape.type));
        const top_k::socket policy(tables, planes, rows(1), tau);
        const auto index = test::index_of(policy, c);
        const auto scores = scores_of(policy, index, c);
        const kv_view kv = c.view();
        top_k::frozen_centre centre(shape.dim);
        centre.settle(kv);
        std::vector<float> key(static_cast<std::size_t>(shape.dim));
        for (index_t row = 0; row < shape.rows; row += 61) {
          centre.load(kv, row, key.data());
          const auto norm = static_cast<double>(c.head.values.row(row).norm());
          for (int h = 0; h < shape.heads; ++h) {
            const Eigen::VectorXf q = c.head.queries.row(h) * (scale < 0.0F ? -1.0F : 1.0F);
            const double expected =
                norm * agreeing_tables(index, key, {q.data(), q.data() + q.size()}, tau);
            const auto got = static_cast<double>(
                scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]);
            REQUIRE(std::fabs(got - expected) <= 0x1p-10 * expected + 1e-6 * norm * tables);
          }
        }
      }
}

TEST_CASE("socket: a row scores the same in a short cache and in a long one", "[top_k]") {
  test::prepared_call c({.rows = 700, .dim = 64, .heads = 2});
  const top_k::socket policy(40, 4, rows(1));
  const auto index = test::index_of(policy, c);
  const auto tabled = scores_of(policy, index, c);
  c.options.visible_rows = 640;
  const auto just = scores_of(policy, index, c);
  c.options.visible_rows = 639;
  const auto direct = scores_of(policy, index, c);
  for (std::size_t h = 0; h < 2; ++h) {
    CHECK(std::equal(just[h].begin(), just[h].end(), tabled[h].begin()));
    CHECK(std::equal(direct[h].begin(), direct[h].end(), tabled[h].begin()));
  }
}

TEST_CASE("socket: longer values raise a row's rank", "[top_k]") {
  test::prepared_call c({.rows = 1000, .dim = 64});
  const top_k::socket policy(40, 4, rows(1));
  const std::vector<float> before = scores_of(policy, test::index_of(policy, c), c)[0];
  const auto rank = [](const std::vector<float>& scores, std::size_t row) {
    return std::count_if(scores.begin(), scores.end(), [&](float s) { return s > scores[row]; });
  };
  for (index_t row = 0; row < 1000; row += 50) c.head.values.row(row) *= 2.0F;
  const std::vector<float> after = scores_of(policy, test::index_of(policy, c), c)[0];
  for (std::size_t row = 0; row < 1000; ++row) {
    CAPTURE(row);
    if (row % 50 != 0) {
      CHECK(after[row] == before[row]);
      continue;
    }
    CHECK(after[row] == 2.0F * before[row]);
    CHECK((rank(after, row) < rank(before, row) || rank(before, row) < 20));
  }
}

TEST_CASE("socket: rows whose value has no norm are read, unless they are hidden", "[top_k]") {
  test::prepared_call c({.rows = 400, .dim = 32, .heads = 2});
  c.head.values(11, 0) = std::nanf("");
  c.head.values(77, 3) = infinity;
  c.head.values.row(300).setConstant(4e4F);  // of norm 8e4
  c.head.values.row(301).setConstant(3e4F);
  c.head.values.row(399).setConstant(-3e38F);
  c.head.values.row(5).setZero();
  const auto taken = [&] { return test::newly_selected(top_k::socket(20, 3, rows(0)), c); };
  CHECK(taken() == std::vector<row_t>{11, 77, 300, 399});
  std::vector<float> bias(400, 0.0F);
  bias[77] = -infinity;
  c.options.bias = bias.data();
  CHECK(taken() == std::vector<row_t>{11, 300, 399});
  const top_k::socket policy(20, 3, rows(0));
  const auto scores = scores_of(policy, test::index_of(policy, c), c);
  CHECK(scores[1][5] == 0.0F);
  CHECK(scores[1][77] == -infinity);
  CHECK(std::isfinite(scores[1][301]));
}

TEST_CASE("socket: rows beyond a query's sight score -inf", "[top_k]") {
  test::prepared_call c({300, 32, 2});
  const std::vector<index_t> sees{290, 300};
  c.options.visible_of = sees.data();
  const top_k::socket policy(10, 4, rows(5));
  const auto scores = scores_of(policy, test::index_of(policy, c), c);
  for (std::size_t row = 0; row < 300; ++row) {
    CHECK((scores[0][row] == -infinity) == (row >= 290));
    CHECK(std::isfinite(scores[1][row]));
  }
}

TEST_CASE("socket finds heavy rows far better than chance", "[top_k]") {
  // Chance is 64 / 4,096, 1.6 %.
  for (const head_kind kind : {head_kind::power_law, head_kind::mixed})
    for (const index_t dim : {64, 128}) {
      const double narrow = recall(kind, dim, top_k::socket(40, 4, rows(1)), 64);
      const double wide = recall(kind, dim, top_k::socket(60, 8, rows(1)), 64);
      CAPTURE(static_cast<int>(kind), dim, narrow, wide);
      CHECK(narrow > 4.0 * 64.0 / 4096.0);
      CHECK(wide > 8.0 * 64.0 / 4096.0);
    }
}

TEST_CASE("socket: the centre and the planes are fixed by the first 256 rows", "[top_k]") {
  test::prepared_call c({.rows = 600, .dim = 48});
  const kv_view kv = c.view();
  const top_k::socket policy(33, 5, rows(1));
  const auto whole = test::index_of(policy, c);
  auto settled = policy.make_index(48);
  settled.append(kv.shard(0, 256));
  CHECK(std::equal(settled.buckets(0), settled.buckets(256), whole.buckets(0)));
  CHECK(whole.tables() == 33);
  CHECK(whole.corners() == 32);
  CHECK(std::all_of(whole.buckets(0), whole.buckets(600), [](int bucket) { return bucket < 32; }));
  c.head.keys.bottomRows(344) *= -3.0F;
  const auto other = test::index_of(policy, c);
  CHECK(std::equal(other.buckets(0), other.buckets(256), whole.buckets(0)));
  CHECK(!std::equal(other.buckets(256), other.buckets(600), whole.buckets(256)));
}

TEST_CASE("socket: given planes hash as the coordinates that they are", "[top_k]") {
  constexpr index_t dim = 48;
  test::prepared_call c({.rows = 600, .dim = dim, .heads = 2});
  const top_k::socket policy(23, 5, rows(7));
  const auto seeded = test::index_of(policy, c);
  // The planes of the seeded index, coordinate by coordinate.
  constexpr std::size_t planes = 23 * 5;
  std::vector<float> normals(planes * dim), unit(dim), turned(dim), projections(planes);
  for (std::size_t j = 0; j < dim; ++j) {
    std::fill(unit.begin(), unit.end(), 0.0F);
    unit[j] = 1.0F;
    seeded.project(unit.data(), turned.data(), projections.data());
    for (std::size_t i = 0; i < planes; ++i) normals[i * dim + j] = projections[i];
  }
  auto given = policy.make_index(normals, dim);
  for (const index_t n : {1, 255, 256, 600}) given.append(c.view().shard(0, n));
  index_t unlike = 0;
  for (index_t row = 0; row < 600; ++row)
    for (int t = 0; t < 23; ++t) unlike += given.buckets(row)[t] != seeded.buckets(row)[t] ? 1 : 0;
  CHECK(unlike <= 1);  // a product within rounding of 0
  const auto of_given = scores_of(policy, given, c), of_seeded = scores_of(policy, seeded, c);
  for (std::size_t row = 0; row < 600; ++row)
    CHECK(of_given[1][row] == Approx(of_seeded[1][row]).epsilon(unlike == 0 ? 1e-5 : 0.1));

  const std::string whole = test::saved_index(given);
  given.forget(300);
  given.append(c.view());
  CHECK((test::saved_index(given) == whole));
  auto read = policy.make_index(std::vector<float>(planes * dim), dim);
  std::istringstream in(whole), again(whole);
  load_index(read, in);
  CHECK((test::saved_index(read) == whole));
  auto of_seeds = policy.make_index(dim);
  CHECK_THROWS_WITH(load_index(of_seeds, again), Catch::Contains("that are given 1, not 0"));

  CHECK_THROWS_WITH(policy.make_index(std::vector<float>(planes * dim - 1), dim),
                    Catch::Contains("5519, 23, 5, 48"));
  normals[3 * dim + 5] = infinity;
  CHECK_THROWS_WITH(policy.make_index(normals, dim),
                    Catch::Contains("finite planes") && Catch::Contains("3, inf"));
}

TEST_CASE("socket: an index that refuses a view or a file stays as it was", "[top_k]") {
  test::prepared_call c({.rows = 300, .dim = 16});
  test::prepared_call other({.rows = 300, .dim = 17});
  const top_k::socket policy(9, 3, rows(1));
  auto index = test::index_of(policy, c);
  const std::string before = test::saved_index(index);
  CHECK_THROWS_WITH(index.append(c.view().shard(0, 299)),
                    Catch::Contains("socket_index::append") && Catch::Contains("299, 300"));
  CHECK_THROWS_WITH(index.append(other.view()),
                    Catch::Contains("socket_index::append") && Catch::Contains("17"));
  for (const auto& [tables, planes, what] :
       {std::tuple{8, 3, "tables 9, not 8"}, std::tuple{9, 4, "planes 3, not 4"}}) {
    auto unlike = top_k::socket(tables, planes, rows(1)).make_index(16);
    std::istringstream in(before);
    CHECK_THROWS_WITH(load_index(unlike, in), Catch::Contains(what));
  }
  CHECK(test::saved_index(index) == before);
}

TEST_CASE("socket refuses tables, planes and temperatures it cannot use, and says which it can") {
  for (const int tables : {0, -1, 65})
    CHECK_THROWS_WITH(top_k::socket(tables, 4, rows(1)),
                      "vattention: socket: want 1 to 64 tables, got " + std::to_string(tables));
  for (const int planes : {0, -1, 9})
    CHECK_THROWS_WITH(
        top_k::socket(4, planes, rows(1)),
        "vattention: socket: want 1 to 8 planes a table, got " + std::to_string(planes));
  for (const double tau : {0.0, -0.1, std::numeric_limits<double>::infinity(), std::nan("")})
    CHECK_THROWS_WITH(top_k::socket(4, 4, rows(1), tau), Catch::Contains("a finite tau > 0"));
}

TEST_CASE("socket: any temperature gives finite scores", "[top_k]") {
  test::prepared_call c({.rows = 500, .dim = 32});
  for (const double tau : {std::numeric_limits<double>::denorm_min(), 1e-300, 1e-3, 1e300}) {
    const top_k::socket policy(12, 4, rows(1), tau);
    const std::vector<float> scores = scores_of(policy, test::index_of(policy, c), c)[0];
    CAPTURE(tau);
    CHECK(std::all_of(scores.begin(), scores.end(), [](float s) { return s >= 0.0F && s < 1e3F; }));
  }
}

TEST_CASE("socket: threads change no bit of a score", "[top_k]") {
  test::prepared_call c({.rows = 9000, .dim = 64, .heads = 3});
  const top_k::socket policy(24, 5, rows(1));
  const auto index = test::index_of(policy, c);
  for (const index_t visible : {9000, 700}) {
    c.options.visible_rows = visible;
    const auto alone = scores_of(policy, index, c);
    test::worker_spaces some;
    parallel::thread_pool pool(3);
    c.ws.workers = {pool, &some, test::worker_spaces::at};
    CHECK(scores_of(policy, index, c) == alone);
    c.ws.workers = {};
  }
}

TEST_CASE("socket counts the bytes of its buckets and norms") {
  test::prepared_call c({.rows = 500, .dim = 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(top_k::socket(40, 4, rows(1)).bytes_scanned(call) == 500 * 42);
  CHECK(top_k::socket(1, 8, rows(1)).bytes_scanned(call) == 500 * 3);
}
