// SPDX-License-Identifier: Apache-2.0
// At a given size, without growth: are the estimates unbiased, and their variances what they say? Means
// over 1,000 seeds against closed forms; 4 standard errors, so a correct library fails one of these
// checks with probability 6e-5, and one of all with less than 1 %. The seeds are fixed.
#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

constexpr index_t n = 3000, value_dim = 32;
constexpr std::uint64_t seeds = 1000;

/// A head, its exact rows (the 40 largest logits among them), and closed forms over the residual, all in
/// units of exp(l - max).
struct population_of {
  explicit population_of(head_kind kind)
      : head(make_head(kind, n, 64, value_dim, 1, 77)),
        want(reference(head.group(), head.view())) {}

  /// Rows outside what `functor` reads exactly, as the workspace of a call says.
  void set_residual(const workspace& ws) {
    const Eigen::VectorXd l = logits(head.group(), head.view(), 0);
    const Eigen::VectorXd o = want.output.row(0);
    Eigen::VectorXd sum = Eigen::VectorXd::Zero(value_dim);
    double w_sum = 0.0, w_square = 0.0;
    residual = 0.0;
    squares = 0.0;
    for (row_t row = 0; row < n; ++row) {
      if (ws.exact.contains(row)) continue;
      const double w = std::exp(l[row] - want.max_logit[0]);
      const Eigen::VectorXd y = w * (head.values.row(row).cast<double>().transpose() - o);
      residual += 1.0;
      w_sum += w;
      w_square += w * w;
      sum += y;
      squares += y.squaredNorm();
    }
    w_variance = (w_square - w_sum * w_sum / residual) / (residual - 1.0);
    y_variance = (squares - sum.squaredNorm() / residual) / (residual - 1.0);
  }
  /// n^2 (1/b - 1/n): per unit of S^2.
  double spread(double b) const { return residual * residual * (1.0 / b - 1.0 / residual); }

  synthetic_head head;
  exact_attention want;
  double residual = 0, squares = 0;       // rows, sum |w (v - o)|^2
  double w_variance = 0, y_variance = 0;  // S^2 of w, and its trace of w (v - o)
};

auto fixed_size(index_t b) {
  return vattn::vattention(static_indices::sink_window(8, 8), top_k::oracle(rows(40)),
                           base_sampling::uniform(rows(50)), budget::fixed(rows(b)),
                           dynamic_sampling::uniform());
}

void check_mean(const moments& of, double want) {
  CAPTURE(of.mean(), of.standard_error(), want);
  CHECK(std::fabs(of.mean() - want) <= 4.0 * of.standard_error() + 1e-6 * std::fabs(want));
}

}  // namespace

TEST_CASE("at a given size estimates are unbiased and variances are what they say",
          "[statistical]") {
  for (const head_kind kind :
       {head_kind::flat, head_kind::mixed, head_kind::power_law, head_kind::log_normal})
    for (const index_t b : {200, 1000}) {
      CAPTURE(static_cast<int>(kind), b);
      population_of p(kind);
      const auto functor = fixed_size(b);
      const auto index = functor.make_index(p.head.view());
      workspace ws;
      moments d, d_variance, output_variance, n_variance, error;
      for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        const result got = functor(p.head.group(), p.head.view(), index, {seed}, ws);
        const certificate& c = got.certificates[0];
        REQUIRE(c.rows_sampled == b);
        REQUIRE(c.max_logit == Approx(p.want.max_logit[0]).epsilon(1e-6));
        if (seed == 0) p.set_residual(ws);
        const partial_view state = ws.head(0);
        d.add(c.denominator);
        d_variance.add(c.denominator_error * c.denominator_error);
        n_variance.add(state.numerator_variance());
        output_variance.add(variance_at_output(state).total);
        const Eigen::Map<const Eigen::VectorXd> numerator(state.numerator(), value_dim);
        const Eigen::VectorXd o = p.want.output.row(0);
        error.add((numerator - c.denominator * o).squaredNorm());
      }
      const auto size = static_cast<double>(b);
      check_mean(d, p.want.denominator[0]);
      check_mean(d_variance, p.spread(size) * p.w_variance);
      // The mean squared error of N^ - o D^, by the formula for draws of fixed size.
      check_mean(error, p.spread(size) * p.y_variance);
      // The certificate's variance has the form of independent inclusions, (1 - p) / p sum |y|^2: no
      // smaller than the mean squared error, but for n / (n - 1).
      const double probability = size / p.residual;
      const double independent = (1.0 - probability) / probability * p.squares;
      CHECK(output_variance.mean() == Approx(independent).epsilon(0.05));
      CHECK(p.spread(size) * p.y_variance <= independent * p.residual / (p.residual - 1.0));
      CHECK(error.mean() <= independent + 4.0 * error.standard_error());
      CHECK(error.mean() <= 1.05 * output_variance.mean() + 4.0 * error.standard_error());
    }
}

TEST_CASE("the numerator's variance is unbiased too", "[statistical]") {
  population_of p(head_kind::power_law);
  const auto functor = fixed_size(300);
  const auto index = functor.make_index(p.head.view());
  workspace ws;
  moments estimated, squared;
  Eigen::VectorXd exact = p.want.output.row(0) * p.want.denominator[0];
  for (std::uint64_t seed = 0; seed < seeds; ++seed) {
    static_cast<void>(functor(p.head.group(), p.head.view(), index, {seed}, ws));
    const Eigen::Map<const Eigen::VectorXd> numerator(ws.head(0).numerator(), value_dim);
    estimated.add(ws.head(0).numerator_variance());
    squared.add((numerator - exact).squaredNorm());
  }
  const double error = std::hypot(estimated.standard_error(), squared.standard_error());
  CHECK(std::fabs(estimated.mean() - squared.mean()) <= 4.0 * error);
}

TEST_CASE("the log-sum-exp's standard error is calibrated", "[statistical]") {
  for (const head_kind kind :
       {head_kind::flat, head_kind::mixed, head_kind::power_law, head_kind::log_normal})
    for (const index_t b : {300, 1000}) {
      CAPTURE(static_cast<int>(kind), b);
      const population_of p(kind);
      const auto functor = fixed_size(b);
      const auto index = functor.make_index(p.head.view());
      workspace ws;
      moments score, square;
      index_t outside = 0;
      for (std::uint64_t seed = 0; seed < seeds; ++seed) {
        const result got = functor(p.head.group(), p.head.view(), index, {seed}, ws);
        const double z = (got.log_sum_exp[0] - p.want.log_sum_exp[0]) / got.log_sum_exp_error[0];
        score.add(z);
        square.add(z * z);
        outside += std::fabs(z) > 1.959964 ? 1 : 0;
      }
      // The standard error is itself estimated and the logarithm bends: a mean square of 1 within
      // 15 % beside the 4 standard errors, a bias below .25.
      CHECK(std::fabs(square.mean() - 1.0) <= 0.15 + 4.0 * square.standard_error());
      CHECK(std::fabs(score.mean()) <= 0.25);
      CHECK(check_coverage(static_cast<index_t>(seeds), outside, 0.075, 1e-4).holds);
      CHECK(outside > 20);  // nor is it far too wide
    }
}
