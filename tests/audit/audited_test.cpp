// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/audited.hpp"

#include <algorithm>
#include <functional>
#include <sstream>
#include <thread>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/attend.hpp"
#include "vattention/ledger/ledgered.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

const auto plain = presets::uniform_output(epsilon{0.1}, delta{0.1});
const synthetic_head model = make_head(head_kind::power_law, 3000, 64, 48, 2, 5);

draw_key at(std::uint32_t layer, std::uint32_t head, std::uint64_t step) {
  return {.seed = 9, .sequence = 1, .layer = layer, .head = head, .step = step};
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const std::invalid_argument& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("an audited call returns the functor's bits", "[audited]") {
  const kv_view kv = model.view();
  const auto index = plain.make_index(kv);
  const audited watched(plain, {.every = 1, .group = 2});
  workspace ws;
  audit_workspace scratch;
  for (std::uint64_t step = 0; step < 4; ++step) {
    const owned_result want(plain(model.group(), kv, index, at(0, 0, step), ws));
    const result got = watched(model.group(), kv, watched.make_index(kv), at(0, 0, step), scratch);
    CHECK(got.output == want.output);
    CHECK(got.log_sum_exp[1] == want.log_sum_exp[1]);
    CHECK(got.certificates[1].epsilon == want.certificates[1].epsilon);
    CHECK(got.output.data() == scratch.call.output.data());
  }
  CHECK(watched.report().total.calls == 8);
}

TEST_CASE("an audit counts what a direct comparison finds", "[audited]") {
  const kv_view kv = model.view();
  const auto paper = presets::paper(epsilon{0.1}, delta{0.1}, top_k::oracle(fraction(0.02)));
  const audited watched(paper, {.every = 3, .layers = 2, .kv_heads = 2, .group = 2});
  const auto index = watched.make_index(kv);
  const exact_attention exact = reference(model.group(), kv);
  audit_workspace scratch;
  index_t calls = 0, output_within = 0, denominator_within = 0;
  double sum = 0.0, largest = 0.0;
  for (std::uint64_t step = 0; step < 60; ++step) {
    const result got = watched(model.group(), kv, index, at(1, 0, step), scratch);
    if (!watched.audits(at(1, 0, step))) continue;
    const double error = relative_error(got.output.row(1), exact.output.row(1));
    ++calls;
    output_within += error <= 0.1;
    denominator_within += std::fabs(std::expm1(got.log_sum_exp[1] - exact.log_sum_exp[1])) <= 0.1;
    sum += error;
    largest = std::max(largest, error);
  }
  const audit_report report = watched.report();
  REQUIRE(report.rows.size() == 8);
  const audit_row& row = report.rows[(1 * 2 + 0) * 2 + 1];
  CHECK(row.layer == 1);
  CHECK(row.kv_head == 0);
  CHECK(row.query == 1);
  CHECK(calls > 10);
  CHECK(calls < 30);
  CHECK(row.calls == calls);
  CHECK(row.within_asked == denominator_within);
  CHECK(row.output_within_asked == output_within);
  CHECK(row.mean_output_error() == Approx(sum / static_cast<double>(calls)).epsilon(1e-4));
  CHECK(row.largest_output_error == Approx(largest).epsilon(1e-4));
  CHECK(report.rows[0].calls == 0);
  CHECK(report.total.calls == 2 * calls);
  CHECK(report.epsilon_asked == 0.1);
  CHECK(report.delta == 0.1);
  CHECK(report.quantity == quantity::denominator);
  CHECK(report.every == 3);
}

TEST_CASE("masses are those of the rows read exactly", "[audited]") {
  const kv_view kv = model.view();
  const vattn::vattention oracle(top_k::oracle(rows(60)), base_sampling::uniform(rows(40), 32),
                                 budget::output(epsilon{0.1}, delta{0.1}),
                                 dynamic_sampling::uniform());
  const audited watched(oracle, {.every = 1});
  const query_group first(model.queries.data(), 1, 64);
  audit_workspace scratch;
  static_cast<void>(watched(first, kv, watched.make_index(kv), at(0, 0, 1), scratch));
  Eigen::VectorXd weights = softmax_weights(first, kv, 0);
  std::sort(weights.begin(), weights.end(), std::greater<>());
  const audit_row row = watched.report().total;
  CHECK(row.mean_covered() == Approx(weights.head(60).sum()).epsilon(1e-4));
  CHECK(row.mean_attainable() == Approx(weights.head(60).sum()).epsilon(1e-4));
}

TEST_CASE("masked rows are neither covered nor attainable", "[audited]") {
  std::vector<float> bias(3000, 0.0F);
  for (std::size_t i = 0; i < 1500; ++i) bias[2 * i] = -std::numeric_limits<float>::infinity();
  logit_options options;
  options.bias = bias.data();
  const audited watched(plain, {.every = 1, .group = 2});
  audit_workspace scratch;
  const kv_view kv = model.view();
  const result got =
      watched(model.group(options), kv, watched.make_index(kv), at(0, 0, 1), scratch);
  CHECK(got.certificates[0].rows_total == 1500);
  const audit_row row = watched.report().total;
  CHECK(row.visible == 3000);
  CHECK(row.within_asked == 2);
  CHECK(row.mean_covered() > 0.3);
  CHECK(row.mean_covered() <= 1.0);
  CHECK(row.mean_attainable() <= 1.0);
}

TEST_CASE("which calls are audited is in the key alone", "[audited]") {
  const audited watched(plain, {.every = 16, .layers = 4, .kv_heads = 4});
  index_t audited_calls = 0;
  for (std::uint32_t layer = 0; layer < 4; ++layer)
    for (std::uint32_t head = 0; head < 4; ++head)
      for (std::uint64_t step = 0; step < 1000; ++step)
        audited_calls += watched.audits(at(layer, head, step));
  CHECK(audited_calls > 850);  // 1000 +- 31
  CHECK(audited_calls < 1150);
  CHECK(audited(plain, {.every = 16}).audits(at(0, 0, 7)) == watched.audits(at(0, 0, 7)));
  CHECK_FALSE(audited(plain, {.every = 0}).audits(at(0, 0, 7)));
  CHECK(audited(plain, {.every = 1}).audits(at(0, 0, 7)));
}

TEST_CASE("threads in any order make the same report", "[audited]") {
  const kv_view kv = model.view();
  const auto run = [&](int thread_count) {
    const audited watched(plain, {.every = 2, .layers = 2, .kv_heads = 3, .group = 2});
    const auto index = watched.make_index(kv);
    std::atomic<std::uint32_t> next{0};
    const auto work = [&] {
      audit_workspace scratch;
      for (std::uint32_t i = next++; i < 48; i = next++)
        static_cast<void>(watched(model.group(), kv, index, at(i % 2, i / 2 % 3, i / 6), scratch));
    };
    std::vector<std::thread> threads;
    threads.reserve(static_cast<std::size_t>(thread_count));
    for (int t = 0; t < thread_count; ++t) threads.emplace_back(work);
    for (std::thread& thread : threads) thread.join();
    std::ostringstream out;
    out.precision(17);
    out << watched.report() << watched.report().total.output_error;
    return out.str();
  };
  const std::string alone = run(1);
  CHECK(alone.find("all heads") != std::string::npos);
  CHECK(run(4) == alone);
}

TEST_CASE("a head beyond the plan is refused before anything happens", "[audited]") {
  const kv_view kv = model.view();
  const audited watched(plain, {.every = 1, .layers = 2, .kv_heads = 3, .group = 2});
  const auto index = watched.make_index(kv);
  audit_workspace scratch;
  const auto call = [&](draw_key key, const query_group& q) {
    return refusal([&] { static_cast<void>(watched(q, kv, index, key, scratch)); });
  };
  CHECK(call(at(2, 0, 0), model.group()) ==
        "vattention: audited: want a layer of the plan (layer, planned), got 2, 2");
  CHECK(call(at(0, 3, 0), model.group()) ==
        "vattention: audited: want a KV head of the plan (head, planned), got 3, 3");
  const synthetic_head wide = make_head(head_kind::flat, 10, 64, 4, 3, 1);
  CHECK(call(at(0, 0, 0), wide.group()).find("query heads") != std::string::npos);
  query_group short_query = model.group();
  short_query.dim = 63;
  CHECK(call(at(0, 0, 0), short_query).find("attend") != std::string::npos);
  CHECK(watched.report().total.calls == 0);
  CHECK(refusal([] { audited(plain, {.every = -1}); }).find("every >= 0") != std::string::npos);
  CHECK(refusal([] { audited(plain, {.every = 1, .layers = 0}); }).find("layers") !=
        std::string::npos);
}

TEST_CASE("an audit that is off is the functor and touches nothing", "[audited]") {
  const kv_view kv = model.view();
  const audited off(plain, {});
  const auto index = off.make_index(kv);
  audit_workspace scratch;
  static_cast<void>(off(model.group(), kv, index, at(7, 9, 0), scratch));  // beyond any plan
  CHECK(count_allocations(
            [&] { static_cast<void>(off(model.group(), kv, index, at(7, 9, 1), scratch)); }) == 0);
  CHECK(scratch.exact.exact.universe() == 0);
  CHECK(off.report().rows.empty());
  CHECK(off.report().total.calls == 0);
}

TEST_CASE("an audited call allocates nothing once its workspaces have grown", "[audited]") {
  const random_cache c(
      {.rows = 3000, .dim = 96, .value_dim = 80, .heads = 4, .keys = element::f16});
  const audited watched(plain, {.every = 1, .group = 4});
  const kv_view kv = c.view();
  const auto index = watched.make_index(kv);
  audit_workspace scratch;
  static_cast<void>(watched(c.group(), kv, index, at(0, 0, 0), scratch));
  for (std::uint64_t step = 1; step < 4; ++step)
    CHECK(count_allocations([&] {
            static_cast<void>(watched(c.group(), kv, index, at(0, 0, step), scratch));
          }) == 0);
}

TEST_CASE("a NaN claims nothing and is no miss", "[audited]") {
  random_cache c({.rows = 1500, .dim = 32, .value_dim = 16, .heads = 1});
  c.keys(777, 5) = std::nanf("");
  c.store();
  const audited watched(plain, {.every = 1});
  const kv_view kv = c.view();
  audit_workspace scratch;
  static_cast<void>(watched(c.group(), kv, watched.make_index(kv), at(0, 0, 0), scratch));
  const audit_row row = watched.report().total;
  CHECK(row.calls == 1);
  CHECK(row.count(status::non_finite) == 1);
  CHECK(row.claims == 0);
  CHECK(row.weighed == 0);
}

TEST_CASE("the functor's members pass through", "[audited]") {
  const audited watched(plain, {.every = 4, .group = 2});
  CHECK(watched.budget().asked() == 0.1);
  CHECK(watched.top_k().coverage() == plain.top_k().coverage());
  CHECK(watched.plan().every == 4);
  CHECK(&watched.budget() == &watched.functor().budget());
  const kv_view kv = model.view();
  const auto index = watched.make_index(kv);
  workspace ws;
  std::vector<partial> parts;
  static_cast<void>(plain(model.group(), kv, index, at(0, 0, 3), ws));
  parts.push_back(take_partial(ws, 0, 48));
  audit_workspace scratch;
  CHECK(watched.finish(parts, scratch).certificates[0].rows_total == 3000);
  CHECK(watched.report().total.calls == 0);
}

TEST_CASE("a ledger inside an audit", "[audited]") {
  const audited both(ledgered(epsilon{0.1}, delta{0.1}, {.layers = 1, .query_heads = 2, .steps = 3},
                              [](epsilon e, delta d) { return presets::uniform_output(e, d); }),
                     {.every = 1, .group = 2});
  const kv_view kv = model.view();
  const auto index = both.make_index(kv);
  audit_workspace scratch;
  for (std::uint64_t step = 0; step < 3; ++step)
    static_cast<void>(both(model.group(), kv, index, at(0, 0, step), scratch));
  CHECK_THROWS_AS(both(model.group(), kv, index, at(0, 0, 3), scratch), ledger_exhausted);
  CHECK(both.report().total.calls == 6);
  CHECK(both.report().delta == Approx(0.1 / 6));
  CHECK(both.functor().report().issued == 6);
}
