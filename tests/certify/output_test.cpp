// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/output.hpp"

#include <Eigen/Eigenvalues>

#include "support/catch.hpp"
#include "support/estimate.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Rank from the eigenvalues of the sample covariance of the 32 group sums of s (v - o):
/// (sum l)^2 over the unbiased estimate of the sum of squared population eigenvalues.
double rank_by_eigenvalues(const Eigen::MatrixXd& x) {
  const Eigen::MatrixXd centred = x.rowwise() - x.colwise().mean();
  const Eigen::MatrixXd covariance = centred.transpose() * centred / 31.0;
  const Eigen::VectorXd l =
      Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd>(covariance).eigenvalues();
  const double t1 = l.sum(), t2 = l.squaredNorm();
  const double a2 = 31.0 * 31.0 / (30.0 * 33.0) * (t2 - t1 * t1 / 31.0);
  const auto d = static_cast<double>(x.cols());
  return a2 > 0.0 ? std::min(d, std::max(1.0, t1 * t1 / a2)) : d;
}

/// A partial with given group sums of s v (s = 0), and a |v|^2 such that the scale is right.
partial with_group_sums(const Eigen::MatrixXd& x) {
  partial p(x.cols());
  const partial_view v = p.view();
  v.denominator() = 1.0;
  for (int g = 0; g < variance_groups; ++g) {
    Eigen::Map<Eigen::VectorXf>(v.s_v(g), x.cols()) = x.row(g).cast<float>();
    v.a_vv(g) = x.row(g).squaredNorm();
  }
  return p;
}

/// Textbook Q of the effective rank: Wilson and Hilferty at min(delta, .2), times 1 + .03 / r.
double quantile(double rank, double delta) {
  const double r = std::max(1.0, rank);
  double low = -10.0, high = 40.0;
  for (int i = 0; i < 200; ++i) {
    const double z = 0.5 * (low + high);
    (0.5 * std::erfc(z / std::sqrt(2.0)) > std::min(delta, 0.2) ? low : high) = z;
  }
  return std::pow(1.0 - 2.0 / (9.0 * r) + low * std::sqrt(2.0 / (9.0 * r)), 3.0) * (1.0 + 0.03 / r);
}

workspace prepared_workspace(index_t value_dim) {
  workspace ws;
  ws.reserve(1, 1, 1, value_dim, false);
  return ws;
}

}  // namespace

TEST_CASE("the variance at the output is the sum of the groups' quadratics", "[certify]") {
  const random_cache c({.rows = 1500, .dim = 24, .value_dim = 20});
  const chosen_rows chosen = choose_rows(1500, 15, 0.4, design::independent, 5);
  workspace ws;
  run_pass(c.group(), c.view(), chosen, design::independent, 0, ws);
  const partial_view got = ws.head(0);
  const estimate want = estimate_of(c.group(), c.view(), 0, chosen, design::independent, 0);
  const Eigen::VectorXd o = want.output();
  Eigen::VectorXd v(variance_groups);
  for (int g = 0; g < variance_groups; ++g) v[g] = want.output_variance(g, o);
  const output_variance output = variance_at_output(got);
  CHECK(output.total == Approx(v.sum()).epsilon(1e-4));
  const double spread = 32.0 / 31.0 * (v.array() - v.sum() / 32.0).square().sum();
  CHECK(output.inflation == Approx(1.0 + 1.5 * std::sqrt(spread) / v.sum()).epsilon(1e-4));

  Eigen::MatrixXd x = want.s_v - want.s * o.transpose();
  const double rank = rank_by_eigenvalues(x);
  CHECK(effective_rank(got, ws) == Approx(rank).epsilon(1e-3));
  for (const double delta : {0.01, 0.1, 0.2, 0.5}) {
    const judgement j = bound_output(got, delta, ws);
    const double factor = quantile(std::max(1.0, 0.8 * rank), delta) * output.inflation;
    const double e = std::sqrt(factor * v.sum()) / want.numerator.norm();
    CHECK(j.factor == Approx(factor).epsilon(1e-3));
    CHECK(j.epsilon == Approx(e / (1.0 - e)).epsilon(1e-3));
    CHECK(j.bound == bound_kind::rank_quantile);
    CHECK(j.enough);
  }
}

TEST_CASE("equal groups inflate nothing, one group alone inflates by 1 + 1.5 sqrt(32)",
          "[certify]") {
  partial p(2);
  const partial_view v = p.view();
  v.denominator() = 1.0;
  v.numerator()[0] = 1.0;
  for (int g = 0; g < variance_groups; ++g) v.a_vv(g) = 3.0;
  CHECK(variance_at_output(v).total == Approx(96.0));
  CHECK(variance_at_output(v).inflation == Approx(1.0));
  for (int g = 1; g < variance_groups; ++g) v.a_vv(g) = 0.0;
  CHECK(variance_at_output(v).total == Approx(3.0));
  // sqrt(32/31 (31^2 + 31)/32^2 V^2) / V = 1
  CHECK(variance_at_output(v).inflation == Approx(2.5));
}

TEST_CASE("values that differ by less than float resolves do not make the variance vanish",
          "[certify]") {
  random_cache c({.rows = 800, .dim = 16, .value_dim = 8});
  c.values.setConstant(1.0F);
  for (index_t i = 0; i < 800; ++i) c.values(i, 0) += static_cast<float>(i % 2) * 0x1p-20F;
  c.store();
  const chosen_rows chosen = choose_rows(800, 15, 0.4, design::independent, 5);
  workspace ws;
  run_pass(c.group(), c.view(), chosen, design::independent, 0, ws);
  double a_vv = 0.0;
  for (int g = 0; g < variance_groups; ++g) a_vv += ws.head(0).a_vv(g);
  CHECK(variance_at_output(ws.head(0)).total >= 0x1p-18 * a_vv);
  const judgement j = bound_output(ws.head(0), 0.1, ws);
  CHECK(j.epsilon > 0.0);
  CHECK(j.epsilon < 0.01);
}

