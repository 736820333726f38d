// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/chi_square.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Size the budget asks of one head of scale 50 and squares S^2, from a base sample of `base` of n
/// rows.
index_t asked_size(const budget::chi_square& policy, double s2, index_t n, index_t base) {
  fake_outlook look(1, n, base);
  look.state(0).denominator() = 50.0;
  look.squares(0, contribution::denominator) = s2;
  const decision next = policy.next(look);
  CHECK(next == (look.sizes()[0] > base ? decision::grow : decision::stop));
  return look.sizes()[0];
}

}  // namespace

TEST_CASE("the chi_square budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::chi_square(epsilon{0.1}, delta{0.05}), 0.1, 0.05,
                        quantity::denominator);
  check_budget_contract(budget::chi_square(epsilon{0.3}, delta{0.2}, correction::finite_population),
                        0.3, 0.2, quantity::denominator);
}

TEST_CASE("the chi_square budget is the least b >= (factor n sigma / (epsilon scale))^2",
          "[budget]") {
  const double factor =
      1.9599639845400542 * std::sqrt(39.0 / chi_square_lower_quantile(0.05, 39.0));
  const budget::chi_square plain(epsilon{0.1}, delta{0.1});
  const budget::chi_square finite(epsilon{0.1}, delta{0.1}, correction::finite_population);
  for (const double sigma : {1e-4, 1e-3, 3e-3}) {
    CAPTURE(sigma);
    const double b = std::pow(factor * 1e5 * sigma / (0.1 * 50.0), 2.0);
    const double want = std::clamp(std::ceil(b), 40.0, 1e5);
    const double reduced = std::max(40.0, std::ceil(b / (1.0 + b / 1e5)));
    CHECK(std::fabs(static_cast<double>(asked_size(plain, sigma * sigma, 100000, 40)) - want) <= 1);
    CHECK(std::fabs(static_cast<double>(asked_size(finite, sigma * sigma, 100000, 40)) - reduced) <=
          1);
  }
  CHECK(asked_size(plain, std::nan(""), 5000, 40) == 5000);
}

TEST_CASE("the chi_square budget certifies with the limit of the whole sample", "[budget]") {
  const budget::chi_square policy(epsilon{0.1}, delta{0.1});
  workspace ws;
  partial p(4);
  p.view().denominator() = 2.0;
  p.view().denominator_variance() = 1e-4;
  p.view().uncertain() = 31.0;
  const judgement j = policy.judge(p.view(), ws);
  const double e =
      1.9599639845400542 * 0.005 * std::sqrt(30.0 / chi_square_lower_quantile(0.05, 30.0));
  CHECK(j.epsilon == Approx(e / (1.0 - e)));
  CHECK(j.bound == bound_kind::chi_square);
  CHECK(policy.coverage() == basis::measured_on_average);
}
