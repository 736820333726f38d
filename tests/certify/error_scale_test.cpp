// SPDX-License-Identifier: Apache-2.0
#include "vattention/certify/error_scale.hpp"

#include "support/catch.hpp"

using namespace vattn;

namespace {

/// D^ = 4, ||o^|| = 5, and 9 as the mean of ||v||^2 over 100 rows.
partial made_up() {
  partial p(3);
  p.view().denominator() = 4.0;
  p.view().numerator()[0] = 12.0;
  p.view().numerator()[2] = -16.0;
  p.view().rows_total() = 100.0;
  p.view().value_squares() = 900.0;
  return p;
}

template <error_scale Scale>
void check_inverse(std::initializer_list<double> asked) {
  partial p = made_up();
  for (const double a : asked)
    CHECK(in_units<Scale>(p.view(), largest_error<Scale>(p.view(), a)) == Approx(a));
}

}  // namespace

TEST_CASE("an error in the units of each scale") {
  partial p = made_up();
  CHECK(in_units<error_scale::output>(p.view(), 1.0) == Approx(1.0 / 4.0));  // / (||o^|| - 1)
  CHECK(in_units<error_scale::values>(p.view(), 1.5) == Approx(0.5));
  CHECK(in_units<error_scale::absolute>(p.view(), 1.5) == 1.5);
  CHECK(std::isnan(unit_of<error_scale::output>(p.view())));
  CHECK(unit_of<error_scale::values>(p.view()) == Approx(3.0));
  CHECK(unit_of<error_scale::absolute>(p.view()) == 1.0);
}

TEST_CASE("the largest error is the inverse of the units") {
  check_inverse<error_scale::output>({1e-3, 0.1, 0.9});
  check_inverse<error_scale::values>({1e-3, 0.1, 0.9});
  check_inverse<error_scale::absolute>({1e-3, 0.1, 50.0});
}

TEST_CASE("an error in units is no number below what it may be") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  partial p = made_up();
  for (const double error : {5.0, 7.0, infinity, std::nan("")})  // ||o|| may be 0
    CHECK(in_units<error_scale::output>(p.view(), error) == infinity);
  for (const double error : {infinity, std::nan("")}) {
    CHECK(in_units<error_scale::values>(p.view(), error) == infinity);
    CHECK(in_units<error_scale::absolute>(p.view(), error) == infinity);
  }
  for (const double squares : {0.0, -1.0, std::nan("")}) {
    p.view().value_squares() = squares;
    CHECK(in_units<error_scale::values>(p.view(), 1.0) == infinity);
    CHECK(in_units<error_scale::values>(p.view(), 0.0) == 0.0);
  }
  p.view().numerator()[0] = p.view().numerator()[2] = 0.0;
  CHECK(in_units<error_scale::output>(p.view(), 0.0) == infinity);  // nothing is small beside 0
  CHECK(in_units<error_scale::absolute>(p.view(), 0.0) == 0.0);
}

TEST_CASE("shards add up to the root mean square of all values") {
  partial p = made_up();
  partial other(3);
  other.view().rows_total() = 300.0;
  other.view().value_squares() = 300.0 * 25.0;
  p.view().merge(other.view());
  CHECK(unit_of<error_scale::values>(p.view()) == Approx(std::sqrt((900.0 + 7500.0) / 400.0)));
}
