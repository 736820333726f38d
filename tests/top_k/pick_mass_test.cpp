// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/pick_mass.hpp"

#include <functional>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;

namespace {

/// The fewest rows with a share of the mass, by a sort.
std::vector<row_t> by_sort(const std::vector<float>& scores, double share) {
  std::vector<row_t> order, taken;
  double total = 0.0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i]) || scores[i] == HUGE_VALF)
      taken.push_back(static_cast<row_t>(i));
    else if (std::isfinite(scores[i]))
      order.push_back(static_cast<row_t>(i));
  }
  std::sort(order.begin(), order.end(), [&](row_t a, row_t b) {
    return scores[a] > scores[b] || (scores[a] == scores[b] && a < b);
  });
  for (const row_t row : order)
    total += std::exp(static_cast<double>(scores[row]) - static_cast<double>(scores[order[0]]));
  double sum = 0.0;
  for (const row_t row : order) {
    if (sum >= share * total && share < 1.0) break;
    if (share == 0.0) break;
    sum += std::exp(static_cast<double>(scores[row]) - static_cast<double>(scores[order[0]]));
    taken.push_back(row);
  }
  std::sort(taken.begin(), taken.end());
  return taken;
}

std::vector<row_t> picked(const std::vector<float>& scores, double share) {
  workspace ws;
  ws.reserve(1, static_cast<index_t>(scores.size()), 4, 4, true);
  const index_t count = pick_mass(scores, share, ws);
  std::vector<row_t> rows(ws.picks.data(), ws.picks.data() + count);
  std::sort(rows.begin(), rows.end());
  return rows;
}

/// Normal scores.
std::vector<float> normal_scores(std::size_t count, double deviation) {
  detail::head_source source(7, 2);
  std::vector<float> scores(count);
  for (float& x : scores) x = static_cast<float>(deviation * source.normal());
  return scores;
}

}  // namespace

TEST_CASE("the fewest rows with a share of the mass are picked", "[top_k]") {
  for (const std::size_t count : {1U, 2U, 255U, 257U, 3000U})
    for (const double deviation : {0.0, 0.01, 1.0, 8.0, 60.0})
      for (const double share : {0.0, 1e-9, 0.3, 0.5, 0.9, 0.99, 0.9999, 1.0}) {
        CAPTURE(count, deviation, share);
        std::vector<float> scores = normal_scores(count, deviation);
        // Of equal weights a share of a half is met by half of them only up to rounding: ask for rows between.
        if (deviation == 0.0 && share > 0.0 && share < 1.0 &&
            share * static_cast<double>(count) == std::floor(share * static_cast<double>(count)))
          continue;
        const std::vector<row_t> want = by_sort(scores, share), got = picked(scores, share);
        // Weights are floats here: where the sum comes within their rounding of the share, a row more or less.
        const auto off = static_cast<double>(got.size()) - static_cast<double>(want.size());
        REQUIRE(std::fabs(off) <= (share > 0.999 ? 0.01 * static_cast<double>(count) + 1.0 : 1.0));
        if (got.size() == want.size()) REQUIRE(got == want);
      }
}

TEST_CASE("equal scores go to the lower row, and what cannot be predicted comes on top") {
  std::vector<float> scores(100, 1.0F);
  scores[40] = std::nanf("");
  scores[90] = HUGE_VALF;
  scores[0] = scores[1] = -HUGE_VALF;
  std::vector<row_t> want = test::row_range(2, 12);  // 96 equal ones: .1 of them is 9.6
  want.push_back(40);
  want.push_back(90);
  CHECK(picked(scores, 0.1) == want);
  CHECK(picked(scores, 0.0) == std::vector<row_t>{40, 90});
  CHECK(picked(scores, 1.0).size() == 98);
  CHECK(picked(std::vector<float>(5, -HUGE_VALF), 1.0).empty());
}

TEST_CASE("buckets of weights are in the order of the scores, and have all the weight") {
  std::vector<float> scores = normal_scores(5000, 12.0);
  std::sort(scores.begin(), scores.end(), std::greater<>());
  const float top = scores[0];
  double total = 0.0;
  for (const float x : scores) total += std::exp(static_cast<double>(x) - static_cast<double>(top));
  std::vector<float> with_odd = scores;
  with_odd.insert(with_odd.begin() + 300, {std::nanf(""), HUGE_VALF, -HUGE_VALF});
  const detail::mass_buckets buckets(with_odd, top, kernels::active());
  CHECK(buckets.of(top) == 0);
  CHECK(buckets.of(top - 1.0F) == 8);
  CHECK(buckets.of(top - 100.0F) == detail::mass_buckets::count - 1);
  int last = 0;
  for (const float x : scores) {
    REQUIRE(buckets.of(x) >= last);
    last = buckets.of(x);
  }
  CHECK(buckets.total() == Approx(total).epsilon(1e-5));
  double before = -1.0;
  CHECK(buckets.reaching(0.0, before) == 0);
  CHECK(before == 0.0);
  // What the buckets before the one that is reached have is less than wanted, and with that one it is enough.
  const int at = buckets.reaching(0.9 * total, before);
  CHECK(before < 0.9 * total);
  double upto = 0.0;
  for (const float x : scores)
    if (buckets.of(x) <= at) upto += std::exp(static_cast<double>(x) - static_cast<double>(top));
  CHECK(upto > 0.9 * total * (1.0 - 1e-5));
}
