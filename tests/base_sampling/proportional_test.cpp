// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/proportional.hpp"

#include "support/sampler_contract.hpp"
#include "vattention/dynamic_sampling/proportional.hpp"
#include "vattention/top_k/cascade.hpp"

using namespace vattn;

TEST_CASE("base proportional keeps the contract of samplers", "[sampling]") {
  SECTION("exact weights") {
    test::check_sampler_contract(base_sampling::proportional(), dynamic_sampling::proportional(),
                                 top_k::oracle(rows(0)), 0.4F);
  }
  SECTION("a code of one level") {
    test::check_sampler_contract(base_sampling::proportional(rows(40), 1, 40),
                                 dynamic_sampling::proportional(), top_k::key_code(4, rows(0)),
                                 0.3F);
  }
  SECTION("codes of two levels") {
    test::check_sampler_contract(base_sampling::proportional(rows(40), 1, 40),
                                 dynamic_sampling::proportional(), top_k::cascade(2, 4), 0.3F);
  }
}

TEST_CASE("the expected size is a share of the residual within its limits") {
  const base_sampling::proportional usual;
  CHECK(usual.size(10) == 10);
  CHECK(usual.size(4000) == 64);
  CHECK(usual.size(8000) == 80);
  CHECK(usual.size(1000000) == 128);
  const base_sampling::proportional exactly(rows(100), 1, 1000);
  CHECK(exactly.size(4000) == 100);
}

TEST_CASE("limits out of order are refused") {
  CHECK_THROWS_WITH(
      base_sampling::proportional(rows(1), 0, 4),
      "vattention: base_sampling::proportional: want 1 <= at_least <= at_most, got 0, 4");
  CHECK_THROWS_WITH(
      base_sampling::proportional(rows(1), 9, 4),
      "vattention: base_sampling::proportional: want 1 <= at_least <= at_most, got 9, 4");
}

TEST_CASE("the mean size of a base sample is what it states, and heavy rows are certain") {
  const base_sampling::proportional base(rows(50), 1, 50);
  test::sampling s(test::with_oracle(base, dynamic_sampling::proportional()), 1);
  double rows_drawn = 0.0;
  double expected = 0.0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    s.draw({seed});
    rows_drawn += static_cast<double>(s.drawn().size()) / 400.0;
  }
  s.grow(s.residual());  // proposals of all rows
  s.draw({1});
  CHECK(rows_drawn == Approx(50.0).epsilon(0.08));
  for (const threshold_t threshold : s.thresholds()) expected += threshold == certain ? 1.0 : 0.0;
  CHECK(expected > 5.0);
}

TEST_CASE("an empty residual gives an empty draw, in proportion too") {
  test::sampling s(
      test::with_oracle(base_sampling::proportional(), dynamic_sampling::proportional()), 1, 8);
  s.draw({3});
  CHECK(s.residual() == 0);
  CHECK(s.drawn().size() == 0);
}
