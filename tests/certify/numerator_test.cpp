// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/numerator.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("the numerator's bound is e / (1 - e)", "[certify]") {
  partial p(2);
  const partial_view s = p.view();
  s.numerator()[0] = 3.0;
  s.numerator()[1] = -4.0;
  s.numerator_variance() = 0.25;
  s.uncertain() = 16.0;
  CHECK(numerator_norm(s) == 5.0);
  const judgement j = bound_numerator(s, 2.0);
  CHECK(j.epsilon == Approx(0.2 / 0.8));
  CHECK(j.bound == bound_kind::normal);
  CHECK(j.enough);
  s.uncertain() = 15.0;
  CHECK_FALSE(bound_numerator(s, 2.0).enough);
  for (const double variance : {6.25, 1e9, std::numeric_limits<double>::infinity(), std::nan("")}) {
    s.numerator_variance() = variance;
    CHECK(bound_numerator(s, 2.0).bound == bound_kind::none);
    CHECK(std::isinf(bound_numerator(s, 2.0).epsilon));
  }
}
