// SPDX-License-Identifier: Apache-2.0
#include "vattention/ledger/ledgered.hpp"

#include <thread>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/attend.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

const synthetic_head model = make_head(head_kind::power_law, 3000, 64, 48, 2, 5);
const auto make = [](epsilon e, delta d) { return presets::uniform_output(e, d); };

/// Claims a proof, to see what a ledger makes of it.
struct claimed_budget : budget::output<> {
  using budget::output<>::output;
  basis coverage() const noexcept { return basis::proved; }
};
struct claimed_top_k : top_k::oracle {
  using top_k::oracle::oracle;
  basis coverage() const noexcept { return basis::proved; }
};

template <class Functor>
void run(const Functor& functor, int steps, typename Functor::workspace_type& ws) {
  const kv_view kv = model.view();
  const auto index = functor.make_index(kv);
  for (int step = 0; step < steps; ++step)
    static_cast<void>(functor(model.group(), kv, index,
                              {.seed = 2, .step = static_cast<std::uint64_t>(step)}, ws));
}

}  // namespace

TEST_CASE("each certificate gets an even share of delta", "[ledgered]") {
  const ledgered functor(epsilon{0.2}, delta{0.1}, {.layers = 3, .query_heads = 2, .steps = 10},
                         make);
  CHECK(functor.budget().asked() == 0.2);
  CHECK(functor.budget().delta() == 0.1 / 60);
  CHECK(functor.top_k().coverage() == basis::measured_per_row);
  workspace ws;
  const kv_view kv = model.view();
  const auto index = functor.make_index(kv);
  const result got = functor(model.group(), kv, index, {.seed = 2}, ws);
  CHECK(got.certificates[0].delta == 0.1 / 60);
  const auto direct = presets::uniform_output(epsilon{0.2}, delta{0.1 / 60});
  workspace other;
  CHECK(got.output == direct(model.group(), kv, index, {.seed = 2}, other).output);
  CHECK(functor.report().issued == 2);
  CHECK(functor.report().spent == 2);
  CHECK(functor.report().weakest == basis::measured_per_row);
  CHECK_FALSE(functor.report().proved());
  CHECK(functor.report().expected_violations() == Approx(0.1 / 30));
}

TEST_CASE("a call that is refused spends nothing", "[ledgered]") {
  const ledgered functor(epsilon{0.2}, delta{0.1}, {.query_heads = 2, .steps = 3}, make);
  workspace ws;
  const kv_view kv = model.view();
  const auto index = functor.make_index(kv);
  query_group bad = model.group();
  bad.dim = 63;
  CHECK_THROWS_AS(functor(bad, kv, index, {}, ws), std::invalid_argument);
  bad.heads = -5;
  CHECK_THROWS_AS(functor(bad, kv, index, {}, ws), std::invalid_argument);
  CHECK(functor.report().spent == 0);
  run(functor, 3, ws);
  const owned_result last(functor.functor()(model.group(), kv, index, {.seed = 2, .step = 2}, ws));
  CHECK_THROWS_AS(functor(model.group(), kv, index, {.seed = 3}, ws), ledger_exhausted);
  CHECK(functor.report().spent == 6);
  CHECK(functor.report().issued == 6);
  // The workspace still holds the result before.
  CHECK(result(ws, 2, 48).output == last.output);
}

TEST_CASE("exact certificates are free", "[ledgered]") {
  const ledgered functor(epsilon{0.001}, delta{0.1}, {.query_heads = 2, .steps = 1}, make);
  workspace ws;
  run(functor, 5, ws);
  CHECK(functor.report().issued == 10);
  CHECK(functor.report().exact == 10);
  CHECK(functor.report().spent == 0);
  CHECK(functor.report().proved());
  CHECK(functor.report().spent_delta() == 0.0);
}

