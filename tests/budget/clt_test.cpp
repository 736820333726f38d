// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/clt.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double z10 = 1.6448536269514722;  // two-sided normal quantile at .1

/// Size the budget asks of one head with D^ and S^2, from a base sample of `base` of n rows.
index_t asked_size(const budget::clt& policy, double d, double s2, index_t n, index_t base) {
  fake_outlook look(1, n, base);
  look.state(0).denominator() = d;
  look.squares(0, contribution::denominator) = s2;
  const decision next = policy.next(look);
  CHECK(next == (look.sizes()[0] > base ? decision::grow : decision::stop));
  return look.sizes()[0];
}

}  // namespace

TEST_CASE("the clt budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::clt(epsilon{0.1}, delta{0.05}), 0.1, 0.05, quantity::denominator);
  check_budget_contract(budget::clt(epsilon{0.3}, delta{0.2}, correction::finite_population), 0.3,
                        0.2, quantity::denominator);
}

TEST_CASE("the clt budget is the least b >= (z n sigma / (epsilon D))^2", "[budget]") {
  const budget::clt policy(epsilon{0.1}, delta{0.1});
  const index_t n = 100000;
  for (const double sigma : {1e-4, 1e-3, 3e-3})
    for (const double d : {50.0, 200.0}) {
      CAPTURE(sigma, d);
      const double b = std::pow(z10 * 1e5 * sigma / (0.1 * d), 2.0);
      const index_t want = std::clamp<index_t>(static_cast<index_t>(std::ceil(b)), 40, n);
      CHECK(std::abs(asked_size(policy, d, sigma * sigma, n, 40) - want) <= 1);
    }
}

TEST_CASE("with the finite population the clt budget is b / (1 + b / n)", "[budget]") {
  const budget::clt policy(epsilon{0.1}, delta{0.1}, correction::finite_population);
  const index_t n = 100000;
  for (const double sigma : {1e-4, 1e-3, 3e-3, 1e-1})
    for (const double d : {50.0, 200.0}) {
      CAPTURE(sigma, d);
      const double b = std::pow(z10 * 1e5 * sigma / (0.1 * d), 2.0);
      const double want = std::max(40.0, std::ceil(b / (1.0 + b / 1e5)));
      CHECK(std::fabs(static_cast<double>(asked_size(policy, d, sigma * sigma, n, 40)) - want) <=
            1);
    }
}

TEST_CASE("the clt budget is two-sided in delta", "[budget]") {
  for (const auto& [miss, z] : {std::pair{0.05, 1.959963984540054},
                                {0.1, z10},
                                {0.2, 1.2815515655446004},
                                {0.5, 0.6744897501960817},
                                {0.9, 0.12566134685507402}}) {
    const budget::clt policy(epsilon{0.05}, delta{miss});
    const double b = std::pow(z * 1e6 * 1e-3 / (0.05 * 100.0), 2.0);
    CHECK(std::fabs(static_cast<double>(asked_size(policy, 100.0, 1e-6, 1000000, 10)) -
                    std::ceil(b)) <= 1.0 + 1e-9 * b);
  }
}

TEST_CASE("the clt budget looks once and never shrinks", "[budget]") {
  const budget::clt policy(epsilon{0.1}, delta{0.1});
  fake_outlook look(3, 10000, 100);
  look.squares(1, contribution::denominator) = 1.0;  // asks for everything
  look.squares(2, contribution::denominator) = 1e-30;
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == 100);
  CHECK(look.sizes()[1] == 10000);
  CHECK(look.sizes()[2] == 100);
  look.look_ = 2;
  CHECK(policy.next(look) == decision::stop);
}

TEST_CASE("the clt budget asks for everything where nothing is known", "[budget]") {
  const budget::clt policy(epsilon{0.1}, delta{0.1});
  for (const double s2 : {std::numeric_limits<double>::infinity(), std::nan("")})
    CHECK(asked_size(policy, 1.0, s2, 5000, 50) == 5000);
  CHECK(asked_size(policy, std::nan(""), 1.0, 5000, 50) == 5000);
}

TEST_CASE("the clt budget's status", "[budget]") {
  const budget::clt policy(epsilon{0.1}, delta{0.1});
  CHECK(policy.guarantees() == quantity::denominator);
  CHECK(policy.coverage() == basis::measured_on_average);
  judgement j{0.1, bound_kind::normal, true, 0.0};
  CHECK(policy.end(j) == status::met);
  j.epsilon = 0.1001;
  CHECK(policy.end(j) == status::not_met);
  j.enough = false;
  CHECK(policy.end(j) == status::sample_too_small);
  j.epsilon = 0.01;
  CHECK(policy.end(j) == status::sample_too_small);
  workspace ws;
  partial p(4);
  p.view().denominator() = 2.0;
  p.view().denominator_variance() = 1e-4;
  p.view().uncertain() = 50.0;
  CHECK(policy.judge(p.view(), ws).epsilon == Approx(z10 * 0.005 / (1.0 - z10 * 0.005)));
}
