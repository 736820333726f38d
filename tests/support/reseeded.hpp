// SPDX-License-Identifier: Apache-2.0
/// @file
/// What samplers must do whose chances are over their index's seed: `check_reseeded_samplers(make)`.
#pragma once

#include "support/sampler_contract.hpp"

namespace vattn::test {

/// `make(seed)` gives samplers whose predictor has that seed. Over 1000 seeds, each with a draw key of its own:
/// - every row by itself has sum 1 / p = 1 on average: sum z^2 over n rows, z in standard errors, is within 6 sqrt(2 n)
///   of n, which chance alone breaks less than once in 1e6 times even if the rows are a little dependent;
/// - sum y / p is unbiased, within 5 standard errors for each of three y;
/// - the mean of variance_at at the present size is the variance of sum +-1 / p, within 6 standard errors of a variance.
template <class Make>
void check_over_seeds(Make make) {
  constexpr int trials = 1000;
  std::vector<double> inverse(400, 0.0), excess(400, 0.0);
  double sum[3] = {}, squares[3] = {}, off_square = 0.0, foretold = 0.0;
  const std::vector<float> ones(400, 1.0F);
  std::vector<row_t> rest;
  const auto y = [](int which, row_t row) {
    return which == 0 ? 1.0 : which == 1 ? (row % 3 == 0 ? 1.0 : 0.0) : static_cast<double>(row);
  };
  for (std::uint64_t t = 0; t < trials; ++t) {
    sampling s(make(t), 1);
    s.draw({3, 0, 0, 0, t});
    s.grow(s.size() + 30);
    rest = s.rest_rows();
    for (int which = 0; which < 3; ++which) {
      const double total = estimated_total(s.drawn(), [&](row_t row) { return y(which, row); });
      sum[which] += total;
      squares[which] += total * total;
    }
    double turns = 0.0, truth = 0.0;
    for (std::size_t i = 0; i < rest.size(); ++i) truth += i % 2 == 0 ? 1.0 : -1.0;
    turns = estimated_total(s.drawn(), [&](row_t row) {
      return (std::lower_bound(rest.begin(), rest.end(), row) - rest.begin()) % 2 == 0 ? 1.0 : -1.0;
    });
    off_square += (turns - truth) * (turns - truth);
    const auto count = static_cast<std::size_t>(s.drawn().size());
    foretold += s.variance_at({{ones.data(), count}, static_cast<double>(count)}, s.size(),
                              correction::finite_population);
    for (std::size_t i = 0; i < count; ++i) {
      const double p = probability(s.drawn().thresholds()[i]);
      inverse[s.drawn().rows()[i]] += 1.0 / p;
      excess[s.drawn().rows()[i]] += (1.0 - p) / (p * p);
    }
  }
  double z_square = 0.0, uncertain = 0.0;
  for (const row_t row : rest) {
    CAPTURE(row, inverse[row], excess[row]);
    if (excess[row] < 1e-9) {
      CHECK(inverse[row] == Approx(trials).epsilon(1e-6));
      continue;
    }
    z_square += (inverse[row] - trials) * (inverse[row] - trials) / excess[row];
    uncertain += 1.0;
  }
  CAPTURE(z_square, uncertain);
  CHECK(std::fabs(z_square - uncertain) <= 6.0 * std::sqrt(2.0 * uncertain));
  for (int which = 0; which < 3; ++which) {
    double truth = 0.0;
    for (const row_t row : rest) truth += y(which, row);
    const double mean = sum[which] / trials;
    const double variance = std::max(0.0, squares[which] / trials - mean * mean);
    CAPTURE(which, mean, truth);
    CHECK(std::fabs(mean - truth) <= 5.0 * std::sqrt(variance / trials) + 1e-6 * truth);
  }
  CHECK(foretold / off_square == Approx(1.0).margin(6.0 * std::sqrt(2.0 / trials)));
}

/// `check_foretold_variance` of one seed's draw.
template <class S>
void check_one_foretold_variance(const S& of) {
  sampling s(of, 1);
  s.draw({5});
  s.grow(s.size() + 20);
  const std::vector<float> ones(400, 1.0F);
  const auto count = static_cast<std::size_t>(s.drawn().size());
  check_foretold_variance(s, {{ones.data(), count}, static_cast<double>(count)});
}

/// The contract of samplers, with a seed for each trial where it is about chances.
template <class Make>
void check_reseeded_samplers(Make make) {
  const auto of = make(0);
  STATIC_REQUIRE(base_sampling_policy<std::remove_cvref_t<decltype(of.base)>>);
  STATIC_REQUIRE(dynamic_sampling_policy<std::remove_cvref_t<decltype(of.dynamic)>>);
  check_growth(of);
  check_reproducible(of);
  check_draw_edges(of);
  check_group(of);
  check_one_foretold_variance(of);
  check_over_seeds(make);
}

}  // namespace vattn::test
