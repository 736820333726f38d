// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/moments.hpp"

#include <cmath>
#include <limits>
#include <vector>

#include "support/catch.hpp"
#include "vattention/core/rng.hpp"

using namespace vattn;

namespace {

moments of(const std::vector<double>& numbers, std::size_t first, std::size_t last) {
  moments m;
  for (std::size_t i = first; i < last; ++i) m.add(numbers[i]);
  return m;
}

std::vector<double> uniforms(std::size_t count, double shift) {
  const random_stream stream({}, 1);
  std::vector<double> out;
  for (std::size_t i = 0; i < count; ++i) out.push_back(shift + stream.u32(i) * 0x1p-32);
  return out;
}

}  // namespace

TEST_CASE("moments of a few numbers", "[moments]") {
  const moments m = of({2, 4, 4, 4, 5, 5, 7, 9}, 0, 8);
  CHECK(m.count() == 8);
  CHECK(m.mean() == Approx(5.0).epsilon(1e-15));
  CHECK(m.variance() == Approx(32.0 / 7).epsilon(1e-15));
  CHECK(m.standard_error() == Approx(std::sqrt(32.0 / 7 / 8)).epsilon(1e-15));
}

TEST_CASE("moments with too few numbers are NaN", "[moments]") {
  moments m;
  CHECK(m.count() == 0);
  CHECK(std::isnan(m.mean()));
  CHECK(std::isnan(m.variance()));
  m.add(3.0);
  CHECK(m.mean() == 3.0);
  CHECK(std::isnan(m.variance()));
  CHECK(std::isnan(m.standard_error()));
  m.add(3.0);
  CHECK(m.variance() == 0.0);
  CHECK(m.standard_error() == 0.0);
}

TEST_CASE("moments keep their digits far from zero", "[moments]") {
  // Shifting by 2^27 loses 27 of the 53 bits of every number, not of the variance: n kappa u is
  // 1000 x 4.6e8 x 1.1e-16 = 5e-5 in the worst case, sqrt(n) of it in practice.
  const moments near = of(uniforms(1000, 0.0), 0, 1000);
  const moments far = of(uniforms(1000, 0x1p27), 0, 1000);
  CHECK(far.variance() == Approx(near.variance()).epsilon(2e-6));
  CHECK(far.mean() - 0x1p27 == Approx(near.mean()).epsilon(1e-6));
}

TEST_CASE("merged moments are those of the whole", "[moments]") {
  const std::vector<double> x = uniforms(1000, 5.0);
  const moments whole = of(x, 0, 1000);
  for (const std::size_t cut : {0U, 1U, 10U, 500U, 999U, 1000U}) {
    CAPTURE(cut);
    moments merged = of(x, 0, cut);
    merged.merge(of(x, cut, 1000));
    CHECK(merged.count() == 1000);
    CHECK(merged.mean() == Approx(whole.mean()).epsilon(1e-14));
    CHECK(merged.variance() == Approx(whole.variance()).epsilon(1e-13));
  }
  moments shards;
  for (std::size_t i = 0; i < 10; ++i) shards.merge(of(x, 100 * i, 100 * i + 100));
  CHECK(shards.variance() == Approx(whole.variance()).epsilon(1e-13));
  moments nothing;
  nothing.merge(moments{});
  CHECK(nothing.count() == 0);
  CHECK(std::isnan(nothing.mean()));
}

TEST_CASE("the standard error is that of the mean", "[moments]") {
  // Means of 100 uniforms have a standard deviation of sqrt(1/12)/10 = .02887; its estimate from
  // 500 of them is off by more than 16 % with odds of 1e-6.
  const std::vector<double> x = uniforms(50000, 0.0);
  moments means;
  moments errors;
  for (std::size_t i = 0; i < 500; ++i) {
    const moments part = of(x, 100 * i, 100 * i + 100);
    means.add(part.mean());
    errors.add(part.standard_error());
  }
  CHECK(std::sqrt(means.variance()) == Approx(0.02887).epsilon(0.16));
  CHECK(errors.mean() == Approx(0.02887).epsilon(0.02));
}

TEST_CASE("a number that is not finite shows for good", "[moments]") {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    moments m = of({1, 2, 3}, 0, 3);
    m.add(bad);
    m.add(4.0);
    CHECK(!std::isfinite(m.mean()));
    CHECK(std::isnan(m.variance()));
  }
}
