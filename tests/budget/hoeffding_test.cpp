// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/hoeffding.hpp"

#include "support/budget_contract.hpp"
#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// A head of n residual rows with weights within [0, width] and D >= floor.
fake_outlook one_head(index_t n, double width, double floor, index_t drawn = 40) {
  fake_outlook look(1, n, drawn);
  const partial_view s = look.state(0);
  s.ceiling() = s.max_logit() = 2.0;
  s.ceiling() += std::log(width);
  s.floor() = floor;
  s.denominator() = 1.5 * floor;
  s.rows_total() = static_cast<double>(n + 70);
  s.rows_exact() = 70.0;
  s.rows_sampled() = static_cast<double>(drawn);
  s.uncertain() = static_cast<double>(drawn);
  s.sampled_shards() = 1.0;
  return look;
}

}  // namespace

TEST_CASE("the hoeffding budget keeps the contract of budgets", "[budget]") {
  check_budget_contract(budget::hoeffding(epsilon{0.1}, delta{0.05}), 0.1, 0.05,
                        quantity::denominator);
  check_budget_contract(budget::hoeffding(epsilon{0.3}, delta{0.2}, correction::finite_population),
                        0.3, 0.2, quantity::denominator);
}

TEST_CASE("the hoeffding budget is the least b of its inequality", "[budget]") {
  const budget::hoeffding plain(epsilon{0.1}, delta{0.1});
  const budget::hoeffding finite(epsilon{0.1}, delta{0.1}, correction::finite_population);
  for (const double width : {1e-3, 5e-3, 0.02}) {
    fake_outlook look = one_head(100000, width, 100.0);
    const double b = std::pow(1e5 * width / 10.0, 2.0) * std::log(20.0) / 2.0;
    CAPTURE(width, b);
    const decision next = plain.next(look);
    CHECK(next == decision::grow);
    CHECK(std::fabs(static_cast<double>(look.sizes()[0]) - std::min(1e5, std::ceil(b))) <= 1.0);
    if (b < 4e4) {
      finite.next(look);
      // b' = b (1 - (b' - 1) / n)
      CHECK(std::fabs(static_cast<double>(look.sizes()[0]) -
                      std::ceil(b * (1.0 + 1e-5) / (1.0 + b / 1e5))) <= 1.0);
    }
    look.look_ = 2;
    CHECK(plain.next(look) == decision::stop);
  }
}

TEST_CASE("what the hoeffding budget asks for does not depend on the sample", "[budget]") {
  const budget::hoeffding policy(epsilon{0.1}, delta{0.1});
  fake_outlook look = one_head(100000, 5e-3, 100.0);
  policy.next(look);
  const index_t size = look.sizes()[0];
  look.state(0).denominator() = 1e9;
  look.state(0).denominator_variance() = 1e9;
  look.squares(0, contribution::denominator) = 1e9;
  policy.next(look);
  CHECK(look.sizes()[0] == size);
  look.state(0).rescale(7.0);  // another unit, as a larger sampled logit sets it
  policy.next(look);
  CHECK(std::abs(look.sizes()[0] - size) <= 1);
}

TEST_CASE("the hoeffding budget is met by the size it asked for", "[budget]") {
  for (const correction finite : {correction::none, correction::finite_population}) {
    const budget::hoeffding policy(epsilon{0.1}, delta{0.1}, finite);
    workspace ws;
    fake_outlook look = one_head(100000, 2e-3, 100.0);
    policy.next(look);
    fake_outlook grown = one_head(100000, 2e-3, 100.0, look.sizes()[0]);
    const judgement j = policy.judge(grown.state(0), ws);
    CHECK(j.epsilon <= 0.1);
    CHECK(j.bound ==
          (finite == correction::none ? bound_kind::hoeffding : bound_kind::hoeffding_serfling));
    CHECK(policy.end(j) == status::met);
    grown.state(0).sampled_shards() = 2.0;
    CHECK(policy.end(policy.judge(grown.state(0), ws)) == status::not_met);
  }
}

TEST_CASE("without a ceiling or a floor the hoeffding budget asks for everything", "[budget]") {
  const budget::hoeffding policy(epsilon{0.1}, delta{0.1});
  for (const auto& [width, floor] :
       {std::pair{infinity, 1.0}, {1e-3, 0.0}, {1e-3, std::nan("")}, {std::nan(""), 1.0}}) {
    fake_outlook look = one_head(5000, width, floor);
    CHECK(policy.next(look) == decision::grow);
    CHECK(look.sizes()[0] == 5000);
  }
  CHECK(policy.coverage() == basis::proved);
}
