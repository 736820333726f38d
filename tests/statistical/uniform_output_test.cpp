// SPDX-License-Identifier: Apache-2.0
// Does the default composition keep its promise, head by head? Each (head, epsilon) is judged by its own
// 200 seeds: at most the binomial point of delta = .1 at a false-alarm rate of 1e-3 for all cells together
// (if every head just kept the promise; in fact they are far below it). The seeds are fixed.
#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

constexpr head_kind all_kinds[] = {head_kind::sharp,      head_kind::mixed,
                                   head_kind::flat,       head_kind::power_law,
                                   head_kind::log_normal, head_kind::missed_key};
constexpr double miss = 0.1;
constexpr index_t trials = 200;

/// Calls with `trials` seeds; counts, for each query head, errors beyond the asked epsilon, errors beyond
/// the certificate's own bound, and certificates that claim the asked epsilon wrongly.
struct tally {
  std::vector<index_t> beyond_asked, beyond_bound, wrong;
  double density = 0.0;

  template <class Functor>
  tally(const Functor& functor, const query_group& q, const kv_view& kv) {
    const exact_attention want = reference(q, kv);
    const auto index = functor.make_index(kv);
    const double asked = functor.budget().asked();
    workspace ws;
    for (auto* counts : {&beyond_asked, &beyond_bound, &wrong})
      counts->assign(static_cast<std::size_t>(q.heads), 0);
    for (std::uint64_t seed = 0; seed < trials; ++seed) {
      const result got = functor(q, kv, index, {.seed = 400, .step = seed}, ws);
      for (int h = 0; h < q.heads; ++h) {
        const auto i = static_cast<std::size_t>(h);
        const certificate& c = got.certificates[i];
        const double error = relative_error(got.output.row(h), want.output.row(h));
        beyond_asked[i] += !(error <= asked);
        beyond_bound[i] += !(error <= c.epsilon + 1e-5);
        wrong[i] += c.holds() && !(error <= asked);
        density += c.density() / static_cast<double>(trials * q.heads);
      }
    }
  }

  /// `cells` verdicts are given in all, three of each cell.
  void check(int cells) const {
    for (const auto* counts : {&beyond_asked, &beyond_bound, &wrong})
      for (const index_t count : *counts) {
        const coverage_report report = check_coverage(trials, count, miss, 1e-3 / (3 * cells));
        INFO(report.message());
        CHECK(report.holds);
      }
  }
};

}  // namespace

TEST_CASE("the default covers on every synthetic head", "[statistical]") {
  for (const head_kind kind : all_kinds)
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      const synthetic_head head = make_head(kind, 4096, 64, 64, 1, seed);
      for (const double asked : {0.1, 0.3}) {
        CAPTURE(static_cast<int>(kind), seed, asked);
        const auto functor = presets::uniform_output(epsilon{asked}, delta{miss});
        const tally counts(functor, head.group(), head.view());
        counts.check(36);
        CHECK(counts.density < 0.4);
      }
    }
}

TEST_CASE("the default covers for each query of a group", "[statistical]") {
  for (const head_kind kind : all_kinds) {
    CAPTURE(static_cast<int>(kind));
    const synthetic_head head = make_head(kind, 4096, 64, 48, 4, 9);
    const auto functor = presets::uniform_output(epsilon{0.2}, delta{miss});
    tally(functor, head.group(), head.view()).check(24);
  }
}

TEST_CASE("the output certificate covers at delta .2 and .5 and with a small base",
          "[statistical]") {
  for (const head_kind kind : all_kinds)
    for (const double share : {0.2, 0.5}) {
      CAPTURE(static_cast<int>(kind), share);
      const synthetic_head head = make_head(kind, 4096, 64, 32, 1, 5);
      const vattn::vattention functor(
          static_indices::sink_window(32, 64), top_k::oracle(fraction(0.02)),
          base_sampling::uniform(rows(20)), budget::output(epsilon{0.2}, delta{share}),
          dynamic_sampling::uniform());
      const tally counts(functor, head.group(), head.view());
      CHECK(check_coverage(trials, counts.wrong[0], share, 1e-4).holds);
      CHECK(check_coverage(trials, counts.beyond_bound[0], share, 1e-4).holds);
    }
}

TEST_CASE("merged shards cover as the whole does", "[statistical]") {
  for (const head_kind kind : {head_kind::flat, head_kind::power_law}) {
    CAPTURE(static_cast<int>(kind));
    const synthetic_head head = make_head(kind, 6000, 64, 32, 1, 6);
    const exact_attention want = reference(head.group(), head.view());
    const auto functor = presets::uniform_output(epsilon{0.3}, delta{miss});
    const kv_view shards[2] = {head.view().shard(0, 3500), head.view().shard(3500, 2500)};
    const auto first = functor.make_index(shards[0]);
    const auto second = functor.make_index(shards[1]);
    workspace ws;
    const coverage_report report = run_coverage(trials, miss, 0.0, [&](std::uint64_t seed) {
      static_cast<void>(functor(head.group(), shards[0], first, {seed}, ws));
      std::vector<partial> whole{take_partial(ws, 0, 32)};
      static_cast<void>(functor(head.group(), shards[1], second, {seed}, ws));
      partial rest = take_partial(ws, 0, 32);
      whole[0].view().merge(rest.view());
      const result got = functor.finish(whole, ws);
      return relative_error(got.output.row(0), want.output.row(0)) - got.certificates[0].epsilon;
    });
    INFO(report.message());
    CHECK(report.holds);
  }
}
