// SPDX-License-Identifier: Apache-2.0
// Errors measured in values or in their own unit, and bounds reached under a limit: each (head, query) keeps
// its promise, judged by the binomial point of delta = .1 at a false-alarm rate of 1e-3 for all verdicts of a
// test together. The seeds are fixed.
#include "support/catch.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

constexpr head_kind kinds[] = {head_kind::sharp, head_kind::mixed, head_kind::flat,
                               head_kind::power_law, head_kind::log_normal};
constexpr index_t trials = 60;

double rms_of_values(const synthetic_head& head) {
  return std::sqrt(head.values.cast<double>().squaredNorm() /
                   static_cast<double>(head.values.rows()));
}

/// Errors ||o^ - o|| in units of `unit(head, exact, query)`, beyond the certificate's own bound.
template <class Make, class Unit>
void check_own_bounds(Make make, Unit unit) {
  for (const head_kind kind : kinds) {
    const synthetic_head head = make_head(kind, 6000, 64, 48, 2, 11);
    const exact_attention want = reference(head.group(), head.view());
    const auto functor = make(head);
    const auto index = functor.make_index(head.view());
    index_t beyond[2] = {};
    workspace ws;
    for (std::uint64_t seed = 0; seed < static_cast<std::uint64_t>(trials); ++seed) {
      const result got = functor(head.group(), head.view(), index, {.seed = 9, .step = seed}, ws);
      for (index_t h = 0; h < 2; ++h) {
        const certificate& c = got.certificates[static_cast<std::size_t>(h)];
        const double off = (got.output.row(h).cast<double>() - want.output.row(h)).norm();
        beyond[h] += !(off <= (c.epsilon + 1e-5) * unit(head, want, h));
      }
    }
    for (const index_t count : beyond) {
      const coverage_report report = check_coverage(trials, count, 0.1, 1e-3 / 40.0);
      INFO(report.message());
      CHECK(report.holds);
    }
  }
}

}  // namespace

TEST_CASE("errors relative to the values' root mean square norm", "[statistical]") {
  const auto unit = [](const synthetic_head& head, const exact_attention&, index_t) {
    return rms_of_values(head);
  };
  check_own_bounds(
      [](const synthetic_head&) { return presets::standard(epsilon_of_values{0.05}, delta{0.1}); },
      unit);
  check_own_bounds(
      [](const synthetic_head&) {
        return presets::strict_output(epsilon_of_values{0.1}, delta{0.1});
      },
      unit);
}

TEST_CASE("absolute errors", "[statistical]") {
  check_own_bounds(
      [](const synthetic_head& head) {
        return presets::standard(absolute_error{0.05 * rms_of_values(head)}, delta{0.1});
      },
      [](const synthetic_head&, const exact_attention&, index_t) { return 1.0; });
}

TEST_CASE("bounds reached under a limit", "[statistical]") {
  check_own_bounds(
      [](const synthetic_head&) { return presets::within(at_most(fraction(0.1)), delta{0.1}); },
      [](const synthetic_head&, const exact_attention& want, index_t h) {
        return want.output.row(h).norm();
      });
}
