// SPDX-License-Identifier: Apache-2.0
// Several query positions a call: each query has its own number of visible rows.
#include <cstring>

#include "support/allocations.hpp"
#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/attend.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/functor.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Two query heads at each of three positions, the last of which sees `last` rows.
struct drafted {
  explicit drafted(index_t rows, index_t last, head_kind kind = head_kind::power_law)
      : head(make_head(kind, rows, 64, 48, 6, 7)),
        sees{last - 2, last - 1, last, last - 2, last - 1, last} {}
  drafted(const drafted&) = delete;
  drafted& operator=(const drafted&) = delete;
  query_group group() const { return head.group({.visible_of = sees.data()}); }
  kv_view view() const { return head.view(); }

  synthetic_head head;
  std::vector<index_t> sees;
};

bool same(const result& a, const owned_result& b) {
  if (std::memcmp(a.output.data(), b.output.data(),
                  static_cast<std::size_t>(b.output.size()) * sizeof(float)) != 0)
    return false;
  for (std::size_t h = 0; h < b.certificates.size(); ++h)
    if (!same_bits(a.log_sum_exp[h], b.log_sum_exp[h]) ||
        !same_bits(a.log_sum_exp_error[h], b.log_sum_exp_error[h]) ||
        !same_bits(a.certificates[h], b.certificates[h]))
      return false;
  return true;
}

template <class Check>
void for_each_preset(Check check) {
  check(presets::standard(epsilon{0.2}, delta{0.1}), "standard");
  check(presets::uniform_output(epsilon{0.3}, delta{0.1}), "uniform_output");
  check(presets::strict_output(epsilon{0.2}, delta{0.1}), "strict_output");
  check(presets::strict_denominator(epsilon{0.2}, delta{0.1}), "strict_denominator");
  check(presets::within(at_most(fraction(0.2)), delta{0.1}), "within");
  check(presets::paper(epsilon{0.2}, delta{0.1}, top_k::sign_hash(64, fraction(0.02))), "paper");
}

}  // namespace

TEST_CASE("positions that are all the same change no bit", "[positions]") {
  const synthetic_head head = make_head(head_kind::power_law, 3000, 64, 48, 2, 5);
  const std::vector<index_t> sees{2900, 2900};
  for_each_preset([&](const auto& functor, const char* name) {
    CAPTURE(name);
    const auto index = functor.make_index(head.view());
    workspace ws;
    const owned_result want(
        functor(head.group({.visible_rows = 2900}), head.view(), index, {.seed = 3}, ws));
    CHECK(want.certificates[0].rows_sampled > 0);
    CHECK(
        same(functor(head.group({.visible_of = sees.data()}), head.view(), index, {.seed = 3}, ws),
             want));
    const owned_result all(dense(head.group({.visible_rows = 2900}), head.view(), ws));
    CHECK(same(dense(head.group({.visible_of = sees.data()}), head.view(), ws), all));
  });
}

TEST_CASE("each position has its own rows: dense, sampled and counted", "[positions]") {
  const drafted d(4000, 3990);
  const exact_attention want = reference(d.group(), d.view());
  workspace ws;
  const owned_result exact(dense(d.group(), d.view(), ws));
  for (int h = 0; h < 6; ++h) {
    const auto i = static_cast<std::size_t>(h);
    CHECK(relative_error(exact.output.row(h), want.output.row(h)) <= 2e-5);
    CHECK(exact.log_sum_exp[i] == Approx(want.log_sum_exp[h]).epsilon(1e-6));
    CHECK(exact.certificates[i].rows_total == d.sees[i]);
    CHECK(exact.certificates[i].rows_exact == d.sees[i]);
    CHECK(exact.certificates[i].bytes_touched == exact.certificates[2].bytes_touched);
  }
  for_each_preset([&](const auto& functor, const char* name) {
    const auto index = functor.make_index(d.view());
    const result got = functor(d.group(), d.view(), index, {.seed = 3}, ws);
    for (int h = 0; h < 6; ++h) {
      const auto i = static_cast<std::size_t>(h);
      const certificate& c = got.certificates[i];
      CAPTURE(name, h, c.epsilon);
      CHECK(c.rows_total == d.sees[i]);
      CHECK(c.rows_sampled > 0);
      CHECK(c.rows_exact + (3990 - d.sees[i]) == got.certificates[2].rows_exact);
      CHECK(c.density() < 0.7);
      if (functor.budget().guarantees() == quantity::output)
        CHECK(relative_error(got.output.row(h), want.output.row(h)) <= 0.35);
      CHECK(std::fabs(got.log_sum_exp[i] - want.log_sum_exp[h]) <= 0.35);
    }
  });
}

