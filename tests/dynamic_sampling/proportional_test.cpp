// SPDX-License-Identifier: Apache-2.0
#include "vattention/dynamic_sampling/proportional.hpp"

#include "support/sampler_contract.hpp"
#include "vattention/base_sampling/proportional.hpp"
#include "vattention/top_k/cascade.hpp"

using namespace vattn;

namespace {

auto some() {
  return test::with_oracle(base_sampling::proportional(rows(20), 1, 20),
                           dynamic_sampling::proportional());
}

}  // namespace

TEST_CASE("dynamic proportional keeps the contract of samplers", "[sampling]") {
  SECTION("flat proposals") {
    test::check_sampler_contract(base_sampling::proportional(rows(20), 1, 20),
                                 dynamic_sampling::proportional(), top_k::oracle(rows(0)), 0.1F);
  }
  SECTION("a 1-bit code") {
    test::check_sampler_contract(base_sampling::proportional(rows(30), 1, 30),
                                 dynamic_sampling::proportional(), top_k::key_code(1, rows(0)),
                                 0.3F);
  }
  SECTION("two levels of one bit and two") {
    test::check_sampler_contract(base_sampling::proportional(rows(30), 1, 30),
                                 dynamic_sampling::proportional(), top_k::cascade(1, 2), 0.3F);
  }
}

TEST_CASE("sizes are expected rows of each head's own", "[sampling]") {
  test::sampling s(some(), 3);
  s.draw({5});
  for (int h = 0; h < 3; ++h) CHECK(s.size(h) == 20);
  s.grow_heads({20, 31, 25});
  CHECK(s.size(0) == 20);
  CHECK(s.size(1) == 31);
  CHECK(s.size(2) == 25);
  s.grow_heads({31, 10, 1000000});
  CHECK(s.size(0) == 31);
  CHECK(s.size(1) == 31);  // a smaller wish changes nothing
  CHECK(s.size(2) == s.residual());
  CHECK(s.drawn().size() == s.residual());
}

TEST_CASE("a growth by nothing changes nothing and has no fresh rows, in proportion too") {
  test::sampling s(some());
  s.draw({5});
  const std::vector<row_t> before = s.drawn_rows();
  const std::vector<threshold_t> thresholds = s.thresholds();
  s.grow(20);
  CHECK(s.drawn_rows() == before);
  CHECK(s.thresholds() == thresholds);
  CHECK(s.drawn().fresh() == s.drawn().size());
}

TEST_CASE("a growth raises the probabilities of rows drawn before", "[sampling]") {
  test::sampling s(some(), 1);
  s.draw({5});
  const std::vector<threshold_t> before = s.thresholds();
  s.grow(100);
  int raised = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    REQUIRE(s.thresholds()[i] >= before[i]);
    raised += s.thresholds()[i] > before[i] ? 1 : 0;
    REQUIRE((before[i] == certain || s.thresholds()[i] > before[i]));
  }
  CHECK(raised > 0);
}