TEST_CASE("proved certificates add up to a proved total", "[ledgered]") {
  const ledgered functor(
      epsilon{0.3}, delta{0.1}, {.query_heads = 2, .steps = 100}, [](epsilon e, delta d) {
        return vattn::vattention(claimed_top_k(fraction(0.02)),
                                 base_sampling::uniform(rows(100), 32), claimed_budget(e, d),
                                 dynamic_sampling::uniform());
      });
  workspace ws;
  run(functor, 4, ws);
  const ledger_report r = functor.report();
  CHECK(r.weakest == basis::proved);
  CHECK(r.proved());
  CHECK(r.spent_delta() == Approx(8 * 0.1 / 200));
}

TEST_CASE("a functor that ignores its share is refused", "[ledgered]") {
  const auto careless = [](epsilon e, delta) { return presets::uniform_output(e, delta{0.1}); };
  CHECK_THROWS_WITH(ledgered(epsilon{0.2}, delta{0.1}, delta_plan{.steps = 10}, careless),
                    "vattention: ledgered: want a functor built with its share of delta "
                    "(functor's, share), got 0.1, 0.01");
  CHECK_THROWS_AS(ledgered(epsilon{0.2}, delta{0.1}, delta_plan{.steps = 0}, make),
                  std::invalid_argument);
}

TEST_CASE("merged partial results spend once", "[ledgered]") {
  const ledgered functor(epsilon{0.2}, delta{0.1}, {.query_heads = 2, .steps = 1}, make);
  workspace ws;
  const kv_view kv = model.view();
  std::vector<partial> parts;
  static_cast<void>(functor.functor()(model.group(), kv, functor.make_index(kv), {.seed = 2}, ws));
  for (int h = 0; h < 2; ++h) parts.push_back(take_partial(ws, h, 48));
  CHECK(functor.finish(parts, ws).certificates.size() == 2);
  CHECK(functor.report().spent == 2);
  CHECK_THROWS_AS(functor.finish(parts, ws), ledger_exhausted);
}

TEST_CASE("threads share a ledger", "[ledgered]") {
  const ledgered functor(epsilon{0.2}, delta{0.1}, {.query_heads = 2, .steps = 20}, make);
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  threads.reserve(3);
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&] {
      workspace ws;
      try {
        run(functor, 21, ws);
      } catch (const ledger_exhausted&) {
        ++refused;
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK(functor.report().spent == 40);
  CHECK(functor.report().issued == 40);
  CHECK(refused == 3);
}

TEST_CASE("a ledger allocates nothing in a steady state", "[ledgered]") {
  const ledgered functor(epsilon{0.2}, delta{0.1}, {.query_heads = 2, .steps = 20}, make);
  workspace ws;
  const kv_view kv = model.view();
  const auto index = functor.make_index(kv);
  static_cast<void>(functor(model.group(), kv, index, {.step = 0}, ws));
  CHECK(count_allocations(
            [&] { static_cast<void>(functor(model.group(), kv, index, {.step = 1}, ws)); }) == 0);
}

TEST_CASE("an audit inside a ledger", "[ledgered]") {
  const ledgered both(epsilon{0.2}, delta{0.1}, {.query_heads = 2, .steps = 3},
                      [](epsilon e, delta d) {
                        return audited(presets::uniform_output(e, d), {.every = 1, .group = 2});
                      });
  audit_workspace ws;
  run(both, 3, ws);
  CHECK_THROWS_AS(run(both, 1, ws), ledger_exhausted);
  CHECK(both.report().spent == 6);
  CHECK(both.functor().report().total.calls == 6);
  CHECK(both.functor().report().delta == 0.1 / 6);
}

TEST_CASE("what is asked of a ledger's functor may be in any unit, or a limit", "[ledgered]") {
  const delta_plan plan{.layers = 1, .query_heads = 2, .steps = 5};
  const ledgered of_values(epsilon_of_values{0.1}, delta{0.1}, plan, presets::standard);
  const ledgered limited(at_most(fraction(0.3)), delta{0.1}, plan, presets::within);
  workspace ws;
  run(of_values, 2, ws);
  CHECK(ws.certificates[0].scale == error_scale::values);
  CHECK(of_values.report().spent == 4);
  run(limited, 2, ws);
  CHECK(ws.certificates[1].status == status::no_target);
  CHECK(ws.certificates[1].delta == 0.01);
  CHECK(limited.report().spent == 4);
}
