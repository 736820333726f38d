// SPDX-License-Identifier: Apache-2.0
// The effective rank and the inflation from 32 group sums, where the truth is known: equal weights, and
// values with a given diagonal covariance. Means over 300 draws; the tolerances are 4 standard errors
// beside a stated bias. The seeds are fixed.
#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "vattention/certify/output.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/testing/coverage.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr index_t n = 4000;
constexpr std::uint64_t draws = 300;

/// Equal logits; values of mean 1 and the given standard deviations, times a factor of the row.
template <class Factor>
random_cache cache_with(const Eigen::VectorXd& deviations, Factor factor) {
  random_cache c = cache_with_logits(std::vector<float>(n, 0.0F));
  c.plan.value_dim = deviations.size();
  c.values.resize(n, deviations.size());
  vattn::detail::head_source source(91, 0);
  for (index_t i = 0; i < n; ++i)
    for (index_t j = 0; j < deviations.size(); ++j)
      c.values(i, j) = static_cast<float>(1.0 + factor(i) * deviations[j] * source.normal());
  c.store();
  return c;
}

double one(index_t /*row*/) { return 1.0; }

/// (sum l)^2 / sum l^2 of the values' own covariance.
double true_rank(const random_cache& c) {
  const Eigen::MatrixXd v = c.values.cast<double>();
  const Eigen::MatrixXd centred = v.rowwise() - v.colwise().mean();
  const Eigen::MatrixXd covariance = centred.transpose() * centred;
  return std::pow(covariance.trace(), 2.0) / covariance.squaredNorm();
}

/// Calls `look(state, workspace)` for draws of an eighth of the rows.
template <class Look>
void for_draws(const random_cache& c, Look look) {
  workspace ws;
  for (std::uint64_t seed = 0; seed < draws; ++seed) {
    const chosen_rows chosen = choose_rows(n, 0, 0.125, design::fixed_size, 1000 + seed);
    run_pass(c.group(), c.view(), chosen, design::fixed_size, n, ws);
    look(ws.head(0), ws);
  }
}

}  // namespace

TEST_CASE("the effective rank of a known covariance", "[statistical]") {
  Eigen::VectorXd geometric(32);
  for (index_t j = 0; j < 32; ++j) geometric[j] = std::pow(0.8, static_cast<double>(j));
  Eigen::VectorXd one_large = Eigen::VectorXd::Constant(24, 0.2);
  one_large[7] = 2.0;
  for (const Eigen::VectorXd& deviations :
       {Eigen::VectorXd(Eigen::VectorXd::Ones(1)), Eigen::VectorXd(Eigen::VectorXd::Ones(4)),
        Eigen::VectorXd(Eigen::VectorXd::Ones(32)), geometric, one_large}) {
    const random_cache c = cache_with(deviations, one);
    const double rank = true_rank(c);
    CAPTURE(rank, deviations.size());
    // 1 / r is close to unbiased (it is clamped to [1/d, 1]), r itself is not.
    moments inverse;
    for_draws(c, [&](const partial_view& state, workspace& ws) {
      inverse.add(1.0 / effective_rank(state, ws));
    });
    CHECK(std::fabs(inverse.mean() * rank - 1.0) <= 0.15 + 4.0 * inverse.standard_error() * rank);
  }
}

TEST_CASE("the group spread is the variance of the variance", "[statistical]") {
  // (32/31) sum (V_g - V/32)^2 / V^2 against sum y^4 / (sum y^2)^2 over the rows, y^2 = |v - o|^2; heavy
  // rows, of 12 times the deviation, make it large.
  for (const index_t every : {0, 100, 500}) {
    const random_cache c = cache_with(Eigen::VectorXd::Ones(16), [&](index_t row) {
      return every > 0 && row % every == 0 ? 12.0 : 1.0;
    });
    CAPTURE(every);
    const Eigen::MatrixXd v = c.values.cast<double>();
    const Eigen::VectorXd square = (v.rowwise() - v.colwise().mean()).rowwise().squaredNorm();
    const double kurtosis = square.array().square().mean() / std::pow(square.mean(), 2.0);
    moments spread, by_rows;
    for_draws(c, [&](const partial_view& state, workspace&) {
      const double root = (variance_at_output(state).inflation - 1.0) / 1.5;
      spread.add(root * root);
      by_rows.add(kurtosis / state.uncertain());
    });
    // A ratio: heavy rows raise V with the spread, so its mean is somewhat lower.
    CHECK(spread.mean() <= 1.05 * by_rows.mean() + 4.0 * spread.standard_error());
    CHECK(spread.mean() >=
          (every == 0 ? 0.95 : 0.6) * by_rows.mean() - 4.0 * spread.standard_error());
  }
}

TEST_CASE("the bound covers for a Gaussian sum of any known rank", "[statistical]") {
  for (const index_t d : {1, 2, 5, 64})
    for (const double miss : {0.05, 0.2, 0.5}) {
      CAPTURE(d, miss);
      const random_cache c = cache_with(Eigen::VectorXd::Ones(d), one);
      const Eigen::VectorXd o = c.values.cast<double>().colwise().mean();
      index_t beyond = 0;
      for_draws(c, [&](const partial_view& state, workspace& ws) {
        const Eigen::Map<const Eigen::VectorXd> numerator(state.numerator(), d);
        const Eigen::VectorXd got = numerator / state.denominator();
        beyond += (got - o).norm() / o.norm() > bound_output(state, miss, ws).epsilon;
      });
      CHECK(check_coverage(static_cast<index_t>(draws), beyond, miss, 1e-4).holds);
    }
}
