// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/diagnosis.hpp"

#include <sstream>

#include "support/catch.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/budget/joint.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;

namespace {

const epsilon tenth{0.1};
const delta miss{0.1};
const top_k::oracle two_percent(fraction(0.02));

template <class TopK, class Budget>
auto composed(TopK top_k, Budget budget, extent base = fraction(0.01)) {
  return vattn::vattention(static_indices::sink_window(32, 64), top_k,
                           base_sampling::uniform(base, 32), budget, dynamic_sampling::uniform());
}

/// What 40 audited calls on one head show.
template <class Functor>
std::vector<finding> findings(const Functor& functor, head_kind kind, index_t n = 4096, int g = 1) {
  const synthetic_head head = make_head(kind, n, 64, 64, g, 3);
  const kv_view kv = head.view();
  const audited watched(functor, {.every = 1, .group = g});
  const auto index = watched.make_index(kv);
  audit_workspace scratch;
  for (std::uint64_t step = 0; step < 40; ++step)
    static_cast<void>(watched(head.group(), kv, index, {.seed = 5, .step = step}, scratch));
  const diagnosis all = diagnose(watched.report());
  CHECK(all.judged == g);
  std::vector<finding> what;
  for (const found& f : all.findings)
    if (f.query == 0) what.push_back(f.what);
  return what;
}

using list = std::vector<finding>;

}  // namespace

TEST_CASE("the default composition is healthy on every head", "[diagnosis]") {
  for (const head_kind kind : {head_kind::sharp, head_kind::mixed, head_kind::flat,
                               head_kind::power_law, head_kind::log_normal, head_kind::missed_key})
    for (const double asked : {0.1, 0.3}) {
      CAPTURE(static_cast<int>(kind), asked);
      const auto functor = presets::uniform_output(epsilon{asked}, miss);
      CHECK(findings(functor, kind, 4096).empty());
      CHECK(findings(functor, kind, 8192, 4).empty());
      CHECK(findings(functor, kind, 1500).empty());
    }
}

TEST_CASE("a predictor that fails is found by the mass it leaves", "[diagnosis]") {
  const budget::output output(tenth, miss);
  const top_k::sign_hash signs(32, fraction(0.02));
  // Heavy rows in plain sight, or hidden: promises break with the recall.
  CHECK(findings(composed(signs, output), head_kind::sharp, 8192) ==
        list{finding::recall_failing, finding::promise_broken});
  CHECK(findings(composed(signs, output), head_kind::missed_key, 8192) ==
        list{finding::recall_failing, finding::promise_broken});
  CHECK(findings(composed(top_k::none(), output), head_kind::missed_key, 8192) ==
        list{finding::recall_failing, finding::promise_broken});
  // Many heavy rows: the sample notices, the promise is kept, and paid for.
  CHECK(findings(composed(top_k::none(), output), head_kind::mixed) ==
        list{finding::low_sparsity, finding::recall_failing});
  // On a flat head there is nothing to recall.
  CHECK(findings(composed(top_k::none(), output), head_kind::flat).empty());
  CHECK(findings(composed(signs, output), head_kind::flat).empty());
}

TEST_CASE("low sparsity at a high epsilon", "[diagnosis]") {
  CHECK(findings(composed(two_percent, budget::joint(tenth, miss)), head_kind::flat) ==
        list{finding::low_sparsity});
  // The same rows for an epsilon that is not high are no finding.
  CHECK(
      findings(composed(two_percent, budget::joint(epsilon{0.09}, miss)), head_kind::flat).empty());
}

TEST_CASE("the denominator's epsilon says nothing of the output's error", "[diagnosis]") {
  for (const head_kind kind : {head_kind::flat, head_kind::log_normal})
    CHECK(findings(composed(two_percent, budget::clt(tenth, miss)), kind) ==
          list{finding::output_not_covered});
  CHECK(findings(composed(top_k::none(), budget::clt(tenth, miss)), head_kind::missed_key) ==
        list{finding::recall_failing, finding::promise_broken});
}

TEST_CASE("errors far below epsilon", "[diagnosis]") {
  CHECK(findings(composed(two_percent, budget::joint(epsilon{0.4}, miss)), head_kind::log_normal) ==
        list{finding::error_far_below});
  // A base sample of a fifth, or of more than half: then everything is read without a sample.
  const budget::output output(epsilon{0.3}, miss);
  for (const double base : {0.2, 0.6})
    CHECK(findings(composed(two_percent, output, fraction(base)), head_kind::sharp) ==
          list{finding::base_sample_too_large});
}

TEST_CASE("too few calls are not judged", "[diagnosis]") {
  audit_report report;
  report.rows.resize(3);
  report.rows[0].calls = report.rows[0].claims = 29;
  report.rows[1].calls = report.rows[1].claims = 30;
  report.delta = report.epsilon_asked = 0.1;
  const diagnosis all = diagnose(report, {.calls = 30});
  CHECK(all.judged == 1);
  CHECK(all.too_few == 1);
  REQUIRE(all.findings.size() == 1);
  CHECK(all.findings[0].what == finding::promise_broken);
  CHECK(all.findings[0].seen == 1.0);
  CHECK(all.findings[0].threshold == 0.1);
  CHECK_FALSE(all.healthy());
  CHECK_FALSE(diagnose(audit_report{}).healthy());
}

TEST_CASE("just keeping the promise is no finding, whatever the number of heads", "[diagnosis]") {
  audit_report report;
  report.delta = report.epsilon_asked = 0.1;
  audit_row row;
  row.calls = row.claims = 100;
  row.within_asked = 80;  // P(20 or more of 100) is .002 at delta .1
  report.rows = {row};
  CHECK(diagnose(report).healthy());
  CHECK(diagnose(report, {.false_alarm = 0.01}).findings.size() == 1);
  report.rows.assign(100, row);
  CHECK(diagnose(report, {.false_alarm = 0.01}).healthy());
}

TEST_CASE("without an asked epsilon only the recall is judged", "[diagnosis]") {
  CHECK(findings(composed(two_percent, budget::fixed(rows(200))), head_kind::power_law).empty());
  CHECK(findings(composed(top_k::none(), budget::fixed(rows(200))), head_kind::power_law) ==
        list{finding::recall_failing});
}

TEST_CASE("a diagnosis prints a finding a line with its advice", "[diagnosis]") {
  diagnosis all;
  all.judged = 4;
  all.findings.push_back({finding::recall_failing, 1, 2, 3, 0.5, 0.1});
  std::ostringstream out;
  std::ostringstream want;
  out << all;
  want << "layer 1, KV head 2, query 3: recall_failing (0.5 against 0.1): "
       << advice(finding::recall_failing)
       << "\n1 findings on 4 heads judged; 0 heads with too few calls\n";
  CHECK(out.str() == want.str());
}
