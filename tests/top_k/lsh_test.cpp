// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/lsh.hpp"

#include "support/top_k_contract.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;

TEST_CASE("lsh keeps the contract of predictors", "[top_k]") {
  SECTION("tables of one bit, all of which pick") {
    test::check_top_k_contract([](extent k) { return top_k::lsh(256, 1, k, 3, 0); });
  }
  SECTION("tables of two bits, half of which pick") {
    test::check_top_k_contract([](extent k) { return top_k::lsh(256, 2, k); });
  }
}

namespace {

/// Collisions of a row by the definition: a table agrees if all of its bits do.
int agreeing(const top_k::lsh_index& index, const std::vector<std::uint64_t>& query, index_t row,
             int first, int last) {
  const auto* asked = query.data() + top_k::lsh_planes::pattern_of(row) * index.words();
  int count = 0;
  for (int table = first; table < last; ++table) {
    bool agrees = true;
    for (int bit = table * index.bits(); bit < (table + 1) * index.bits(); ++bit)
      agrees =
          agrees && (((index.signature(row)[bit / 64] ^ asked[bit / 64]) >> (bit % 64)) & 1U) == 0;
    count += agrees ? 1 : 0;
  }
  return count;
}

/// All signatures of a query.
std::vector<std::uint64_t> hashed(const top_k::lsh_index& index, std::vector<float> query) {
  std::vector<float> room(8 * query.size());
  std::vector<std::uint64_t> out(
      static_cast<std::size_t>(top_k::lsh_planes::patterns * index.words()));
  index.hash_query(query.data(), room.data(), out.data());
  return out;
}

}  // namespace

TEST_CASE("lsh: a score is the number of picking tables that agree, the sampler counts the others",
          "[top_k]") {
  const std::tuple<int, int, int> kinds[] = {{64, 1, 0},  {64, 1, 20},  {96, 2, 96},   {48, 4, 17},
                                             {16, 8, 16}, {24, 16, 11}, {1024, 1, 512}};
  for (const auto& [tables, bits, kept] : kinds)
    for (const float scale : {0.0F, -0.25F}) {
      test::prepared_call c({300, 80, 2, element::bf16, 5});
      c.options.scale = scale;
      const top_k::lsh policy(tables, bits, rows(0), 9, kept);
      CHECK(policy.tables() == kept);
      CHECK(policy.bits() == bits);
      const auto index = test::index_of(policy, c);
      const kv_view kv = c.view();
      const query_group queries = c.group();
      const attention_call<kv_view> call(queries, kv, {});
      c.begin(true);
      policy.predict(call, index, c.ws.seen, c.ws);
      policy.collide(call, index, c.ws);
      const float sign = scale < 0.0F ? -1.0F : 1.0F;
      Eigen::VectorXf mean = Eigen::VectorXf::Zero(80);
      for (int h = 0; h < 2; ++h) {
        const Eigen::VectorXf query = sign * c.head.queries.row(h);
        mean += query.normalized();
        const auto asked = hashed(index, {query.data(), query.data() + 80});
        for (index_t row = 0; row < 300; row += 7) {
          CAPTURE(tables, bits, kept, scale, h, row);
          REQUIRE(c.ws.seen.scores(h)[static_cast<std::size_t>(row)] ==
                  static_cast<float>(agreeing(index, asked, row, 0, tables - kept)));
        }
      }
      // The mean is rounded in another order here, so a bit may differ now and then.
      const auto asked = hashed(index, {mean.data(), mean.data() + 80});
      int differing = 0;
      for (index_t row = 0; row < 300; ++row)
        differing += std::abs(c.ws.draws.collisions.tables(row) -
                              agreeing(index, asked, row, tables - kept, tables));
      CHECK(differing <= 2);
    }
}

TEST_CASE("lsh: the chance of the query's side is 1 - angle / pi of the centred key", "[top_k]") {
  test::prepared_call c({300, 64, 1, element::f16, 5});
  const top_k::lsh policy;
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  c.begin(true);
  policy.collide(call, index, c.ws);
  top_k::frozen_centre centre(64);
  centre.settle(kv);
  std::vector<float> key(64);
  double agree = 0.0, expected = 0.0;
  for (index_t row = 0; row < 300; ++row) {
    centre.load(kv, row, key.data());
    const Eigen::Map<const Eigen::VectorXf> x(key.data(), 64);
    const Eigen::VectorXd q = c.head.queries.row(0).cast<double>();
    const double cosine = q.dot(x.cast<double>()) / q.norm() / x.cast<double>().norm();
    const double same = policy.same_side(call, index, static_cast<row_t>(row), c.ws);
    CAPTURE(row);
    CHECK(same == Approx(1.0 - std::acos(cosine) / std::numbers::pi).margin(1e-6));
    agree += c.ws.draws.collisions.tables(row);
    expected += 128.0 * same;
  }
  // 300 x 128 bits; rows of a pattern share planes, so take 8 standard deviations of independent ones.
  CHECK(std::fabs(agree - expected) <= 8.0 * std::sqrt(300.0 * 128.0 / 4.0));
}

