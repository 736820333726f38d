// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/output.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr index_t n = 100000;

/// A judgement of enough rows with a bound.
judgement bounded(double epsilon, double factor = 2.0) {
  return {epsilon, bound_kind::rank_quantile, true, factor};
}

/// One head that is not met, whose variance would suffice at about `wanted` rows.
fake_outlook one_head(index_t drawn, int look, double wanted, double factor = 2.0,
                      double asked = 0.1) {
  fake_outlook o(1, n, drawn);
  o.look_ = look;
  o.state(0).numerator()[0] = 3.0;
  o.state(0).numerator()[1] = 4.0;
  o.state(0).rows_total() = static_cast<double>(n);
  o.state(0).rows_sampled() = static_cast<double>(drawn);
  const double e = asked / (1.0 + asked);
  // factor n^2 (1/wanted - 1/n) S = e^2 ||N||^2
  o.squares(0, contribution::output) =
      e * e * 25.0 / factor / (1e10 * (1.0 / wanted - 1.0 / static_cast<double>(n)));
  o.judged(0) = bounded(2.0 * asked, factor);
  return o;
}

/// What is taken where so much is solved for: 5 % more.
constexpr index_t with_room(index_t size) { return size + size / 20; }

index_t next_size(const budget::output<>& policy, fake_outlook o) {
  REQUIRE(policy.next(o) == decision::grow);
  return o.sizes()[0];
}

}  // namespace

TEST_CASE("the output budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::output(epsilon{0.1}, delta{0.05}), 0.1, 0.05, quantity::output);
  check_budget_contract(budget::output(epsilon{0.3}, delta{0.2}, at_most(rows(500))), 0.3, 0.2,
                        quantity::output);
}

TEST_CASE("the next size solves factor V(b) = (epsilon / (1 + epsilon) ||N||)^2, and 5 % more",
          "[budget]") {
  for (const double asked : {0.02, 0.1, 0.3})
    for (const double factor : {1.3, 6.0})
      for (const double wanted : {1200.0, 2000.0, 3900.0}) {
        CAPTURE(asked, factor, wanted);
        const budget::output policy(epsilon{asked}, delta{0.1});
        const index_t got = next_size(policy, one_head(1000, 1, wanted, factor, asked));
        CHECK(std::abs(got - with_room(static_cast<index_t>(wanted))) <= 2);
      }
}

TEST_CASE("the output budget grows by 1.15, then 1.5, and at most by 4", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  CHECK(next_size(policy, one_head(1000, 1, 1010.0)) == with_room(1150));
  CHECK(next_size(policy, one_head(1000, 1, 500.0)) == with_room(1150));
  for (const int look : {2, 3, 5}) {
    CAPTURE(look);
    CHECK(next_size(policy, one_head(1000, look, 1200.0)) == with_room(1500));
    CHECK(std::abs(next_size(policy, one_head(1000, look, 2500.0)) - with_room(2500)) <= 2);
    CHECK(next_size(policy, one_head(1000, look, 30000.0)) == with_room(4000));
  }
  CHECK(next_size(policy, one_head(1000, 1, 30000.0)) == with_room(4000));
  CHECK(next_size(policy, one_head(7, 1, 7.0)) == 9);  // ceil(1.15 x 7)
}

TEST_CASE("after six looks, or beyond 70 %, the output budget reads everything", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  fake_outlook sixth = one_head(1000, 6, 2000.0);
  CHECK(policy.next(sixth) == decision::read_all);
  fake_outlook fifth = one_head(1000, 5, 2000.0);
  CHECK(policy.next(fifth) == decision::grow);
  fake_outlook beyond = one_head(40000, 2, 66700.0);  // 5 % more: 70,035
  CHECK(policy.next(beyond) == decision::read_all);
  fake_outlook below = one_head(40000, 2, 66600.0);
  CHECK(policy.next(below) == decision::grow);
  CHECK(std::abs(below.sizes()[0] - with_room(66600)) <= 2);
}

TEST_CASE("what 70 % would not do even without inflation is read at once", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  for (const double inflation : {1.0, 1.5}) {
    CAPTURE(inflation);
    // Without inflation 80,000 rows are wanted, and 69,000.
    for (const auto& [wanted, hopeless] : {std::pair{80000.0, true}, {69000.0, false}}) {
      fake_outlook look = one_head(500, 1, wanted, 2.0);
      look.judged(0).factor = 2.0 * inflation;
      look.judged(0).inflation = inflation;
      CHECK(policy.next(look) == (hopeless ? decision::read_all : decision::grow));
      look.judged(0).enough = false;
      CHECK(policy.next(look) == decision::grow);
    }
  }
  // Under a limit there is no reading of everything: what the limit allows is drawn.
  fake_outlook limited = one_head(500, 1, 80000.0);
  CHECK(budget::output(epsilon{0.1}, delta{0.1}, at_most(rows(900))).next(limited) ==
        decision::grow);
  CHECK(limited.sizes()[0] > 700);
  CHECK(limited.sizes()[0] < 900);
}

TEST_CASE("with fewer than 16 uncertain rows the output budget doubles", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  for (const double epsilon : {0.0, 0.05, 5.0, infinity}) {
    fake_outlook few = one_head(12, 1, 5000.0);
    few.judged(0) = {epsilon, bound_kind::rank_quantile, false, 2.0};
    CHECK(policy.next(few) == decision::grow);
    CHECK(few.sizes()[0] == 24);
  }
}

