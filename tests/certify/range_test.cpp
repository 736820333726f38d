// SPDX-License-Identifier: Apache-2.0
// Deviations from a range: their formulas, and that they cover, without replacement, populations
// made to break them. Seeds are fixed; a bound that just kept its promise would fail a cell with
// probability 1e-5.
#include "vattention/certify/range.hpp"

#include <functional>
#include <numeric>

#include "support/catch.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct drawn_sum {
  double estimate = 0.0, variance = 0.0;
};
/// The estimated total and the variance (divisor b) of b of x, drawn without replacement.
drawn_sum draw(std::vector<double>& x, index_t b, detail::head_source& source) {
  const auto n = static_cast<index_t>(x.size());
  double sum = 0.0, squares = 0.0;
  for (index_t i = 0; i < b; ++i) {
    std::swap(x[static_cast<std::size_t>(i)], x[static_cast<std::size_t>(i + source.below(n - i))]);
    sum += x[static_cast<std::size_t>(i)];
    squares += x[static_cast<std::size_t>(i)] * x[static_cast<std::size_t>(i)];
  }
  const auto count = static_cast<double>(b);
  return {static_cast<double>(n) * sum / count,
          std::max(0.0, squares / count - sum * sum / (count * count))};
}

/// Weights within [0, 1] of 400 rows.
std::vector<std::vector<double>> populations() {
  std::vector<std::vector<double>> all(5, std::vector<double>(400));
  detail::head_source source(3, 0);
  for (std::size_t i = 0; i < 400; ++i) {
    all[0][i] = i % 2 == 0 ? 1.0 : 0.0;                          // the widest
    all[1][i] = i < 4 ? 1.0 : 0.0;                               // rare heavy rows
    all[2][i] = i < 12 ? 1.0 : 0.01;                             // less rare
    all[3][i] = 0.5 + 0.1 * std::tanh(source.normal());          // narrow
    all[4][i] = std::min(1.0, std::exp(source.normal() - 3.0));  // log-normal
  }
  return all;
}

}  // namespace

TEST_CASE("deviations are what their papers say", "[certify][range]") {
  const range_sample s{10000.0, 500.0, 0.25};
  const double hoeffding = 2500.0 * std::sqrt(std::log(20.0) / 1000.0);
  CHECK(hoeffding_deviation(s, 0.1, correction::none) == Approx(hoeffding));
  CHECK(hoeffding_deviation(s, 0.1, correction::finite_population) ==
        Approx(hoeffding * std::sqrt(1.0 - 499.0 / 10000.0)));
  const range_sample most{10000.0, 8000.0, 0.25};
  CHECK(serfling_factor(most, correction::finite_population) == Approx(0.2 * (1.0 + 1.0 / 8000.0)));
  CHECK(serfling_factor(most, correction::none) == 1.0);
  CHECK(serfling_factor({100.0, 50.0, 1.0}, correction::finite_population) ==
        Approx(serfling_factor({100.0, 50.0 + 1e-9, 1.0}, correction::finite_population)));
  CHECK(bernstein_serfling_deviation(s, 0.01, 0.1) ==
        Approx(10000.0 * (0.1 * std::sqrt(2.0 * (1.0 - 499.0 / 10000.0) * std::log(100.0) / 500.0) +
                          (7.0 / 3.0 + 3.0 / std::sqrt(2.0)) * 0.25 * std::log(100.0) / 500.0)));
}

TEST_CASE("the Bernstein bound solves its two inequalities", "[certify][range]") {
  for (const double b : {20.0, 200.0, 5000.0})
    for (const double variance : {0.0, 1e-4, 0.01}) {
      const range_sample s{10000.0, b, 0.5};
      const double a = std::sqrt(2.0 * std::log(30.0) / b);
      const double t = bernstein_deviation(s, variance, 0.1) / 10000.0;
      const double sd = (t - 0.5 * a * a / 3.0) / a;  // of the population, as bounded
      CAPTURE(b, variance, sd);
      CHECK(sd <= 0.25 + 1e-12);
      const double mean_off = a * sd + 0.5 * a * a / 3.0;
      if (sd < 0.25 - 1e-9)
        CHECK(sd * sd - a * 0.5 * sd - mean_off * mean_off == Approx(variance).margin(1e-9));
    }
  // Near sqrt(2 variance L / b) for large b, and about 8/3 U L / b for no variance.
  const range_sample large{1e9, 1e8, 1.0};
  CHECK(bernstein_deviation(large, 0.01, 0.1) / 1e9 ==
        Approx(std::sqrt(0.02 * std::log(30.0) / 1e8)).epsilon(0.01));
  CHECK(bernstein_deviation(large, 0.0, 0.1) / 1e9 ==
        Approx(8.0 / 3.0 * std::log(30.0) / 1e8).epsilon(0.02));
}

