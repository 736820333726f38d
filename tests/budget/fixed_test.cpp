// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/fixed.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("the fixed budget keeps the contract of budgets", "[budget]") {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  check_budget_contract(budget::fixed(rows(300)), none, 0.1, quantity::output);
  check_budget_contract(budget::fixed(fraction(0.25), delta{0.3}), none, 0.3, quantity::output);
}

TEST_CASE("the fixed budget draws what it was told, once", "[budget]") {
  for (const auto& [size, want] : {std::pair{rows(300), 300}, {fraction(0.25), 2500}}) {
    fake_outlook look(2, 10000, 100);
    const budget::fixed policy(size);
    CHECK(policy.next(look) == decision::grow);
    CHECK(look.sizes()[0] == want);
    CHECK(look.sizes()[1] == want);
    look.look_ = 2;
    look.drawn_ = want;
    CHECK(policy.next(look) == decision::stop);
  }
}

TEST_CASE("the fixed budget keeps a larger base sample, and stays within the residual",
          "[budget]") {
  fake_outlook look(1, 10000, 500);
  CHECK(budget::fixed(rows(300)).next(look) == decision::stop);
  CHECK(look.sizes()[0] == 500);
  CHECK(budget::fixed(rows(20000)).next(look) == decision::grow);
  CHECK(look.sizes()[0] == 10000);
}

TEST_CASE("the fixed budget asks nothing, so it never says met", "[budget]") {
  const budget::fixed policy(rows(300));
  CHECK(std::isnan(policy.asked()));
  CHECK(policy.delta() == 0.1);
  CHECK(policy.end({0.001, bound_kind::rank_quantile, true, 1.0}) == status::no_target);
  CHECK(policy.end({0.001, bound_kind::rank_quantile, false, 1.0}) == status::sample_too_small);
  CHECK(policy.end({}) == status::sample_too_small);
}
