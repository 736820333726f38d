// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/sign_hash.hpp"

#include <bit>

#include "support/top_k_contract.hpp"

using namespace vattn;

TEST_CASE("sign_hash keeps the contract of its role", "[top_k]") {
  for (const int bits : {32, 256})
    test::check_top_k_contract([&](extent k) { return top_k::sign_hash(bits, k); });
}

namespace {

/// Counts of all rows for head 0 of a call on the first `visible` rows.
std::vector<std::uint16_t> counts_of(const top_k::sign_hash& policy,
                                     const top_k::sign_hash_index& index, test::prepared_call& c,
                                     index_t visible) {
  const kv_view kv = c.view();
  c.options.visible_rows = visible;
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  const auto counts = c.ws.seen.counts(0);
  return {counts.begin(), counts.begin() + visible};
}

}  // namespace

TEST_CASE("sign_hash: 32 bits count the first half of the signs of 64", "[top_k]") {
  for (const index_t rows : {1, 2, 255, 256, 257, 601}) {
    test::prepared_call c({.rows = rows, .dim = 64});
    const top_k::sign_hash narrow(32, vattn::rows(1));
    const top_k::sign_hash wide(64, vattn::rows(1));
    const auto halves = test::index_of(narrow, c);
    const auto whole = test::index_of(wide, c);
    std::uint64_t query;
    std::vector<float> scratch(64);
    whole.hash(c.group().data, scratch.data(), &query);
    for (const index_t visible : {rows, std::max<index_t>(1, rows - 1)}) {
      const std::vector<std::uint16_t> counts = counts_of(narrow, halves, c, visible);
      for (index_t row = 0; row < visible; ++row) {
        const auto different =
            std::popcount(static_cast<std::uint32_t>(whole.signatures().data()[row]) ^
                          static_cast<std::uint32_t>(query));
        CHECK(counts[static_cast<std::size_t>(row)] == 33 - different);
      }
    }
  }
}

TEST_CASE("sign_hash: shared signs estimate the angle", "[top_k]") {
  test::prepared_call c({.rows = 600, .dim = 64});
  const top_k::sign_hash policy(256, rows(1));
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  const Eigen::VectorXf centre = c.head.keys.topRows(256).colwise().mean();
  double worst = 0.0;
  double square = 0.0;
  for (index_t row = 0; row < 600; ++row) {
    const Eigen::VectorXf key = c.head.keys.row(row).transpose() - centre;
    const auto cosine =
        static_cast<double>(key.normalized().dot(c.head.queries.row(0).transpose().normalized()));
    const double expected = 256.0 * (1.0 - 2.0 * std::acos(cosine) / 3.14159265358979);
    const int equal = c.ws.seen.counts(0)[static_cast<std::size_t>(row)] - 1;
    const double off = 2.0 * equal - 256.0 - expected;
    worst = std::max(worst, std::fabs(off));
    square += off * off / 600.0;
  }
  // Independent projections would give a standard deviation of at most sqrt(256) = 16.
  CHECK(std::sqrt(square) < 17.0);
  CHECK(worst < 6.0 * 16.0);
}

TEST_CASE("sign_hash refuses widths it cannot pack, and says which it can", "[top_k]") {
  for (const int bits : {0, 16, 33, 288, -64})
    CHECK_THROWS_WITH(
        top_k::sign_hash(bits, rows(1)),
        "vattention: sign_hash: want 32, 64, ... 256 bits, got " + std::to_string(bits));
}

TEST_CASE("sign_hash: an index grown by rows equals one built at once", "[top_k]") {
  test::prepared_call c({.rows = 401, .dim = 80});
  const kv_view kv = c.view();
  for (const int bits : {32, 128}) {
    const top_k::sign_hash policy(bits, rows(1));
    const auto at_once = test::index_of(policy, c);
    auto grown = policy.make_index(80);
    for (const index_t size : {1, 2, 255, 256, 257, 258, 401}) grown.append(kv.shard(0, size));
    CHECK(std::equal(at_once.signatures().data(),
                     at_once.signatures().data() + at_once.bytes_of(401) / 8,
                     grown.signatures().data()));
    CHECK_THROWS_AS(grown.append(kv.shard(0, 400)), std::invalid_argument);
    CHECK(grown.rows() == 401);
  }
}

TEST_CASE("sign_hash counts the bytes of its signatures", "[top_k]") {
  test::prepared_call c({.rows = 500, .dim = 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  CHECK(top_k::sign_hash(32, rows(1)).bytes_scanned(call) == 500 * 4);
  CHECK(top_k::sign_hash(64, rows(1)).bytes_scanned(call) == 500 * 8);
  CHECK(top_k::sign_hash(96, rows(1)).bytes_scanned(call) == 500 * 16);
  CHECK(top_k::sign_hash(256, rows(1)).bytes_scanned(call) == 500 * 32);
}

TEST_CASE("sign_hash: rows beyond a query's sight are not free", "[top_k]") {
  test::prepared_call c({300, 32, 2});
  const std::vector<index_t> sees{290, 300};
  c.options.visible_of = sees.data();
  const top_k::sign_hash policy(64, rows(5));
  const auto index = test::index_of(policy, c);
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(true);
  policy.predict(attention_call<kv_view>(queries, kv, {}), index, c.ws.seen, c.ws);
  for (std::size_t row = 0; row < 300; ++row) {
    CHECK((c.ws.seen.counts(0)[row] == predictions::not_free) == (row >= 290));
    CHECK(c.ws.seen.counts(1)[row] >= 1);
    CHECK(c.ws.seen.counts(1)[row] <= 65);
  }
}
