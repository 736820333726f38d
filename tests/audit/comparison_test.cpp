// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/comparison.hpp"

#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// Logits of the weights 1, 2, 3, 4 and a masked row: masses .1, .2, .3, .4 and 0.
const std::vector<float> logits{std::log(1.0F), std::log(2.0F), std::log(3.0F), std::log(4.0F),
                                -std::numeric_limits<float>::infinity()};

exact_mass masses(const std::vector<row_t>& read, const std::vector<row_t>& fixed, index_t best) {
  std::vector<float> others(logits.size());
  return mass_read_exactly(logits, std::log(10.0), read, {}, fixed, best, others);
}

}  // namespace

TEST_CASE("masses are shares of the softmax", "[comparison]") {
  const exact_mass m = masses({0, 2}, {0}, 1);
  CHECK(m.covered == Approx(0.4));
  CHECK(m.attainable == Approx(0.5));  // the fixed row and the heaviest other
  CHECK(masses({}, {}, 2).covered == 0.0);
  CHECK(masses({}, {}, 2).attainable == Approx(0.7));
  CHECK(masses({0, 1, 2, 3, 4}, {3, 4}, 99).covered == Approx(1.0));
  CHECK(masses({0, 1, 2, 3, 4}, {3, 4}, 99).attainable == Approx(1.0));
  CHECK(masses({3}, {3}, 0).attainable == Approx(0.4));
}

TEST_CASE("rows drawn by predicted weight count, those of a uniform sample do not",
          "[comparison]") {
  std::vector<float> others(logits.size());
  const std::vector<row_t> drawn{3};
  CHECK(mass_read_exactly(logits, std::log(10.0), {}, drawn, {}, 1, others).covered == Approx(0.4));
  sample s;
  s.reset(10);
  CHECK(drawn_by_weight(s).empty());
  s.append(1, 1000U);
  s.append(2, 1000U);
  CHECK(drawn_by_weight(s).empty());
  s.append(3, certain);
  CHECK(drawn_by_weight(s).size() == 3);
}

TEST_CASE("what a perfect predictor may take", "[comparison]") {
  CHECK(predictable_rows(80, 1, 1000) == 80);
  CHECK(predictable_rows(81, 4, 1000) == 21);
  CHECK(predictable_rows(0, 1, 1000) == 10);
  CHECK(predictable_rows(0, 1, 1) == 1);
}

TEST_CASE("masses of a softmax that is not finite are unknown", "[comparison]") {
  std::vector<float> others(logits.size());
  for (const double bad : {-infinity, infinity, std::nan("")}) {
    const exact_mass m = mass_read_exactly(logits, bad, {}, {}, {}, 1, others);
    CHECK(std::isnan(m.covered));
    CHECK(std::isnan(m.attainable));
  }
}

TEST_CASE("relative distance of vectors", "[comparison]") {
  const float want[2] = {3.0F, 4.0F};
  const float got[2] = {3.0F, 4.5F};
  const float zero[2] = {0.0F, 0.0F};
  const float broken[2] = {std::nanf(""), 4.0F};
  CHECK(relative_distance(got, want, 2) == Approx(0.1));
  CHECK(relative_distance(want, want, 2) == 0.0);
  CHECK(relative_distance(zero, zero, 2) == 0.0);
  CHECK(relative_distance(want, zero, 2) == infinity);
  CHECK(std::isnan(relative_distance(broken, want, 2)));
  CHECK(std::isnan(relative_distance(want, broken, 2)));
  CHECK(output_error(got, want, 2, std::nan("")) == relative_distance(got, want, 2));
  CHECK(output_error(got, want, 2, 1.0) ==
        Approx(0.1 * std::hypot(static_cast<double>(want[0]), static_cast<double>(want[1]))));
  CHECK(output_error(got, want, 2, 0.5) == Approx(2.0 * output_error(got, want, 2, 1.0)));
  CHECK(output_error(want, want, 2, 0.0) == 0.0);
  CHECK(size_in_units(want, 2, std::nan("")) == 1.0);
  CHECK(size_in_units(want, 2, 2.0) ==
        Approx(0.5 * std::hypot(static_cast<double>(want[0]), static_cast<double>(want[1]))));
  CHECK(size_in_units(zero, 2, 0.0) == 0.0);
}

TEST_CASE("the denominator's error comes from logarithms", "[comparison]") {
  CHECK(vattn::denominator_error(std::log(9.0), std::log(10.0)) == Approx(0.1));
  CHECK(vattn::denominator_error(std::log(11.0), std::log(10.0)) == Approx(0.1));
  CHECK(vattn::denominator_error(-infinity, -infinity) == 0.0);
  CHECK(vattn::denominator_error(-infinity, 1.0) == 1.0);
  CHECK(std::isnan(vattn::denominator_error(std::nan(""), 1.0)));
}