TEST_CASE("every position's window is read exactly, and nothing beyond the last one",
          "[positions]") {
  const drafted d(4000, 3900);
  const auto functor = presets::uniform_output(epsilon{0.3}, delta{0.1});
  workspace ws;
  const auto index = functor.make_index(d.view());
  const explanation all = functor.explain(d.group(), d.view(), index, {.seed = 3}, ws);
  const auto has = [&](row_t row) {
    return std::binary_search(all.exact.begin(), all.exact.end(), row);
  };
  for (row_t row = 0; row < 32; ++row) CHECK(has(row));
  for (row_t row = 3898 - 64; row < 3900; ++row) CHECK(has(row));
  for (const auto& draw : all.drawn) CHECK(draw.row < 3898);
  CHECK(all.exact.back() < 3900);
  CHECK(static_cast<index_t>(all.exact.size()) == all.certificates[2].rows_exact);
}

TEST_CASE("with an epsilon out of reach each position gets its dense answer", "[positions]") {
  const drafted d(3000, 3000);
  workspace ws;
  const owned_result want(dense(d.group(), d.view(), ws));
  const auto functor = presets::standard(epsilon{1e-5}, delta{0.1});
  const result got = functor(d.group(), d.view(), functor.make_index(d.view()), {.seed = 3}, ws);
  for (int h = 0; h < 6; ++h) {
    const auto i = static_cast<std::size_t>(h);
    CHECK(got.output.row(h) == want.output.row(h));
    CHECK(got.certificates[i].status == status::exact);
    CHECK(got.certificates[i].rows_total == d.sees[i]);
    CHECK(got.certificates[i].rows_exact == d.sees[i]);
  }
}

TEST_CASE("a short prefill: every position from the first on", "[positions]") {
  const synthetic_head head = make_head(head_kind::mixed, 40, 64, 48, 40, 7);
  std::vector<index_t> sees(40);
  for (std::size_t i = 0; i < 40; ++i) sees[i] = static_cast<index_t>(i) + 1;
  const query_group queries = head.group({.visible_of = sees.data()});
  const exact_attention want = reference(queries, head.view());
  const auto functor = presets::standard(epsilon{0.1}, delta{0.1});
  workspace ws;
  const result got = functor(queries, head.view(), functor.make_index(head.view()), {}, ws);
  for (int h = 0; h < 40; ++h) {
    CHECK(relative_error(got.output.row(h), want.output.row(h)) <= 2e-5);
    CHECK(got.certificates[static_cast<std::size_t>(h)].rows_total == h + 1);
  }
  CHECK(relative_error(got.output.row(0), head.values.row(0)) <= 1e-6);
}

TEST_CASE("positions, biases, sinks and masks at once", "[positions]") {
  random_cache c({.rows = 3000, .dim = 64, .value_dim = 32, .heads = 3});
  std::vector<float> bias(3 * 3000, 0.0F);
  vattn::detail::head_source source(3, 0);
  for (float& x : bias) x = static_cast<float>(source.normal());
  for (index_t h = 0; h < 3; ++h) {
    std::fill_n(bias.begin() + h * 3000 + 500, 700, -std::numeric_limits<float>::infinity());
    bias[static_cast<std::size_t>(h * 3000 + 2996)] = -std::numeric_limits<float>::infinity();
  }
  bias[2998] = -std::numeric_limits<float>::infinity();  // of one head
  const std::vector<index_t> sees{2999, 2995, 2997};
  const float sinks[3] = {1.0F, 2.0F, -1.0F};
  c.options = {.softcap = 20.0F,
               .bias = bias.data(),
               .bias_stride = 3000,
               .sink_logits = sinks,
               .visible_of = sees.data()};
  const exact_attention want = reference(c.group(), c.view());
  workspace ws;
  const auto check = [&](const result& got, double tolerance, bool of_output = true) {
    for (int h = 0; h < 3; ++h) {
      const auto i = static_cast<std::size_t>(h);
      CAPTURE(h, tolerance);
      if (of_output) CHECK(relative_error(got.output.row(h), want.output.row(h)) <= tolerance);
      CHECK(std::fabs(got.log_sum_exp[i] - want.log_sum_exp[h]) <= tolerance);
      // The masked row 2996 counts for nobody; row 2998 is read for head 2 alone, and hidden from all.
      CHECK(got.certificates[i].rows_total == (h == 0 ? 2297 : h == 1 ? 2295 : 2296));
    }
  };
  check(dense(c.group(), c.view(), ws), 2e-5);
  for_each_preset([&](const auto& functor, const char* name) {
    CAPTURE(name);
    check(functor(c.group(), c.view(), functor.make_index(c.view()), {.seed = 2}, ws), 0.45,
          functor.budget().guarantees() == quantity::output);
  });
}

TEST_CASE("rows beyond every position may hold anything", "[positions]") {
  drafted d(3000, 2900);
  d.head.keys.bottomRows(100).setConstant(std::numeric_limits<float>::quiet_NaN());
  d.head.values.bottomRows(100).setConstant(std::numeric_limits<float>::quiet_NaN());
  const auto functor = presets::standard(epsilon{0.2}, delta{0.1});
  workspace ws;
  const result got = functor(d.group(), d.view(), functor.make_index(d.view()), {.seed = 3}, ws);
  CHECK(all_finite(got.output));
  for (const certificate& c : got.certificates) CHECK(c.status == status::met);
  CHECK(all_finite(dense(d.group(), d.view(), ws).output));
}