TEST_CASE("a head that is met asks for nothing, one that is not grows the group", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  fake_outlook look(3, n, 1000);
  for (int h = 0; h < 3; ++h) look.judged(h) = bounded(0.1);
  CHECK(policy.next(look) == decision::stop);
  look.look_ = 6;
  CHECK(policy.next(look) == decision::stop);  // all met at the sixth look
  look.look_ = 1;
  look.judged(1) = bounded(0.1000001);
  look.state(1).numerator()[0] = 5.0;
  look.squares(1, contribution::output) =
      one_head(1000, 1, 30000.0).squares(0, contribution::output);
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == 1000);
  CHECK(look.sizes()[1] == with_room(4000));
  CHECK(look.sizes()[2] == 1000);
  look.judged(2) = {0.0, bound_kind::rank_quantile, false, 1.0};
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[2] == 2000);
}

TEST_CASE("without a bound the output budget grows by 4", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  for (const double s2 : {infinity, std::nan("")}) {
    fake_outlook look = one_head(1000, 1, 2000.0);
    look.judged(0) = {infinity, bound_kind::none, true, s2};
    look.squares(0, contribution::output) = s2;
    CHECK(policy.next(look) == decision::grow);
    CHECK(look.sizes()[0] == with_room(4000));
  }
  fake_outlook zero = one_head(1000, 1, 2000.0);
  zero.judged(0) = {infinity, bound_kind::none, true, 2.0};
  zero.state(0).numerator()[0] = zero.state(0).numerator()[1] = 0.0;
  CHECK(policy.next(zero) == decision::read_all);  // nothing is small relative to 0
}

TEST_CASE("a limit stops growth and shows in the status", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1}, at_most(rows(3000)));
  fake_outlook look = one_head(1000, 1, 30000.0);
  const auto allowed = [&] {
    return static_cast<index_t>(at_most(rows(3000)).growth(look) *
                                static_cast<double>(look.drawn(0)));
  };
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == allowed());
  CHECK(look.sizes()[0] > 2800);
  look = one_head(1000, 1, 1600.0);  // less is wanted than is allowed
  CHECK(policy.next(look) == decision::grow);
  CHECK(std::abs(look.sizes()[0] - with_room(1600)) <= 2);
  look = one_head(2900, 2, 30000.0);
  CHECK(policy.next(look) == decision::stop);
  look = one_head(1000, 5, 1600.0);  // the sixth look has all that is allowed
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == allowed());
  look = one_head(2000, 6, 30000.0);
  CHECK(policy.next(look) == decision::stop);
  look = one_head(5000, 1, 30000.0);  // the base sample may exceed the limit
  CHECK(policy.next(look) == decision::stop);

  const budget::output unbound(epsilon{0.1}, delta{0.1}, at_most(fraction(1.0)));
  look = one_head(60000, 2, 99000.0);
  CHECK(unbound.next(look) == decision::read_all);
}

TEST_CASE("a size grows until it can speak of the error asked for", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  fake_outlook look = one_head(1000, 1, 500.0);
  look.judged(0).least = 1.5 * 0.1 / 1.1 * 5.0;  // of ||o^|| = 5
  CHECK(policy.next(look) == decision::grow);
  CHECK(std::abs(look.sizes()[0] - 2251) <= 1);  // 1.5^2
  look.judged(0).least *= 10.0;
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == 4000);
}

TEST_CASE("the error asked for may be measured in values, or absolutely", "[budget]") {
  check_budget_contract(budget::output(epsilon_of_values{0.2}, delta{0.1}), 0.2, 0.1,
                        quantity::output);
  check_budget_contract(budget::output(absolute_error{7.0}, delta{0.1}), 7.0, 0.1,
                        quantity::output);
  // ||o^|| = 5: an absolute error of 5 x .1 / 1.1 is a relative one of .1.
  const double same = 5.0 * 0.1 / 1.1;
  fake_outlook look = one_head(1000, 1, 2000.0);
  look.judged(0).epsilon = 10.0;
  CHECK(budget::output(absolute_error{same}, delta{0.1}).next(look) == decision::grow);
  CHECK(std::abs(look.sizes()[0] - with_room(2000)) <= 2);
  look.state(0).rows_total() = 100.0;
  look.state(0).value_squares() = 100.0 * 64.0;
  CHECK(budget::output(epsilon_of_values{same / 8.0}, delta{0.1}).next(look) == decision::grow);
  CHECK(std::abs(look.sizes()[0] - with_room(2000)) <= 2);
}

TEST_CASE("the output budget's status", "[budget]") {
  const budget::output policy(epsilon{0.1}, delta{0.1});
  CHECK(policy.guarantees() == quantity::output);
  CHECK(policy.coverage() == basis::measured_per_row);
  CHECK(policy.end(bounded(0.1)) == status::met);
  CHECK(policy.end(bounded(0.1001)) == status::capped);
  CHECK(policy.end({0.01, bound_kind::rank_quantile, false, 1.0}) == status::sample_too_small);
  CHECK(policy.end({}) == status::sample_too_small);
}