TEST_CASE("the effective rank of group sums, by eigenvalues", "[certify]") {
  vattn::detail::head_source source(17, 0);
  for (const index_t d : {1, 2, 8, 64, 128})
    for (const double decay : {1.0, 0.7, 0.1}) {
      Eigen::MatrixXd x(variance_groups, d);
      for (index_t j = 0; j < d; ++j)
        for (int g = 0; g < variance_groups; ++g)
          x(g, j) = source.normal() * std::pow(decay, static_cast<double>(j)) * 1e3;
      partial p = with_group_sums(x);
      workspace ws = prepared_workspace(d);
      CAPTURE(d, decay);
      CHECK(effective_rank(p.view(), ws) == Approx(rank_by_eigenvalues(x)).epsilon(2e-3));
    }
}

TEST_CASE("the effective rank does not depend on the scale, and stays within 1 and d",
          "[certify]") {
  vattn::detail::head_source source(18, 0);
  Eigen::MatrixXd x(variance_groups, 16);
  for (index_t i = 0; i < x.size(); ++i) x.data()[i] = source.normal();
  workspace ws = prepared_workspace(16);
  const double rank = effective_rank(with_group_sums(x).view(), ws);
  for (const double scale : {1e-30, 1e-8, 1e12, 1e30})
    CHECK(effective_rank(with_group_sums(scale * x).view(), ws) == Approx(rank).epsilon(1e-5));
  CHECK(effective_rank(with_group_sums(Eigen::MatrixXd::Zero(32, 16)).view(), ws) == 16.0);
  Eigen::MatrixXd line = Eigen::VectorXd::Random(32) * Eigen::RowVectorXd::Random(16);
  CHECK(effective_rank(with_group_sums(line).view(), ws) < 1.2);
  CHECK(effective_rank(with_group_sums(line).view(), ws) >= 1.0);
}

TEST_CASE("one heavy row makes the certificate wider than an even sample of the same variance",
          "[certify]") {
  workspace ws = prepared_workspace(8);
  vattn::detail::head_source source(19, 0);
  Eigen::MatrixXd even(variance_groups, 8);
  for (index_t i = 0; i < even.size(); ++i) even.data()[i] = source.normal();
  const double variance = even.squaredNorm();
  Eigen::MatrixXd heavy = Eigen::MatrixXd::Zero(variance_groups, 8);
  heavy.row(3).setConstant(std::sqrt(variance / 8.0));
  double epsilon[2];
  int i = 0;
  for (const Eigen::MatrixXd& x : {even, heavy}) {
    partial p = with_group_sums(x);
    p.view().numerator()[0] = 40.0 * std::sqrt(variance);
    p.view().uncertain() = 100.0;
    for (int g = 0; g < variance_groups; ++g) p.view().a(g) = 0.0;
    epsilon[i++] = bound_output(p.view(), 0.1, ws).epsilon;
  }
  CHECK(epsilon[1] > 1.7 * epsilon[0]);
}

TEST_CASE("no output bound where there is none", "[certify]") {
  workspace ws = prepared_workspace(4);
  const auto made = [](double d, double n, double a_vv) {
    partial p(4);
    p.view().denominator() = d;
    p.view().numerator()[1] = n;
    p.view().a_vv(7) = a_vv;
    p.view().uncertain() = 100.0;
    return p;
  };
  for (partial p : {made(1.0, 0.0, 1.0),  // ||N^|| = 0
                    made(1.0, 0.0, 0.0), made(0.0, 0.0, 0.0), made(0.0, 1.0, 1.0),
                    made(1.0, 1.0, 1.0),  // e >= 1
                    made(1.0, 1.0, 1e30), made(1.0, 1.0, infinity), made(1.0, std::nan(""), 1.0),
                    made(std::nan(""), 1.0, 0.1), made(1.0, 1.0, std::nan(""))}) {
    const judgement j = bound_output(p.view(), 0.1, ws);
    CHECK(j.epsilon == infinity);
    CHECK(j.bound == bound_kind::none);
  }
}

TEST_CASE("zero spread of few rows is no evidence for the output", "[certify]") {
  workspace ws = prepared_workspace(4);
  partial p(4);
  p.view().denominator() = 1.0;
  p.view().numerator()[1] = 1.0;
  for (const double rows : {0.0, 15.0, 16.0}) {
    p.view().uncertain() = rows;
    const judgement j = bound_output(p.view(), 0.1, ws);
    CHECK(j.epsilon == 0.0);
    CHECK(j.enough == (rows >= 16.0));
  }
}

TEST_CASE("no output bound is below the resolution of its sample", "[certify]") {
  workspace ws = prepared_workspace(4);
  partial p(4);
  p.view().denominator() = 2.0;
  p.view().numerator()[1] = 6.0;
  p.view().uncertain() = 100.0;
  for (const double least : {0.02, 0.004}) {
    p.view().resolution() = least;
    CHECK(bound_output(p.view(), 0.1, ws).epsilon == Approx(least / (1.0 - least)));
    CHECK(bound_output(p.view(), 0.1, ws).least == Approx(3.0 * least));
    CHECK(bound_output<error_scale::absolute>(p.view(), 0.1, ws).epsilon == Approx(3.0 * least));
  }
  partial other(4);
  other.view().resolution() = 0.01;
  p.view().merge(other.view());
  CHECK(p.view().resolution() == 0.01);  // the coarser of two shards
}
