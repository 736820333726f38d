// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/selection.hpp"

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();

/// pick_top, in ascending order.
list picked(const std::vector<float>& scores, index_t k) {
  workspace ws;
  ws.reserve(1, static_cast<index_t>(scores.size()), 1, 1, true);
  const index_t count = pick_top(scores, k, ws);
  list picks(ws.picks.data(), ws.picks.data() + count);
  std::sort(picks.begin(), picks.end());
  return picks;
}

/// The same by a plain sort: NaN and +inf always, -inf never, then the k best finite ones, the lower row
/// of equals.
list by_sorting(const std::vector<float>& scores, index_t k) {
  list all, picks;
  for (row_t row = 0; row < scores.size(); ++row) {
    if (std::isfinite(scores[row])) all.push_back(row);
    if (std::isnan(scores[row]) || scores[row] == infinity) picks.push_back(row);
  }
  std::stable_sort(all.begin(), all.end(), [&](row_t a, row_t b) { return scores[a] > scores[b]; });
  all.resize(std::min(all.size(), static_cast<std::size_t>(k)));
  picks.insert(picks.end(), all.begin(), all.end());
  std::sort(picks.begin(), picks.end());
  return picks;
}

void compare(const std::vector<float>& scores) {
  const auto n = static_cast<index_t>(scores.size());
  for (const index_t k :
       {index_t{0}, index_t{1}, index_t{2}, n / 50, n / 3, n - 1, n, n + 1, 10 * n}) {
    if (k < 0) continue;
    CAPTURE(n, k);
    CHECK(picked(scores, k) == by_sorting(scores, k));
  }
}

std::vector<float> normals(index_t n, float deviation, float mean = 0.0F) {
  detail::head_source source(static_cast<std::uint64_t>(n), 3);
  std::vector<float> x;
  for (index_t i = 0; i < n; ++i)
    x.push_back(mean + deviation * static_cast<float>(source.normal()));
  return x;
}

}  // namespace

TEST_CASE("pick_top equals a plain sort on normal scores") {
  for (const index_t n : {0, 1, 2, 3, 16, 100, 1000, 5000})
    for (const float deviation : {1.0F, 1e-30F, 1e30F, 1e-42F}) compare(normals(n, deviation));
  compare(normals(1000, 1.0F, 1e6F));  // few distinct floats: many ties
  compare(normals(1000, 1e-3F, -1e6F));
}

TEST_CASE("pick_top equals a plain sort on ties") {
  for (const float value : {0.0F, -0.0F, 3.0F, -1e38F, 1e-45F})
    compare(std::vector<float>(300, value));
  std::vector<float> few = normals(2000, 2.0F);
  for (float& x : few) x = std::nearbyint(x);
  compare(few);
  std::vector<float> zeros(100, 0.0F);
  for (std::size_t i = 0; i < 100; i += 3) zeros[i] = -0.0F;
  compare(zeros);
}

TEST_CASE("pick_top equals a plain sort on skewed scores") {
  // All but one in one bucket, at either end; and the whole range of float.
  std::vector<float> x = normals(1000, 1e-3F);
  x[500] = 1e4F;
  compare(x);
  x[500] = -1e4F;
  compare(x);
  std::vector<float> powers;
  for (int e = -149; e < 128; ++e)
    for (const float sign : {1.0F, -1.0F}) powers.push_back(sign * std::ldexp(1.0F, e));
  compare(powers);
  constexpr float most = std::numeric_limits<float>::max();
  // Masks of finite value: the least float plus a logit.
  for (const float high : {1.0F, 1e30F, 1e35F}) {
    std::vector<float> masked = normals(1000, high);
    for (std::size_t i = 0; i < 700; ++i) masked[i] = -most + masked[i];
    compare(masked);
  }
  compare({most, -most, 0.0F, most, -most});
  compare({most, std::nextafter(most, 0.0F), 1.0F});
}

TEST_CASE("NaN and +inf are taken beyond k, -inf never") {
  std::vector<float> x = normals(500, 1.0F);
  x[0] = x[100] = nan_value;
  x[101] = -nan_value;
  x[200] = infinity;
  x[300] = x[499] = -infinity;
  compare(x);
  CHECK(picked(x, 0) == list{0, 100, 101, 200});
  CHECK(picked(x, 500).size() == 498);
  compare(std::vector<float>(70, nan_value));
  compare(std::vector<float>(70, infinity));
  compare(std::vector<float>(70, -infinity));
  CHECK(picked(std::vector<float>(70, -infinity), 70).empty());
  compare({-infinity, 5.0F, -infinity});
  compare({nan_value, -infinity, infinity});
}

TEST_CASE("scores with a period do not deceive the guess at the threshold") {
  // What is looked at first is every 64th score of 20000: alone the highest, alone the lowest, NaN, -inf.
  for (const float odd : {50.0F, -50.0F, nan_value, infinity, -infinity}) {
    std::vector<float> x = normals(20000, 1.0F);
    for (std::size_t i = 0; i < x.size(); i += 64) x[i] = odd;
    compare(x);
  }
  std::vector<float> falling, rising;
  for (int i = 0; i < 20000; ++i) {
    rising.push_back(static_cast<float>(i));
    falling.push_back(static_cast<float>(-i));
  }
  compare(rising);
  compare(falling);
  std::vector<float> mostly(20000, -infinity);
  for (std::size_t i = 0; i < mostly.size(); i += 97) mostly[i] = static_cast<float>(i % 13);
  compare(mostly);
}

TEST_CASE("select_top adds each head's best rows among those that are free") {
  test::prepared_call c({6, 4, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const float scores[2][6] = {{9, 8, 7, 6, 5, 4}, {1, 9, 3, 3, -infinity, nan_value}};
  const auto run = [&](index_t k, const list& already) {
    c.begin(true, already);
    for (int h = 0; h < 2; ++h) std::copy_n(scores[h], 6, c.ws.seen.scores(h).data());
    select_top(call, k, c.ws);
    c.ws.exact.list();
    return list(c.ws.exact.rows().begin(), c.ws.exact.rows().end());
  };
  CHECK(run(0, {}) == list{5});
  CHECK(run(1, {}) == list{0, 1, 5});
  CHECK(run(2, {}) == list{0, 1, 2, 5});      // head 0: 0, 1; head 1: 1 and, of equals, 2
  CHECK(run(1, {0, 1}) == list{0, 1, 2, 5});  // fixed rows do not count
  CHECK(run(1, {0, 1, 5}) == list{0, 1, 2, 5});
  CHECK(run(6, {}) == list{0, 1, 2, 3, 4, 5});
}

TEST_CASE("selection allocates nothing") {
  test::prepared_call c({2000, 4, 3});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  c.begin(true);
  for (int h = 0; h < 3; ++h) {
    const std::vector<float> x = normals(2000, 1.0F);
    std::copy(x.begin(), x.end(), c.ws.seen.scores(h).begin());
  }
  CHECK(test::count_allocations([&] { select_top(call, 100, c.ws); }) == 0);
}
