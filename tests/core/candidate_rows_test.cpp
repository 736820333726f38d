// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/candidate_rows.hpp"

#include "support/catch.hpp"
#include "support/with_drawing.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

namespace {

/// Calls `check(candidates, c)`, begun for samples of `size` rows.
template <class Predictor, class Check>
void with_candidates(const Predictor& predictor, index_t size, Check check) {
  test::with_drawing(predictor, [&](const auto& d, test::prepared_call& c) {
    candidate_rows candidates(d);
    candidates.begin(size);
    check(candidates, c);
  });
}

/// The rows of a list, ascending.
std::vector<row_t> sorted(const reached_rows& list) {
  std::vector<row_t> rows(list.rows.data(), list.rows.data() + list.count);
  std::sort(rows.begin(), rows.end());
  return rows;
}

}  // namespace

TEST_CASE("a search finds rows once, and none that is read anyway", "[sampling]") {
  const auto check = [](auto& candidates, test::prepared_call& c) {
    const auto found = [&] { return candidates.waiting().count + candidates.settled().count; };
    const index_t first = found();
    CHECK(first > 100);
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 100.0);
    CHECK(candidates.sees_enough());  // of what the pilot guesses many times
    candidates.settle();
    CHECK(candidates.settled().count > 50);
    CHECK(found() == first);
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 3000.0);
    CHECK_FALSE(candidates.sees_enough());
    candidates.search();
    CHECK(candidates.sees_enough());
    CHECK(found() > first);
    candidates.settle();
    CHECK(candidates.settled().count > 3000);
    std::vector<row_t> rows = sorted(candidates.waiting());
    const std::vector<row_t> settled = sorted(candidates.settled());
    rows.insert(rows.end(), settled.begin(), settled.end());
    std::sort(rows.begin(), rows.end());
    CHECK(std::adjacent_find(rows.begin(), rows.end()) == rows.end());
    for (const row_t row : rows) REQUIRE_FALSE(c.ws.exact.contains(row));
  };
  with_candidates(top_k::key_code(4, rows(0)), 100, check);
  with_candidates(top_k::cascade(2, 4), 100, check);
}

TEST_CASE("scales only grow, and all of the residual is certain", "[sampling]") {
  with_candidates(top_k::key_code(4, rows(0)), 100, [](auto& candidates, test::prepared_call&) {
    candidates.set_size(0, 200.0);
    const double scale = candidates.kept(0).scale;
    candidates.set_size(0, 50.0);
    CHECK(candidates.kept(0).scale == scale);
    candidates.set_size(0, 1e9);
    CHECK(candidates.kept(0).size == 4996.0);
    CHECK(std::isinf(candidates.kept(0).scale));
    candidates.search();
    candidates.settle();
    CHECK(candidates.settled().count == 4996);
    CHECK(candidates.waiting().count == 0);
  });
}

TEST_CASE("settled proposals of a level are its shares", "[sampling]") {
  with_candidates(top_k::key_code(4, rows(0)), 100, [](auto& candidates, test::prepared_call& c) {
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 300.0);
    candidates.settle();
    const reached_rows& settled = candidates.settled();
    CHECK(settled.count > 300);
    for (int h = 0; h < 2; ++h) {
      const poisson_scale& kept = candidates.kept(h);
      for (index_t i = 0; i < settled.count; ++i) {
        const auto t = static_cast<double>(c.ws.seen.scores(h)[settled.rows[i]]);
        const double share =
            std::max(std::exp(t - kept.largest[0]) * kept.per_sum[0], 0.05 / 4996.0);
        REQUIRE(std::exp(static_cast<double>(settled.logs_of(h)[i])) ==
                Approx(share).epsilon(1e-4));
      }
    }
  });
}

TEST_CASE("what waits keeps its log-weights, and is beyond the scales", "[sampling]") {
  with_candidates(top_k::cascade(2, 4), 100, [](auto& candidates, test::prepared_call& c) {
    const reached_rows& waiting = candidates.waiting();
    CHECK(waiting.count > 0);
    for (int h = 0; h < 2; ++h)
      for (index_t i = 0; i < waiting.count; ++i) {
        const float t = waiting.logs_of(h)[i];
        REQUIRE(t == c.ws.seen.scores(h)[waiting.rows[i]]);
        const double u = (static_cast<double>(waiting.numbers[i]) + 1.0) * 0x1p-16;
        REQUIRE(std::log(u) > candidates.kept(h).settled.weight + static_cast<double>(t));
        REQUIRE(std::log(u) > candidates.kept(h).settled.even);
      }
  });
}

TEST_CASE("the second level lowers proposals, and never below its floor", "[sampling]") {
  with_candidates(top_k::cascade(2, 4), 250, [](auto& candidates, test::prepared_call&) {
    const auto least = static_cast<float>(std::log(0.05 / 4996.0));
    const reached_rows& settled = candidates.settled();
    for (int h = 0; h < 2; ++h) {
      CHECK(candidates.kept(h).per_sum[1] > 0.0);
      double sum = 0.0;
      for (index_t i = 0; i < settled.count; ++i) {
        REQUIRE(settled.logs_of(h)[i] > least - 1e-3F);
        sum += std::exp(static_cast<double>(settled.logs_of(h)[i]));
      }
      CHECK(sum < 1.5);  // the rows that matter have most of the weight, and no more than all
      CHECK(sum > 0.3);
    }
  });
}