TEST_CASE("deviations cover the total of any population, at every size", "[certify][range]") {
  using bound = std::function<double(const range_sample&, double)>;
  constexpr double miss = 0.1;
  const bound bounds[] = {
      [](const range_sample& s, double) { return hoeffding_deviation(s, miss, correction::none); },
      [](const range_sample& s, double) {
        return hoeffding_deviation(s, miss, correction::finite_population);
      },
      [](const range_sample& s, double v) { return bernstein_deviation(s, v, miss); },
      [](const range_sample& s, double v) { return bernstein_serfling_deviation(s, v, miss); }};
  for (std::size_t kind = 0; kind < 5; ++kind) {
    std::vector<double> x = populations()[kind];
    const double total = std::accumulate(x.begin(), x.end(), 0.0);
    for (const index_t b : {2, 10, 40, 150, 300, 399})
      for (std::size_t i = 0; i < 4; ++i) {
        detail::head_source source(static_cast<std::uint64_t>(b), 17);
        index_t violations = 0;
        for (int trial = 0; trial < 2000; ++trial) {
          const drawn_sum got = draw(x, b, source);
          const double t = bounds[i]({400.0, static_cast<double>(b), 1.0}, got.variance);
          violations += std::fabs(got.estimate - total) > t + 1e-9 ? 1 : 0;
        }
        CAPTURE(kind, b, i);
        const coverage_report report = check_coverage(2000, violations, miss, 1e-5);
        CHECK(report.holds);
      }
  }
}

TEST_CASE("the bound of a range is relative to the larger of two lower limits",
          "[certify][range]") {
  partial p(2);
  const partial_view s = p.view();
  s.denominator() = 10.0;
  s.uncertain() = 1.0;
  s.sampled_shards() = 1.0;
  s.floor() = 2.0;
  judgement j = bound_in_range(s, 2.0, bound_kind::hoeffding);
  CHECK(j.epsilon == Approx(0.25));
  CHECK(j.bound == bound_kind::hoeffding);
  CHECK(j.enough);
  s.floor() = 9.0;
  CHECK(bound_in_range(s, 2.0, bound_kind::hoeffding).epsilon == Approx(2.0 / 9.0));
  for (const double t : {9.0, 10.0, infinity, std::nan("")})
    CHECK(bound_in_range(s, t, bound_kind::hoeffding).bound == bound_kind::none);
  s.sampled_shards() = 2.0;
  CHECK(bound_in_range(s, 2.0, bound_kind::hoeffding).bound == bound_kind::none);
  s.sampled_shards() = 1.0;
  s.uncertain() = 0.0;
  CHECK_FALSE(bound_in_range(s, 2.0, bound_kind::hoeffding).enough);
  s.ceiling() = -infinity;  // this head sees none of the residual
  CHECK(bound_in_range(s, 0.0, bound_kind::hoeffding).enough);
  CHECK(bound_in_range(s, 0.0, bound_kind::hoeffding).epsilon == 0.0);
}

TEST_CASE("a state says what its sample was", "[certify][range]") {
  partial p(2);
  const partial_view s = p.view();
  s.max_logit() = 3.0;
  s.ceiling() = 2.0;
  s.rows_total() = 1000.0;
  s.rows_exact() = 200.0;
  s.rows_sampled() = 50.0;
  s.denominator() = 8.0;
  s.denominator_variance() = 800.0 * 800.0 * (1.0 / 50.0 - 1.0 / 800.0) * 0.04;
  const range_sample r = range_of(s);
  CHECK(r.population == 800.0);
  CHECK(r.drawn == 50.0);
  CHECK(r.width == Approx(std::exp(-1.0)));
  CHECK(weight_variance(s) == Approx(0.98 * 0.04 + 1e-4 * 0x1p-18));
}
