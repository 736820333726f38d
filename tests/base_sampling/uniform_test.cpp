// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/uniform.hpp"

#include "support/sampler_contract.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"

using namespace vattn;

TEST_CASE("base uniform keeps the contract of samplers", "[sampling]") {
  SECTION("a share") {
    test::check_sampler_contract(base_sampling::uniform(fraction(0.1)),
                                 dynamic_sampling::uniform());
  }
  SECTION("rows") {
    test::check_sampler_contract(base_sampling::uniform(rows(40)), dynamic_sampling::uniform());
  }
  SECTION("at least so many") {
    test::check_sampler_contract(base_sampling::uniform(fraction(0.001), 24),
                                 dynamic_sampling::uniform());
  }
}

TEST_CASE("the size is the larger of share and floor, within the residual") {
  const base_sampling::uniform share(fraction(0.01), 32);
  CHECK(share.size(100) == 32);
  CHECK(share.size(3200) == 32);
  CHECK(share.size(3201) == 33);
  CHECK(share.size(100000) == 1000);
  CHECK(share.size(31) == 31);
  CHECK(share.size(0) == 0);
  CHECK(base_sampling::uniform(rows(50)).size(1000) == 50);
  CHECK(base_sampling::uniform(rows(0)).size(1000) == 0);
  CHECK(base_sampling::uniform(fraction(1.0)).size(77) == 77);
}

TEST_CASE("a base sample has the size it states and equal probabilities") {
  const base_sampling::uniform base(rows(48));
  test::sampling s(test::with_oracle(base, dynamic_sampling::uniform()));
  s.draw({3});
  CHECK(s.drawn().size() == 48);
  const double p = 48.0 / static_cast<double>(s.residual());
  for (const threshold_t threshold : s.thresholds())
    CHECK(std::fabs(probability(threshold) - p) <= 0x1p-33);
}

TEST_CASE("an empty residual gives an empty draw") {
  const base_sampling::uniform base(rows(48));
  test::sampling s(test::with_oracle(base, dynamic_sampling::uniform()), 1,
                   8);  // the 8 visible rows are all exact
  s.draw({3});
  CHECK(s.residual() == 0);
  CHECK(s.drawn().size() == 0);
}

TEST_CASE("a negative floor is refused") {
  CHECK_THROWS_WITH(base_sampling::uniform(rows(1), -1),
                    "vattention: base_sampling::uniform: want at_least >= 0, got -1");
}
