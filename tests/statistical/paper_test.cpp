// SPDX-License-Identifier: Apache-2.0
// What the paper's certificates are worth: the denominator's normal bound and theorem 4.3, with oracle
// top-k 2 %. Each cell is judged by its own seeds at a false-alarm rate of 1e-4. The seeds are fixed.
#include "support/catch.hpp"
#include "vattention/budget/joint.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

struct tally {
  index_t trials = 0;
  /// |D^ - D| > epsilon D; the same with a status that vouches for it; outputs beyond epsilon; outputs
  /// beyond epsilon with such a status.
  index_t denominator = 0, denominator_wrong = 0, output = 0, output_wrong = 0;
};

template <class Functor>
tally count(const Functor& functor, const synthetic_head& head, index_t trials) {
  const exact_attention want = reference(head.group(), head.view());
  const auto index = functor.make_index(head.view());
  const double asked = functor.budget().asked();
  workspace ws;
  tally t{trials};
  for (index_t step = 0; step < trials; ++step) {
    const result got = functor(head.group(), head.view(), index,
                               {.seed = 31, .step = static_cast<std::uint64_t>(step)}, ws);
    const bool vouched = got.certificates[0].holds();
    const double d = std::fabs(std::expm1(got.log_sum_exp[0] - want.log_sum_exp[0]));
    const double o = relative_error(got.output.row(0), want.output.row(0));
    t.denominator += d > asked;
    t.denominator_wrong += vouched && d > asked;
    t.output += o > asked;
    t.output_wrong += vouched && o > asked;
  }
  return t;
}

auto paper(double asked) {
  return presets::paper(epsilon{asked}, delta{0.1}, top_k::oracle(fraction(0.02)));
}

}  // namespace

TEST_CASE("the paper's denominator certificate covers on benign heads", "[statistical]") {
  for (const head_kind kind : {head_kind::sharp, head_kind::mixed, head_kind::flat})
    for (const double asked : {0.02, 0.1}) {
      CAPTURE(static_cast<int>(kind), asked);
      const tally t = count(paper(asked), make_head(kind, 4096, 64, 64, 1, 3), 300);
      const coverage_report report = check_coverage(t.trials, t.denominator, 0.1, 1e-4);
      INFO(report.message());
      CHECK(report.holds);
    }
}

TEST_CASE("on heavy tails the paper's budget misses more than delta", "[statistical]") {
  // Sigma from a base sample of 40 rows does not know of the heavy rows that it has not met: about one
  // call in five is off by more than epsilon, twice delta. The certificate, judged anew from the whole
  // sample, vouches for about half of the calls and is still wrong in more than delta of the calls at
  // epsilon .1 on some heads. Hence its basis, measured_on_average.
  const auto functor = paper(0.1);
  CHECK(functor.budget().coverage() == basis::measured_on_average);
  const tally t = count(functor, make_head(head_kind::power_law, 4096, 64, 64, 1, 3), 1000);
  CHECK_FALSE(check_coverage(t.trials, t.denominator, 0.1, 1e-4).holds);
  CHECK(t.denominator < 300);
  CHECK(t.denominator_wrong < t.denominator * 3 / 4);
}

TEST_CASE("a certified denominator says nothing of the output", "[statistical]") {
  const tally t = count(paper(0.1), make_head(head_kind::flat, 4096, 64, 64, 1, 3), 200);
  CHECK(t.denominator_wrong == 0);
  CHECK(t.output > 180);
}

TEST_CASE("theorem 4.3 covers the output", "[statistical]") {
  for (const head_kind kind :
       {head_kind::sharp, head_kind::mixed, head_kind::flat, head_kind::power_law,
        head_kind::log_normal, head_kind::missed_key}) {
    const double asked = kind == head_kind::sharp ? 0.1 : 0.4;
    CAPTURE(static_cast<int>(kind), asked);
    const vattn::vattention functor(
        static_indices::sink_window(32, 64), top_k::oracle(fraction(0.02)),
        base_sampling::uniform(fraction(0.01)), budget::joint(epsilon{asked}, delta{0.1}),
        dynamic_sampling::uniform());
    const tally t = count(functor, make_head(kind, 4096, 64, 64, 1, 3), 300);
    const coverage_report report = check_coverage(t.trials, t.output, 0.1, 1e-4);
    INFO(report.message());
    CHECK(report.holds);
  }
}