TEST_CASE("lsh: rows that cannot be hashed are marked, a key in the centre is at right angles",
          "[top_k]") {
  test::prepared_call c({256, 16});
  c.head.keys.setOnes();
  c.head.keys(9, 3) = std::numeric_limits<float>::infinity();
  c.head.keys(30, 3) = std::numeric_limits<float>::max();  // the centre is far from it, in doubles
  c.head.keys(31, 3) = -std::numeric_limits<float>::max();
  const top_k::lsh policy;
  auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  c.begin(true);
  policy.collide(call, index, c.ws);
  CHECK(c.ws.draws.collisions.must_read(9));
  CHECK_FALSE(c.ws.draws.collisions.must_read(8));
  for (const row_t row : {30U, 31U}) {
    const bool odd = c.ws.draws.collisions.must_read(row);
    const double same = policy.same_side(call, index, row, c.ws);
    CHECK((odd || (same >= 0.0 && same <= 1.0)));
  }
  c.head.keys.setOnes();
  index = test::index_of(policy, c);
  policy.collide(call, index, c.ws);
  for (const row_t row : {0U, 77U, 255U}) {
    CHECK(policy.same_side(call, index, row, c.ws) == 0.5);
    // About half of the query's bits are 0, as all of the key's are.
    CHECK(std::abs(c.ws.draws.collisions.tables(row) - 64) <= 40);
  }
}

TEST_CASE("lsh: queries that are zero, opposite or not finite do no harm", "[top_k]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  test::prepared_call c({300, 16, 2});
  const top_k::lsh policy;
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const auto sides = [&] {
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    c.begin(true);
    policy.collide(call, index, c.ws);
    std::vector<double> all;
    for (row_t row = 0; row < 300; ++row) all.push_back(policy.same_side(call, index, row, c.ws));
    return all;
  };
  const Eigen::VectorXf first = c.head.queries.row(0);
  c.head.queries.row(1) = -first;
  for (const double side : sides()) REQUIRE(side == 0.5);
  c.head.queries.row(1).setZero();
  const std::vector<double> alone = sides();
  for (const float odd : {infinity, std::numeric_limits<float>::quiet_NaN()}) {
    c.head.queries(1, 5) = odd;
    CHECK(sides() == alone);
  }
  c.head.queries.row(1) = 7.0F * first;
  CHECK(sides()[20] == Approx(alone[20]).margin(1e-6));
}

TEST_CASE("lsh: what is read and kept", "[top_k]") {
  test::prepared_call c({400, 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const top_k::lsh sampling(128, 1), both(64, 4, rows(9)), picking(64, 4, rows(9), 0, 0);
  CHECK(sampling.picks(call) == 0);
  CHECK(sampling.bytes_scanned(call) == 0);
  CHECK(sampling.bytes_collided(call) == 16 * 400);
  CHECK(both.tables() == 32);
  CHECK(both.picks(call) == 9);
  CHECK(both.bytes_scanned(call) == 16 * 400);
  CHECK(both.bytes_collided(call) == 32 * 400);
  CHECK(picking.tables() == 0);
  CHECK(picking.bytes_scanned(call) == 32 * 400);
  CHECK(sampling.coverage() == basis::unmeasured);
  // Signatures, the centre, and a few numbers.
  CHECK(test::saved_index(test::index_of(sampling, c)).size() <= 16 * 400 + 4 * 64 + 160);
}

TEST_CASE("lsh: other numbers are refused", "[top_k]") {
  CHECK_THROWS_WITH(top_k::lsh(64, 3),
                    "vattention: lsh: want 1, 2, 4, 8 or 16 bits a table, got 3");
  for (const auto& [tables, bits] :
       {std::pair{0, 1}, {-64, 1}, {100, 1}, {2048, 1}, {65, 16}, {6, 8}})
    CHECK_THROWS_AS(top_k::lsh(tables, bits), std::invalid_argument);
  CHECK_THROWS_AS(top_k::lsh(64, 1, rows(0), 0, 65), std::invalid_argument);
  CHECK_THROWS_AS(top_k::lsh(64, 1, rows(0), 0, -2), std::invalid_argument);
  CHECK_THROWS_AS(top_k::lsh(64, 1, rows(1), 0, 64), std::invalid_argument);
  CHECK_NOTHROW(top_k::lsh(64, 16, fraction(0.1), 0, 63));
}

TEST_CASE("lsh: any number of workers gives the same scores and counts", "[top_k]") {
  test::prepared_call c({9000, 32, 2});
  const top_k::lsh policy(64, 2, rows(5));
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const auto run = [&] {
    c.begin(true);
    policy.predict(call, index, c.ws.seen, c.ws);
    policy.collide(call, index, c.ws);
    std::vector<float> all(c.ws.seen.scores(1).begin(), c.ws.seen.scores(1).end());
    for (index_t row = 0; row < 9000; ++row)
      all.push_back(static_cast<float>(c.ws.draws.collisions.marks[row]));
    return all;
  };
  const std::vector<float> alone = run();
  parallel::thread_pool pool(3);
  test::worker_spaces some;
  c.ws.workers = {pool, &some, test::worker_spaces::at};
  CHECK(run() == alone);
  c.ws.workers = {};
}
