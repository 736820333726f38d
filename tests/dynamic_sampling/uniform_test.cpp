// SPDX-License-Identifier: Apache-2.0
#include "vattention/dynamic_sampling/uniform.hpp"

#include "support/sampler_contract.hpp"
#include "vattention/base_sampling/uniform.hpp"

using namespace vattn;

TEST_CASE("dynamic uniform keeps the contract of samplers", "[sampling]") {
  test::check_sampler_contract(base_sampling::uniform(rows(17)), dynamic_sampling::uniform());
}

TEST_CASE("a growth is the prefix of one permutation: the base sample is part of it") {
  test::sampling s(
      test::with_oracle(base_sampling::uniform(rows(20)), dynamic_sampling::uniform()));
  s.draw({5});
  const std::vector<row_t> base = s.drawn_rows();
  s.grow(90);
  CHECK(s.drawn().size() == 90);
  CHECK(s.drawn().fresh() == 20);
  CHECK(std::equal(base.begin(), base.end(), s.drawn_rows().begin()));
  for (const threshold_t threshold : s.thresholds())
    CHECK(threshold == threshold_of(90.0 / static_cast<double>(s.residual())));
}

TEST_CASE("every head gets what the neediest asked for, within the residual") {
  test::sampling s(test::with_oracle(base_sampling::uniform(rows(20)), dynamic_sampling::uniform()),
                   3);
  s.draw({5});
  s.grow_heads({20, 31, 25});
  CHECK(s.size(0) == 31);
  CHECK(s.size(1) == 31);
  CHECK(s.size(2) == 31);
  s.grow_heads({31, 31, 1000000});
  CHECK(s.drawn().size() == s.residual());
}

TEST_CASE("a growth by nothing changes nothing and has no fresh rows") {
  test::sampling s(
      test::with_oracle(base_sampling::uniform(rows(20)), dynamic_sampling::uniform()));
  s.draw({5});
  const std::vector<row_t> before = s.drawn_rows();
  s.grow(20);
  CHECK(s.drawn_rows() == before);
  CHECK(s.drawn().fresh() == s.drawn().size());
}

TEST_CASE("the variance at another size is n^2 (1/size - 1/n) mean(y^2)") {
  test::sampling s(test::with_oracle(base_sampling::uniform(rows(4)), dynamic_sampling::uniform()));
  s.draw({5});
  const contributions y{{}, 8.0};  // of 4 rows: mean 2
  const auto n = static_cast<double>(s.residual());
  CHECK(s.variance_at(y, 10, correction::finite_population) ==
        Approx(n * n * (0.1 - 1.0 / n) * 2.0).epsilon(1e-12));
  CHECK(s.variance_at(y, 10, correction::none) == Approx(n * n * 0.1 * 2.0).epsilon(1e-12));
  CHECK(s.variance_at(y, s.residual(), correction::finite_population) == 0.0);
}
