// SPDX-License-Identifier: Apache-2.0
#include "vattention/testing/coverage.hpp"

#include <cmath>
#include <limits>
#include <stdexcept>

#include "support/catch.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/stats/normal.hpp"

using namespace vattn;

namespace {

/// Error of the mean of 64 uniforms on [0, 1), in units of the half width a normal bound of level
/// `delta` claims: above 1 is a violation.
double claimed_mean_error(std::uint64_t seed, double delta) {
  const random_stream stream({seed}, 1);
  moments m;
  for (std::uint64_t i = 0; i < 64; ++i) m.add(stream.u32(i) * 0x1p-32);
  return std::abs(m.mean() - 0.5) / (normal_upper_quantile(delta / 2) * m.standard_error());
}

}  // namespace

TEST_CASE("check_coverage draws the line at the binomial point", "[coverage]") {
  const coverage_report ok = check_coverage(60, 14, 0.1);
  CHECK(ok.holds);
  CHECK(ok.allowed == 14);
  CHECK(ok.trials == 60);
  CHECK(ok.violations == 14);
  CHECK(ok.delta == 0.1);
  CHECK(ok.false_alarm == 1e-3);
  CHECK_FALSE(check_coverage(60, 15, 0.1).holds);
  CHECK(check_coverage(60, 15, 0.1, 1e-4).holds);
  CHECK(check_coverage(60, 0, 0.1).holds);
}

TEST_CASE("an honest procedure passes", "[coverage]") {
  // The normal bound on 64 uniforms misses 10.3 % (Student's t), so give it that much.
  const coverage_report r = run_coverage(
      2000, 0.105, 1.0, [](std::uint64_t seed) { return claimed_mean_error(seed, 0.1); });
  INFO(r.message());
  CHECK(r.holds);
  CHECK(r.violations > 100);  // it is not honest by being idle
}

TEST_CASE("a cheating procedure fails", "[coverage]") {
  // Claims .1 but uses the one-sided quantile: misses twice as often.
  const coverage_report r = run_coverage(
      2000, 0.1, 1.0, [](std::uint64_t seed) { return claimed_mean_error(seed, 0.2); });
  INFO(r.message());
  CHECK_FALSE(r.holds);
}

TEST_CASE("errors that are NaN are violations, infinite ones as well", "[coverage]") {
  const auto always = [](double error) { return [error](std::uint64_t) { return error; }; };
  CHECK(run_coverage(50, 0.1, 0.5, always(std::nan(""))).violations == 50);
  CHECK(run_coverage(50, 0.1, 0.5, always(std::numeric_limits<double>::infinity())).violations ==
        50);
  CHECK(run_coverage(50, 0.1, 0.5, always(0.5)).violations == 0);
}

TEST_CASE("every trial has a seed of its own", "[coverage]") {
  std::uint64_t next = 0;
  const coverage_report r = run_coverage(40, 0.1, 0.5, [&](std::uint64_t seed) {
    CHECK(seed == next++);
    return seed % 10 == 0 ? 1.0 : 0.0;
  });
  CHECK(next == 40);
  CHECK(r.violations == 4);
}

TEST_CASE("a report says all in one sentence", "[coverage]") {
  CHECK(check_coverage(60, 15, 0.1).message() ==
        "coverage fails: 15 of 60 trials violate, at most 14 allowed for delta 0.1 at a "
        "false-alarm rate of 0.001; violation rate in [0.122508, 0.418443] at 99 %");
  CHECK(check_coverage(60, 3, 0.1).message().rfind("coverage holds: 3 of 60", 0) == 0);
}

TEST_CASE("checks that make no sense are refused before the first trial", "[coverage]") {
  const auto never = [](std::uint64_t) -> double { throw std::logic_error("ran"); };
  CHECK_THROWS_AS(run_coverage(0, 0.1, 0.5, never), std::invalid_argument);
  CHECK_THROWS_AS(run_coverage(10, 0.0, 0.5, never), std::invalid_argument);
  CHECK_THROWS_AS(run_coverage(10, 0.1, 0.5, never, 1.0), std::invalid_argument);
  CHECK_THROWS_AS(check_coverage(10, 11, 0.1), std::invalid_argument);
}
