// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/empirical_bernstein.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// A head of n residual rows with weights within [0, width].
fake_outlook one_head(index_t n, double width, double denominator, index_t drawn, int look_at) {
  fake_outlook look(1, n, drawn);
  look.look_ = look_at;
  const partial_view s = look.state(0);
  s.max_logit() = 2.0;
  s.ceiling() = 2.0 + std::log(width);
  s.denominator() = denominator;
  s.rows_total() = static_cast<double>(n);
  s.rows_sampled() = static_cast<double>(drawn);
  s.uncertain() = static_cast<double>(drawn);
  s.looks() = look_at;
  s.sampled_shards() = 1.0;
  return look;
}

}  // namespace

TEST_CASE("the empirical_bernstein budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::empirical_bernstein(epsilon{0.1}, delta{0.05}), 0.1, 0.05,
                        quantity::denominator);
  check_budget_contract(
      budget::empirical_bernstein(epsilon{0.3}, delta{0.2}, correction::finite_population), 0.3,
      0.2, quantity::denominator);
}

TEST_CASE("the empirical_bernstein budget doubles until it is met", "[budget]") {
  const budget::empirical_bernstein policy(epsilon{0.1}, delta{0.1});
  fake_outlook look(3, 100000, 1000);
  for (int h = 0; h < 3; ++h) {
    look.state(h).rows_total() = 100000.0;
    look.state(h).max_logit() = look.state(h).ceiling() = 0.0;
    look.state(h).denominator() = 50000.0;
    look.judged(h) = {0.1, bound_kind::empirical_bernstein, true};
  }
  CHECK(policy.next(look) == decision::stop);
  look.judged(1).epsilon = 0.101;
  look.judged(2).enough = false;
  CHECK(policy.next(look) == decision::grow);
  CHECK(look.sizes()[0] == 1000);
  CHECK(look.sizes()[1] == 2000);
  CHECK(look.sizes()[2] == 2000);
}

TEST_CASE("the empirical_bernstein budget reads everything where sampling will not do",
          "[budget]") {
  const budget::empirical_bernstein policy(epsilon{0.1}, delta{0.1});
  fake_outlook good = one_head(10000, 1.0, 5000.0, 3000, 2);
  CHECK(policy.next(good) == decision::grow);
  fake_outlook late = one_head(10000, 1.0, 5000.0, 3600, 2);
  CHECK(policy.next(late) == decision::read_all);
  fake_outlook wide = one_head(10000, 1.0, 2.0, 100, 1);
  CHECK(policy.next(wide) == decision::read_all);
  fake_outlook unknown = one_head(10000, std::numeric_limits<double>::infinity(), 5e3, 100, 1);
  CHECK(policy.next(unknown) == decision::read_all);
}

TEST_CASE("the looks of the empirical_bernstein budget share delta", "[budget]") {
  workspace ws;
  for (const correction finite : {correction::none, correction::finite_population}) {
    const budget::empirical_bernstein policy(epsilon{0.1}, delta{0.1}, finite);
    for (const int k : {1, 2, 5}) {
      fake_outlook look = one_head(100000, 2.0, 5e4, 4000, k);
      const partial_view s = look.state(0);
      s.denominator_variance() = 1e10 * (1.0 / 4000.0 - 1e-5) * 0.01;
      const double share = 0.1 / (k * (k + 1));
      const double t = finite == correction::none
                           ? bernstein_deviation(range_of(s), weight_variance(s), share)
                           : bernstein_serfling_deviation(range_of(s), weight_variance(s), share);
      const judgement j = policy.judge(s, ws);
      CHECK(j.epsilon == Approx(t / (5e4 - t)));
      CHECK(j.bound == (finite == correction::none ? bound_kind::empirical_bernstein
                                                   : bound_kind::bernstein_serfling));
    }
    CHECK(policy.coverage() == basis::proved);
  }
}
