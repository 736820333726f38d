// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/joint.hpp"

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// z with P(|Z| > z) = miss, by bisection on the tail function.
double two_sided(double miss) {
  double low = 0.0, high = 40.0;
  for (int i = 0; i < 60; ++i) {
    const double z = 0.5 * (low + high);
    (std::erfc(z / std::sqrt(2.0)) > miss ? low : high) = z;
  }
  return low;
}

/// min of 2 (e1 + e2) over 2,000 splits, e2 < 1/2.
double least_bound(double delta, double relative_n, double relative_d) {
  double least = infinity;
  for (int i = 1; i < 2000; ++i) {
    const double share = i / 2000.0;
    const double e1 = two_sided(delta * share) * relative_n;
    const double e2 = two_sided(delta * (1.0 - share)) * relative_d;
    if (e2 < 0.5) least = std::min(least, 2.0 * (e1 + e2));
  }
  return least;
}

partial made(double d, double d_variance, double n, double n_variance, double uncertain) {
  partial p(4);
  p.view().denominator() = d;
  p.view().denominator_variance() = d_variance;
  p.view().numerator()[2] = n;
  p.view().numerator_variance() = n_variance;
  p.view().uncertain() = uncertain;
  return p;
}

/// P(chi^2_r > x), r even, in closed form.
double chi_square_tail(int r, double x) {
  double term = std::exp(-x / 2.0), sum = 0.0;
  for (int i = 0; i < r / 2; ++i) {
    sum += term;
    term *= x / 2.0 / (i + 1);
  }
  return sum;
}

}  // namespace

TEST_CASE("the joint bound is the best split of delta, to half a percent", "[certify]") {
  for (const double delta : {0.01, 0.1, 0.2}) {
    const delta_splits splits(delta);
    for (const double n : {1e-4, 0.01, 0.05})
      for (const double d : {1e-4, 0.01, 0.05}) {
        const double best = least_bound(delta, n, d);
        CAPTURE(delta, n, d);
        CHECK(splits.bound(n, d) >= best * (1.0 - 1e-9));
        CHECK(splits.bound(n, d) <= best * 1.02);
      }
  }
}

TEST_CASE("the joint bound asks e2 < 1/2, as lemma 4.2 does", "[certify]") {
  const delta_splits splits(0.1);
  CHECK(splits.bound(0.01, 0.4) == infinity);
  CHECK(splits.bound(0.0, 0.25) < 1.0);
  CHECK(splits.bound(infinity, 0.01) == infinity);
  CHECK(splits.bound(0.0, 0.0) == 0.0);
  CHECK(splits.bound(std::nan(""), 0.1) == infinity);
  CHECK(splits.bound(0.1, std::nan("")) == infinity);
}

TEST_CASE("the numerator's quantile holds for every rank", "[certify]") {
  // P(chi^2_r / r > z^2) <= share for z two-sided at the share, up to a share of .2; and beyond it .2 is
  // what splits use, so that a large delta claims no more than holds.
  for (const double share : {0.001, 0.01, 0.05, 0.1, 0.2})
    for (const int r : {2, 4, 10, 64, 128}) {
      const double z = two_sided(share);
      CHECK(chi_square_tail(r, z * z * r) <= share);
    }
  const double z = two_sided(0.6);
  CHECK(chi_square_tail(10, z * z * 10) > 0.9);  // why
  const delta_splits generous(0.9);
  CHECK(generous.bound(0.1, 0.0) >= 0.2 * two_sided(0.2) * (1.0 - 1e-12));
}

TEST_CASE("the joint judgement takes both relative errors from the partial", "[certify]") {
  const delta_splits splits(0.1);
  partial p = made(2.0, 0.0004, -5.0, 0.01, 50.0);
  CHECK(numerator_norm(p.view()) == 5.0);
  const judgement j = bound_jointly(p.view(), splits);
  CHECK(j.epsilon == Approx(splits.bound(0.1 / 5.0, 0.02 / 2.0)).epsilon(1e-12));
  CHECK(j.bound == bound_kind::joint_normal);
  CHECK(j.enough);
}