TEST_CASE("shards of a cache merge for every position", "[positions]") {
  const drafted d(6000, 5990);
  const auto functor = presets::standard(epsilon{0.2}, delta{0.1});
  const exact_attention want = reference(d.group(), d.view());
  std::vector<index_t> of_last(d.sees);
  for (index_t& rows : of_last) rows -= 3000;
  workspace ws;
  std::vector<partial> merged;
  for (const bool last : {false, true}) {
    const kv_view part = d.view().shard(last ? 3000 : 0, 3000);
    logit_options options;
    if (last) options.visible_of = of_last.data();
    functor(d.head.group(options), part, functor.make_index(part), {.seed = 3}, ws);
    for (int h = 0; h < 6; ++h) {
      const partial mine = take_partial(ws, h, 48);
      if (!last) merged.push_back(mine);
      partial copy = mine;
      if (last) merged[static_cast<std::size_t>(h)].view().merge(copy.view());
    }
  }
  const result got = functor.finish(merged, ws);
  for (int h = 0; h < 6; ++h) {
    const auto i = static_cast<std::size_t>(h);
    CAPTURE(h);
    CHECK(got.certificates[i].rows_total == d.sees[i]);
    CHECK(got.certificates[i].rows_sampled > 0);
    CHECK(got.certificates[i].status == status::met);
    CHECK(relative_error(got.output.row(h), want.output.row(h)) <= 0.2);
  }
}

TEST_CASE("an audit compares each position with its own exact answer", "[positions]") {
  const drafted d(3000, 2990);
  const auto plain = presets::uniform_output(epsilon{0.2}, delta{0.1});
  const audited watched(plain, {.every = 1, .group = 6});
  const auto index = watched.make_index(d.view());
  const exact_attention want = reference(d.group(), d.view());
  audit_workspace ws;
  const result got = watched(d.group(), d.view(), index, {.seed = 3}, ws);
  const audit_report report = watched.report();
  for (int h = 0; h < 6; ++h) {
    const audit_row& row = report.rows[static_cast<std::size_t>(h)];
    CAPTURE(h);
    CHECK(row.visible == d.sees[static_cast<std::size_t>(h)]);
    CHECK(row.mean_output_error() ==
          Approx(relative_error(got.output.row(h), want.output.row(h))).epsilon(1e-3));
    CHECK(row.mean_covered() > 0.05);
    CHECK(row.mean_covered() <= 1.0 + 1e-6);
    CHECK(row.mean_attainable() <= 1.0 + 1e-6);
  }
}

TEST_CASE("certificates of a sampled call hold at every position", "[positions]") {
  const drafted d(4000, 4000);
  const exact_attention want = reference(d.group(), d.view());
  const auto functor = presets::standard(epsilon{0.1}, delta{0.1});
  const auto index = functor.make_index(d.view());
  constexpr index_t trials = 150;
  std::vector<index_t> beyond(6, 0);
  workspace ws;
  for (std::uint64_t step = 0; step < trials; ++step) {
    const result got = functor(d.group(), d.view(), index, {.seed = 11, .step = step}, ws);
    for (std::size_t h = 0; h < 6; ++h) {
      REQUIRE(got.certificates[h].status == status::met);
      const auto row = static_cast<index_t>(h);
      const double error = relative_error(got.output.row(row), want.output.row(row));
      beyond[h] += error > got.certificates[h].epsilon + 1e-5 ? 1 : 0;
    }
  }
  for (const index_t count : beyond) {
    const coverage_report report = check_coverage(trials, count, 0.1, 1e-3 / 6);
    INFO(report.message());
    CHECK(report.holds);
  }
}

TEST_CASE("positions allocate nothing, and those that do not fit are refused", "[positions]") {
  drafted d(3000, 3000);
  const auto functor = presets::standard(epsilon{0.2}, delta{0.1});
  const auto index = functor.make_index(d.view());
  workspace ws;
  const owned_result before(functor(d.group(), d.view(), index, {.seed = 3}, ws));
  CHECK(count_allocations([&] { functor(d.group(), d.view(), index, {.seed = 4}, ws); }) == 0);
  CHECK(same(functor(d.group(), d.view(), index, {.seed = 3}, ws), before));
  const auto refuses = [&](const query_group& q, const std::string& got) {
    const std::string why =
        "want each query to see 1 row at least, and no more than are visible (rows, query, "
        "visible), got ";
    CHECK_THROWS_WITH(functor(q, d.view(), index, {}, ws), "vattention: attend: " + why + got);
    CHECK_THROWS_WITH(dense(q, d.view(), ws), "vattention: dense: " + why + got);
  };
  d.sees[4] = 0;
  refuses(d.group(), "0, 4, 3000");
  d.sees[4] = -1;
  refuses(d.group(), "-1, 4, 3000");
  d.sees[4] = 3001;
  refuses(d.group(), "3001, 4, 3000");
  d.sees[4] = 2999;
  query_group q = d.group();
  q.logits.visible_rows = 2998;
  refuses(q, "2999, 1, 2998");
}
