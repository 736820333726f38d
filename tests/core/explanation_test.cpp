// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/explanation.hpp"

#include <set>
#include <sstream>

#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;

namespace {

/// Draws of a replayed call and of the call itself are the same; looks are numbered and grow.
void check_replay(const auto& functor, const synthetic_head& head, draw_key key) {
  const kv_view kv = head.view();
  const auto index = functor.make_index(kv);
  workspace ws;
  const explanation all = functor.explain(head.group(), kv, index, key, ws);
  const result got = functor(head.group(), kv, index, key, ws);
  REQUIRE(all.certificates.size() == got.certificates.size());
  for (std::size_t h = 0; h < all.certificates.size(); ++h) {
    CHECK(all.certificates[h].epsilon == got.certificates[h].epsilon);
    CHECK(all.certificates[h].denominator == got.certificates[h].denominator);
  }
  const certificate& c = got.certificates[0];
  CHECK(static_cast<int>(all.looks.size()) == c.looks);
  std::set<row_t> rows(all.exact.begin(), all.exact.end());
  CHECK(rows.size() == all.exact.size());
  for (const explanation::draw& draw : all.drawn) {
    CHECK(rows.insert(draw.row).second);  // each row once
    CHECK((draw.probability > 0.0 && draw.probability <= 1.0));
    CHECK((draw.look >= 1 && draw.look <= c.looks));
  }
  if (all.all_read()) return;
  CHECK(static_cast<index_t>(all.exact.size()) == c.rows_exact);
  CHECK(static_cast<index_t>(all.drawn.size()) == c.rows_sampled);
  CHECK(all.looks.back().judged[0].epsilon == c.epsilon);
  index_t before = 0;
  for (std::size_t i = 0; i < all.looks.size(); ++i) {
    const auto of_look = std::count_if(
        all.drawn.begin(), all.drawn.end(),
        [&](const explanation::draw& d) { return d.look == static_cast<int>(i) + 1; });
    CHECK(all.looks[i].rows - before == of_look);
    CHECK(all.looks[i].sizes.size() == all.certificates.size());
    before = all.looks[i].rows;
  }
}

}  // namespace

TEST_CASE("an explanation tells rows, probabilities and looks of the call") {
  for (const head_kind kind : {head_kind::sharp, head_kind::mixed, head_kind::flat})
    for (const int heads : {1, 3}) {
      const synthetic_head head = make_head(kind, 5000, 32, 32, heads, 7);
      const draw_key key{.seed = 5, .step = 2};
      check_replay(presets::standard(epsilon{0.1}, delta{0.1}), head, key);
      check_replay(presets::uniform_output(epsilon{0.2}, delta{0.1}), head, key);
      check_replay(presets::strict_output(epsilon{0.3}, delta{0.1}), head, key);
      check_replay(presets::within(at_most(fraction(0.1)), delta{0.1}), head, key);
    }
}

TEST_CASE("the probabilities of an explanation are those of the estimate") {
  const synthetic_head head = make_head(head_kind::mixed, 5000, 32, 32, 1, 7);
  const auto functor = presets::proportional(epsilon{0.1}, delta{0.1});
  workspace ws;
  const explanation all =
      functor.explain(head.group(), head.view(), functor.make_index(head.view()), {}, ws);
  const certificate& c = all.certificates[0];
  const auto weight = [&](row_t row) {
    const double logit =
        head.queries.row(0).cast<double>().dot(head.keys.row(row).cast<double>()) / std::sqrt(32.0);
    return std::exp(logit - c.max_logit);
  };
  double sum = 0.0;
  for (const row_t row : all.exact) sum += weight(row);
  for (const explanation::draw& draw : all.drawn) sum += weight(draw.row) / draw.probability;
  CHECK(sum == Approx(c.denominator).epsilon(1e-4));
}

TEST_CASE("hidden rows are not among those read, and short caches have no look") {
  const auto functor = presets::standard(epsilon{0.1}, delta{0.1});
  workspace ws;
  for (const index_t rows : {300, 2000}) {
    const test::random_cache c({.rows = rows, .dim = 16, .value_dim = 8});
    std::vector<float> bias(static_cast<std::size_t>(rows), 0.0F);
    bias[3] = -std::numeric_limits<float>::infinity();
    query_group q = c.group();
    q.logits.bias = bias.data();
    const explanation all = functor.explain(q, c.view(), functor.make_index(c.view()), {}, ws);
    CHECK(std::count(all.exact.begin(), all.exact.end(), row_t{3}) == 0);
    CHECK(static_cast<index_t>(all.exact.size()) == 95);  // 32 sinks without it and 64 window rows
    CHECK(all.looks.empty() == (rows == 300));
    CHECK(all.drawn.empty() == (rows == 300));
    if (rows == 300) CHECK(all.all_read());
  }
}

TEST_CASE("an explanation in words") {
  const synthetic_head head = make_head(head_kind::mixed, 5000, 32, 32, 2, 7);
  const auto functor = presets::standard(epsilon_of_values{0.1}, delta{0.1});
  workspace ws;
  std::ostringstream out;
  out << functor.explain(head.group(), head.view(), functor.make_index(head.view()), {}, ws);
  CHECK(out.str().find("look 1: ") != std::string::npos);
  CHECK(out.str().find("query 1: met, error at most 0.0") != std::string::npos);
  CHECK(out.str().find("(values) at delta 0.1, measured_per_row") != std::string::npos);
  const auto other = presets::strict_denominator(epsilon{0.2}, delta{0.1});
  out << other.explain(head.group(), head.view(), other.make_index(head.view()), {}, ws);
  CHECK(out.str().find("(denominator) at delta 0.1, proved") != std::string::npos);
}