TEST_CASE("within both errors the output is within the joint bound", "[certify]") {
  // o = N / D for any N, D that differ by at most e1 ||N^|| and e2 D^ from the estimates
  for (const double e1 : {0.01, 0.1, 0.3})
    for (const double e2 : {0.01, 0.1, 0.19})
      for (double turn = 0.0; turn < 6.3; turn += 0.1)
        for (const double side : {-1.0, 0.0, 1.0}) {
          const Eigen::Vector2d n(1.0 + e1 * std::cos(turn), e1 * std::sin(turn));
          const Eigen::Vector2d o = n / (1.0 + side * e2);
          const double error = (Eigen::Vector2d(1.0, 0.0) - o).norm() / o.norm();
          CHECK(error <= 2.0 * (e1 + e2));
        }
}

TEST_CASE("no joint bound where there is none", "[certify]") {
  const delta_splits splits(0.1);
  for (partial p :
       {made(1.0, 1.0, 1.0, 0.0, 50.0), made(1.0, 0.0, 1.0, 1.0, 50.0),
        made(1.0, 1e-4, 0.0, 1e-4, 50.0), made(0.0, 0.0, 0.0, 0.0, 50.0),
        made(0.0, 1.0, 1.0, 1.0, 50.0), made(1.0, infinity, 1.0, infinity, 50.0),
        made(std::nan(""), 0.1, 1.0, 0.1, 50.0), made(1.0, 0.1, 1.0, std::nan(""), 50.0)}) {
    const judgement j = bound_jointly(p.view(), splits);
    CHECK(j.epsilon == infinity);
    CHECK(j.bound == bound_kind::none);
  }
}

TEST_CASE("zero spread of few rows is no evidence for numerator and denominator", "[certify]") {
  const delta_splits splits(0.1);
  CHECK(bound_jointly(made(1.0, 0.0, 1.0, 0.0, 16.0).view(), splits).epsilon == 0.0);
  CHECK(bound_jointly(made(1.0, 0.0, 1.0, 0.0, 16.0).view(), splits).enough);
  for (const double few : {0.0, 2.0, 15.0})
    CHECK_FALSE(bound_jointly(made(1.0, 0.0, 1.0, 0.0, few).view(), splits).enough);
}

TEST_CASE("the tight bound is the least (e1 + e2) / (1 - e1), below the paper's", "[certify]") {
  const delta_splits splits(0.1);
  for (const double n : {0.0, 0.001, 0.02, 0.1})
    for (const double d : {0.0, 0.001, 0.02, 0.1}) {
      double least = std::numeric_limits<double>::infinity();
      for (int i = 1; i < 64; ++i) {
        const double e1 = n * normal_upper_quantile(0.1 * i / 64.0 / 2.0);
        const double e2 = d * normal_upper_quantile(0.1 * (64 - i) / 64.0 / 2.0);
        if (e1 < 1.0) least = std::min(least, (e1 + e2) / (1.0 - e1));
      }
      CAPTURE(n, d);
      CHECK(splits.bound(n, d, joint_form::tight) == Approx(least).margin(1e-15));
      CHECK(splits.bound(n, d, joint_form::tight) <= splits.bound(n, d, joint_form::paper));
    }
  CHECK(std::isinf(splits.bound(1.0, 0.0, joint_form::tight)));
}

TEST_CASE("errors within e1 and e2 leave the output within the tight bound", "[certify]") {
  // The worst of two dimensions, by brute force: N^ and D^ observed, N = N^ - x, D = D^ - y.
  const double e1 = 0.2, e2 = 0.15;
  double worst = 0.0;
  for (int i = 0; i < 360; ++i)
    for (const double y : {-e2, e2}) {
      const double angle = i * 0.017453292519943295;
      const double n0 = 1.0 - e1 * std::cos(angle), n1 = -e1 * std::sin(angle), d = 1.0 - y;
      const double error = std::hypot(1.0 - n0 / d, n1 / d);
      worst = std::max(worst, error / (std::hypot(n0, n1) / d));
    }
  CHECK(worst <= (e1 + e2) / (1.0 - e1) + 1e-12);
  CHECK(worst >= 0.99 * (e1 + e2) / (1.0 - e1));
}
