// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/candidate_rows.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

namespace {

/// Calls `check(candidates, c)` for a begun call of two heads on 5,000 rows.
template <class Predictor, class Check>
void with_candidates(const Predictor& predictor, Check check) {
  test::prepared_call c({5000, 64, 2});
  const kv_view kv = c.view();
  auto index = predictor.make_index(64);
  index.append(kv);
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {.seed = 4});
  c.begin(true, {0, 1, 2, 4999});
  predictor.propose(call, index, c.ws);
  const population rest(call.visible, c.ws.exact);
  const drawing d{call, rest, predictor, index, c.ws};
  candidate_rows candidates(d);
  candidates.begin();
  check(candidates, c);
}

}  // namespace

TEST_CASE("a search finds rows once, and none that is read anyway", "[sampling]") {
  const auto check = [](auto& candidates, test::prepared_call& c) {
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 100.0);
    CHECK_FALSE(candidates.sees_enough());
    candidates.search(2.0);
    CHECK(candidates.sees_enough());
    const index_t first = candidates.waiting().count;
    CHECK(first > 100);
    candidates.search(1.0);  // the same scales: nothing new
    CHECK(candidates.waiting().count == first);
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 1000.0);
    CHECK_FALSE(candidates.sees_enough());
    candidates.search(1.0);
    CHECK(candidates.waiting().count > first);
    std::vector<row_t> rows(candidates.waiting().rows.data(),
                            candidates.waiting().rows.data() + candidates.waiting().count);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      REQUIRE_FALSE(c.ws.exact.contains(rows[i]));
      REQUIRE(candidates.waiting().numbers[static_cast<index_t>(i)] == c.ws.draws.numbers[rows[i]]);
    }
    std::sort(rows.begin(), rows.end());
    CHECK(std::adjacent_find(rows.begin(), rows.end()) == rows.end());
  };
  with_candidates(top_k::key_code(4, rows(0)), check);
  with_candidates(top_k::cascade(2, 4), check);
}

TEST_CASE("scales only grow, and all of the residual is certain", "[sampling]") {
  with_candidates(top_k::key_code(4, rows(0)), [](auto& candidates, test::prepared_call&) {
    candidates.set_size(0, 200.0);
    const double scale = candidates.kept(0).scale;
    candidates.set_size(0, 50.0);
    CHECK(candidates.kept(0).scale == scale);
    candidates.set_size(0, 1e9);
    CHECK(candidates.kept(0).size == 4996.0);
    CHECK(std::isinf(candidates.kept(0).scale));
  });
}

TEST_CASE("settled proposals of a level are its shares", "[sampling]") {
  with_candidates(top_k::key_code(4, rows(0)), [](auto& candidates, test::prepared_call& c) {
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 300.0);
    candidates.search(1.0);
    candidates.settle();
    for (int h = 0; h < 2; ++h) {
      const poisson_scale& kept = candidates.kept(h);
      for (index_t i = 0; i < candidates.waiting().count; ++i) {
        const auto t = static_cast<double>(candidates.log_weights(h)[candidates.waiting().rows[i]]);
        const double share =
            std::max(std::exp(t - kept.largest[0]) * kept.per_sum[0], 0.05 / 4996.0);
        REQUIRE(std::exp(static_cast<double>(candidates.logs_of(h)[i])) ==
                Approx(share).epsilon(1e-4));
      }
    }
    static_cast<void>(c);
  });
}

TEST_CASE("the second level lowers proposals, and never below its floor", "[sampling]") {
  with_candidates(top_k::cascade(2, 4), [](auto& candidates, test::prepared_call&) {
    for (int h = 0; h < 2; ++h) candidates.set_size(h, 100.0);
    candidates.search(2.5);
    candidates.refine_first();
    const auto least = static_cast<float>(std::log(0.05 / 4996.0));
    for (int h = 0; h < 2; ++h) {
      CHECK(candidates.kept(h).per_sum[1] > 0.0);
      double sum = 0.0;
      for (index_t i = 0; i < candidates.waiting().count; ++i) {
        REQUIRE(candidates.logs_of(h)[i] > least - 1e-3F);
        sum += std::exp(static_cast<double>(candidates.logs_of(h)[i]));
      }
      CHECK(sum < 1.5);  // the rows that matter have most of the weight, and no more than all
      CHECK(sum > 0.3);
    }
  });
}
