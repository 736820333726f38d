// SPDX-License-Identifier: Apache-2.0
// Does an audit of some calls say what is true of all? The coverage it counts is held against a direct
// comparison of every call with the double-precision reference. The seeds are fixed.
#include "vattention/audit/audited.hpp"

#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

struct direct {
  index_t calls = 0, within = 0, bound = 0, audited = 0, audited_within = 0, audited_bound = 0;
  double density = 0.0;
};

/// The denominator's errors of every call, and of the audited ones, by the reference.
template <class Functor>
direct compare(const Functor& watched, const synthetic_head& head, index_t steps) {
  const kv_view kv = head.view();
  const exact_attention exact = reference(head.group(), kv);
  const auto index = watched.make_index(kv);
  const double asked = watched.budget().asked();
  audit_workspace scratch;
  direct d{steps};
  for (index_t step = 0; step < steps; ++step) {
    const draw_key key{.seed = 77, .step = static_cast<std::uint64_t>(step)};
    const result got = watched(head.group(), kv, index, key, scratch);
    const double error = std::fabs(std::expm1(got.log_sum_exp[0] - exact.log_sum_exp[0]));
    const bool within = error <= asked;
    const bool bound = error <= got.certificates[0].epsilon + audit_row::rounding;
    d.within += within;
    d.bound += bound;
    d.density += got.certificates[0].density() / static_cast<double>(steps);
    if (!watched.audits(key)) continue;
    ++d.audited;
    d.audited_within += within;
    d.audited_bound += bound;
  }
  return d;
}

}  // namespace

TEST_CASE("an audit's coverage is the coverage of all calls", "[statistical]") {
  // The paper's budget on a power law misses in about one call of six: something to count.
  const synthetic_head head = make_head(head_kind::power_law, 4096, 64, 64, 1, 3);
  const audited watched(presets::paper(epsilon{0.1}, delta{0.1}, top_k::oracle(fraction(0.02))),
                        {.every = 4});
  const direct d = compare(watched, head, 4000);
  const audit_row row = watched.report().total;
  CHECK(row.calls == d.audited);
  CHECK(row.within_asked == d.audited_within);
  CHECK(row.within_bound == d.audited_bound);
  CHECK(d.audited > 850);
  CHECK(d.audited < 1150);
  const double all = static_cast<double>(d.within) / static_cast<double>(d.calls);
  CAPTURE(all, row.coverage());
  CHECK(all > 0.7);
  CHECK(all < 0.95);
  // 1 - 1e-4 intervals: a fair sample of the calls has their coverage.
  const proportion_interval range = row.coverage_interval(1e-4);
  CHECK(range.lower <= all);
  CHECK(all <= range.upper);
  const proportion_interval bounds = clopper_pearson(row.within_bound, row.claims, 1e-4);
  const double bound = static_cast<double>(d.bound) / static_cast<double>(d.calls);
  CHECK(bounds.lower <= bound);
  CHECK(bound <= bounds.upper);
  CHECK(row.mean_density() == Approx(d.density).epsilon(0.02));
}

TEST_CASE("an audit's interval covers the coverage as often as it says", "[statistical]") {
  // 100 audits of 60 calls each, 90 % intervals, against the rate of all 6000 calls.
  const synthetic_head head = make_head(head_kind::power_law, 2048, 32, 16, 1, 3);
  const auto paper = presets::paper(epsilon{0.1}, delta{0.1}, top_k::oracle(fraction(0.02)));
  const kv_view kv = head.view();
  const auto index = paper.make_index(kv);
  std::vector<audit_row> audits;
  audit_row all;
  audit_workspace scratch;
  for (std::uint64_t sequence = 0; sequence < 100; ++sequence) {
    const audited watched(paper, {.every = 1});
    for (std::uint64_t step = 0; step < 60; ++step)
      static_cast<void>(watched(head.group(), kv, index,
                                {.seed = 78, .sequence = sequence, .step = step}, scratch));
    audits.push_back(watched.report().total);
    all += audits.back();
  }
  index_t missed = 0;
  for (const audit_row& row : audits) {
    const proportion_interval range = row.coverage_interval(0.1);
    missed += !(range.lower <= all.coverage() && all.coverage() <= range.upper);
  }
  CAPTURE(all.coverage());
  CHECK(all.coverage() < 0.97);
  CHECK(missed <= binomial_upper_point(100, 0.1, 1e-4));
}
