// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/softmax_sums.hpp"

#include <cstring>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr double no_number = std::numeric_limits<double>::quiet_NaN();

/// Sums of two heads with values of three coordinates, in memory of their own.
struct owned {
  std::vector<double> numbers =
      std::vector<double>(static_cast<std::size_t>(softmax_sums::doubles(2, 3)), -7.0);
  softmax_sums sums{numbers.data(), 2, 3};
  owned() { sums.clear(); }
  owned(const owned&) = delete;
  owned& operator=(const owned&) = delete;

  /// A row of logit l and value v (1, 2, 3), by the formula.
  void add(int h, double l, double v) {
    if (l > sums.max(h)) sums.raise(h, l);
    const double w = std::exp(l - sums.max(h));
    sums.sum(h) += w;
    for (int j = 0; j < 3; ++j) sums.numerator(h)[j] += w * v * (j + 1);
  }
};

}  // namespace

TEST_CASE("sums of no row, with and without learned sinks") {
  const owned s;
  for (int h = 0; h < 2; ++h) {
    CHECK(s.sums.max(h) == -infinity);
    CHECK(s.sums.sum(h) == 0.0);
    for (int j = 0; j < 3; ++j) CHECK(s.sums.numerator(h)[j] == 0.0);
  }
  const float sinks[2] = {2.5F, -std::numeric_limits<float>::infinity()};
  s.sums.clear(sinks);
  CHECK(s.sums.max(0) == 2.5);
  CHECK(s.sums.sum(0) == 1.0);
  CHECK(s.sums.max(1) == -infinity);
  CHECK(s.sums.sum(1) == 0.0);
  const float bad[2] = {std::numeric_limits<float>::infinity(), std::nanf("")};
  s.sums.clear(bad);
  CHECK(std::isnan(s.sums.sum(0)));
  CHECK(std::isnan(s.sums.sum(1)));
}

TEST_CASE("merged sums are those of all rows, whichever has the larger maximum") {
  for (const double shift : {-30.0, 0.0, 30.0, 2000.0}) {
    owned all, a, b;
    for (int i = 0; i < 20; ++i)
      for (int h = 0; h < 2; ++h) {
        const double l = std::sin(3.0 * i + h);
        owned& half = i < 9 ? a : b;
        half.add(h, l + (i < 9 ? 0.0 : shift), 1.0 + i);
        all.add(h, l + (i < 9 ? 0.0 : shift), 1.0 + i);
      }
    a.sums.merge(b.sums);
    for (int h = 0; h < 2; ++h) {
      CAPTURE(shift, h);
      CHECK(a.sums.max(h) == all.sums.max(h));
      CHECK(a.sums.sum(h) == Approx(all.sums.sum(h)).epsilon(1e-14));
      for (int j = 0; j < 3; ++j)
        CHECK(a.sums.numerator(h)[j] == Approx(all.sums.numerator(h)[j]).epsilon(1e-14));
    }
  }
}

TEST_CASE("merging with nothing changes no bit") {
  owned a, nothing, copy;
  for (int i = 0; i < 9; ++i)
    for (int h = 0; h < 2; ++h) a.add(h, std::cos(i + 0.5 * h), 0.3 * i - 1.0);
  const std::vector<double> before = a.numbers;
  a.sums.merge(nothing.sums);
  CHECK(std::memcmp(a.numbers.data(), before.data(), sizeof(double) * before.size()) == 0);
  copy.sums.merge(a.sums);
  CHECK(std::memcmp(copy.numbers.data(), before.data(), sizeof(double) * before.size()) == 0);
  nothing.sums.clear();
  owned empty;
  empty.sums.merge(nothing.sums);
  CHECK(empty.sums.max(0) == -infinity);
  CHECK(empty.sums.sum(0) == 0.0);
  CHECK(empty.sums.numerator(1)[2] == 0.0);
}

TEST_CASE("what is not a number stays so through any merge") {
  for (const bool first : {true, false}) {
    owned bad, good;
    good.add(0, 5.0, 1.0);
    bad.sums.sum(0) = no_number;           // no finite logit at all
    bad.sums.numerator(1)[1] = no_number;  // of a row that weighs nothing
    (first ? bad : good).sums.merge((first ? good : bad).sums);
    const softmax_sums& merged = (first ? bad : good).sums;
    CHECK(std::isnan(merged.sum(0)));
    CHECK(merged.max(0) == 5.0);
    CHECK(std::isnan(merged.numerator(1)[1]));
    CHECK(merged.numerator(1)[0] == 0.0);
  }
}
