// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/numerator.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Size the budget asks of one head of scale 50 and squares S^2, from a base sample of `base` of n
/// rows.
index_t asked_size(const budget::numerator& policy, double s2, index_t n, index_t base) {
  fake_outlook look(1, n, base);
  look.state(0).numerator()[0] = 30.0;
  look.state(0).numerator()[3] = -40.0;
  look.squares(0, contribution::numerator) = s2;
  const decision next = policy.next(look);
  CHECK(next == (look.sizes()[0] > base ? decision::grow : decision::stop));
  return look.sizes()[0];
}

}  // namespace

TEST_CASE("the numerator budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::numerator(epsilon{0.1}, delta{0.05}), 0.1, 0.05,
                        quantity::numerator);
  check_budget_contract(budget::numerator(epsilon{0.3}, delta{0.2}, correction::finite_population),
                        0.3, 0.2, quantity::numerator);
}

TEST_CASE("the numerator budget is the least b >= (factor n sigma / (epsilon scale))^2",
          "[budget]") {
  const double factor = 1.6448536269514722;  // two-sided normal quantile at .1
  const budget::numerator plain(epsilon{0.1}, delta{0.1});
  const budget::numerator finite(epsilon{0.1}, delta{0.1}, correction::finite_population);
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

TEST_CASE("beyond .2 the numerator budget counts delta as .2", "[budget]") {
  const budget::numerator wide(epsilon{0.1}, delta{0.9}), at(epsilon{0.1}, delta{0.2});
  CHECK(asked_size(wide, 1e-6, 100000, 40) == asked_size(at, 1e-6, 100000, 40));
  CHECK(wide.coverage() == basis::measured_on_average);
}
