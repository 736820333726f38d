// SPDX-License-Identifier: Apache-2.0
// For the tests of a program that attends: seeded heads, the exact answer, and a verdict on coverage.
// It works with any framework; put `report.holds` and `report.message()` into its assertion.
#include <cstdio>

#include "support/check.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

int main() {
  constexpr double epsilon = 0.1, delta = 0.1;
  constexpr int trials = 200, kinds = 5;
  const auto attend = vattn::presets::standard(vattn::epsilon{epsilon}, vattn::delta{delta});
  vattn::workspace ws;

  const struct {
    const char* name;
    vattn::head_kind kind;
  } heads[kinds] = {{"sharp", vattn::head_kind::sharp},
                    {"mixed", vattn::head_kind::mixed},
                    {"flat", vattn::head_kind::flat},
                    {"power law", vattn::head_kind::power_law},
                    {"log-normal", vattn::head_kind::log_normal}};
  for (const auto& [name, kind] : heads) {
    // What the verdict is about: this head and this query. Only the draws differ from trial to trial.
    const auto head = vattn::make_head(kind, 4096, 64, 64, 1, 7);
    const auto kv = head.view();
    const auto index = attend.make_index(kv);
    const auto exact = vattn::reference(head.group(), kv);
    const auto trial = [&](std::uint64_t seed) {
      const auto r = attend(head.group(), kv, index, {.seed = seed}, ws);
      return vattn::relative_error(r.output, exact.output);
    };
    // A sound program fails one run in a thousand: .001, shared by the five checks.
    const auto report = vattn::run_coverage(trials, delta, epsilon, trial, 1e-3 / kinds);
    std::printf("%-10s %s\n", name, report.message().c_str());
    check(report.holds, "coverage");
  }

  // A check that cannot fail is worth nothing: a fixed sample of 60 rows and no predictor misses.
  const vattn::vattention careless(vattn::base_sampling::uniform(vattn::rows(60), 2),
                                   vattn::budget::fixed(vattn::rows(60), vattn::delta{delta}),
                                   vattn::dynamic_sampling::uniform());
  const auto head = vattn::make_head(vattn::head_kind::sharp, 4096, 64, 64, 1, 7);
  const auto kv = head.view();
  const auto exact = vattn::reference(head.group(), kv);
  const auto report = vattn::run_coverage(trials, delta, epsilon, [&](std::uint64_t seed) {
    const auto r = careless(head.group(), kv, careless.make_index(kv), {.seed = seed}, ws);
    return vattn::relative_error(r.output, exact.output);
  });
  std::printf("%-10s %s\n", "careless", report.message().c_str());
  check(!report.holds, "a careless composition is caught");
}
