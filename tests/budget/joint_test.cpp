// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/joint.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// z with P(|Z| > z) = miss.
double two_sided(double miss) { return normal_upper_quantile(miss / 2.0); }

/// The least b, as a real number, for which some split of delta gives 2 (e1 + e2) <= epsilon, e2 < 1/2:
/// b = (2 (z1 r1 + z2 r2) / epsilon)^2 with r = n sigma / scale, minimised over many splits.
double closed_form(double epsilon, double delta, double n, double sigma_n, double norm,
                   double sigma_d, double d) {
  double least = std::numeric_limits<double>::infinity();
  for (int i = 1; i < 5000; ++i) {
    const double share = i / 5000.0;
    const double r1 = two_sided(delta * share) * n * sigma_n / norm;
    const double r2 = two_sided(delta * (1.0 - share)) * n * sigma_d / d;
    const double b = std::pow(2.0 * (r1 + r2) / epsilon, 2.0);
    least = std::min(least, std::max(b, std::pow(2.0 * r2, 2.0)));
  }
  return least;
}

index_t asked_size(const budget::joint& policy, double norm, double s2_n, double d, double s2_d,
                   index_t n, index_t base) {
  fake_outlook look(1, n, base);
  look.state(0).denominator() = d;
  look.state(0).numerator()[0] = 0.6 * norm;
  look.state(0).numerator()[3] = -0.8 * norm;
  look.squares(0, contribution::denominator) = s2_d;
  look.squares(0, contribution::numerator) = s2_n;
  const decision next = policy.next(look);
  CHECK(next == (look.sizes()[0] > base ? decision::grow : decision::stop));
  return look.sizes()[0];
}

}  // namespace

TEST_CASE("the joint budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::joint(epsilon{0.1}, delta{0.05}), 0.1, 0.05, quantity::output);
  check_budget_contract(budget::joint(epsilon{0.3}, delta{0.2}, correction::finite_population), 0.3,
                        0.2, quantity::output);
}

TEST_CASE("the joint budget is theorem 4.3's, to the steps of the split", "[budget]") {
  for (const double asked : {0.05, 0.3})
    for (const double miss : {0.05, 0.2})
      for (const double sigma_n : {1e-4, 2e-3})
        for (const double sigma_d : {1e-5, 1e-3}) {
          CAPTURE(asked, miss, sigma_n, sigma_d);
          const index_t n = 100000;
          const double b = closed_form(asked, miss, 1e5, sigma_n, 300.0, sigma_d, 150.0);
          const budget::joint plain(epsilon{asked}, delta{miss});
          const budget::joint finite(epsilon{asked}, delta{miss}, correction::finite_population);
          const auto got = static_cast<double>(
              asked_size(plain, 300.0, sigma_n * sigma_n, 150.0, sigma_d * sigma_d, n, 20));
          const auto got_finite = static_cast<double>(
              asked_size(finite, 300.0, sigma_n * sigma_n, 150.0, sigma_d * sigma_d, n, 20));
          // never fewer rows than the theorem, and at most 4 % more
          const double want = std::min(1e5, std::max(20.0, b));
          CHECK(got >= want * (1.0 - 1e-6));
          CHECK(got <= std::min(1e5, 1.04 * want + 1.0));
          const double reduced = std::max(20.0, b / (1.0 + b / 1e5));
          CHECK(got_finite >= reduced * (1.0 - 1e-6));
          CHECK(got_finite <= 1.04 * reduced + 1.0);
        }
}

TEST_CASE("the joint budget looks once, and never asks for less than there is", "[budget]") {
  const budget::joint policy(epsilon{0.1}, delta{0.1});
  fake_outlook look(2, 10000, 100);
  look.squares(1, contribution::numerator) = 1.0;
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == 100);
  CHECK(look.sizes()[1] == 10000);
  look.look_ = 2;
  CHECK(policy.next(look) == decision::stop);
}

TEST_CASE("the joint budget asks for everything where no size would do", "[budget]") {
  const budget::joint policy(epsilon{0.1}, delta{0.1});
  CHECK(asked_size(policy, 0.0, 1e-4, 1.0, 1e-4, 5000, 50) == 5000);
  CHECK(asked_size(policy, 1.0, std::nan(""), 1.0, 1e-4, 5000, 50) == 5000);
  CHECK(asked_size(policy, 1.0, 1e-4, std::nan(""), 1e-4, 5000, 50) == 5000);
}

TEST_CASE("the joint budget's status", "[budget]") {
  const budget::joint policy(epsilon{0.1}, delta{0.1});
  CHECK(policy.guarantees() == quantity::output);
  CHECK(policy.coverage() == basis::measured_on_average);
  judgement j{0.1, bound_kind::joint_normal, true, 0.0};
  CHECK(policy.end(j) == status::met);
  j.epsilon = 0.1001;
  CHECK(policy.end(j) == status::not_met);
  j.enough = false;
  CHECK(policy.end(j) == status::sample_too_small);
}

TEST_CASE("the tight form keeps the contract, and needs about a quarter of the rows", "[budget]") {
  check_budget_contract(
      budget::joint(epsilon{0.1}, delta{0.05}, correction::none, joint_form::tight), 0.1, 0.05,
      quantity::output);
  const budget::joint paper(epsilon{0.1}, delta{0.1});
  const budget::joint tight(epsilon{0.1}, delta{0.1}, correction::none, joint_form::tight);
  const auto rows_of = [](const budget::joint& policy) {
    return static_cast<double>(asked_size(policy, 300.0, 1e-8, 150.0, 1e-9, 1000000, 20));
  };
  // 2 x = .1 against x (1 + .1 share) = .1, x the sum of both errors: 4 / 1.1^2 with all in the
  // numerator.
  CHECK(rows_of(paper) / rows_of(tight) > 3.2);
  CHECK(rows_of(paper) / rows_of(tight) < 3.7);
}
