// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/denominator.hpp"

#include "support/catch.hpp"
#include "vattention/stats/normal.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

judgement judge(double denominator, double variance, double uncertain, double z) {
  partial p(4);
  p.view().denominator() = denominator;
  p.view().denominator_variance() = variance;
  p.view().uncertain() = uncertain;
  return bound_denominator(p.view(), z);
}

}  // namespace

TEST_CASE("the denominator's bound is e / (1 - e) with e = z se / D", "[certify]") {
  const double z = normal_upper_quantile(0.05);
  for (const double denominator : {0.5, 3.0, 1e4})
    for (const double relative : {1e-6, 0.01, 0.1, 0.5}) {
      const double error = relative * denominator;
      const double e = z * error / denominator;
      const judgement j = judge(denominator, error * error, 100.0, z);
      CHECK(j.epsilon == Approx(e / (1.0 - e)).epsilon(1e-12));
      CHECK(j.bound == bound_kind::normal);
      CHECK(j.enough);
    }
}

TEST_CASE("whatever D is within e D^ of D^, it is within the bound of itself", "[certify]") {
  const double z = 1.6448536269514722;
  for (const double error : {0.01, 0.1, 0.3, 0.55}) {
    const double bound = judge(1.0, error * error, 100.0, z).epsilon;
    for (double t = -1.0; t <= 1.0; t += 0.01) {
      const double truth = 1.0 + t * z * error;
      CHECK(std::fabs(1.0 - truth) / truth <= bound * (1.0 + 1e-12));
    }
  }
}

TEST_CASE("no bound on the denominator where there is none", "[certify]") {
  const double z = 2.0;
  for (const judgement& j :
       {judge(1.0, 0.25, 100.0, z), judge(1.0, 4.0, 100.0, z), judge(1.0, infinity, 100.0, z),
        judge(0.0, 1.0, 100.0, z), judge(0.0, 0.0, 100.0, z), judge(std::nan(""), 1.0, 100.0, z),
        judge(1.0, std::nan(""), 100.0, z)}) {
    CHECK(j.epsilon == infinity);
    CHECK(j.bound == bound_kind::none);
  }
}

TEST_CASE("zero spread of few rows is no evidence for the denominator", "[certify]") {
  CHECK(judge(1.0, 0.0, 16.0, 2.0).epsilon == 0.0);
  CHECK(judge(1.0, 0.0, 16.0, 2.0).enough);
  for (const double few : {0.0, 1.0, 2.0, 15.0}) CHECK_FALSE(judge(1.0, 0.0, few, 2.0).enough);
}
