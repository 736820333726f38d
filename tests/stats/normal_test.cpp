// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/normal.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace vattn;

namespace {

struct point {
  double x, y;
};

// Recipe (mpmath, mp.dps = 60): findroot(lambda z: log(erfc(z / sqrt(2)) / 2) - log(tail), start)
// at the double nearest to each tail.
constexpr point quantiles[] = {
    {1e-300, 37.047096299361199}, {1e-200, 30.205594179579643}, {1e-100, 21.273453560965324},
    {1e-50, 14.933337534788489},  {1e-30, 11.464024688443616},  {1e-20, 9.2623400897984076},
    {1e-15, 7.9413453261709968},  {1e-12, 7.0344838253011319},  {1e-11, 6.7060231554951363},
    {1e-10, 6.3613409024040562},  {1e-9, 5.9978070150076869},   {1e-8, 5.6120012441747887},
    {1e-6, 4.753424308822899},    {1e-5, 4.2648907939228246},   {1e-4, 3.7190164854556806},
    {1e-3, 3.0902323061678135},   {0.005, 2.5758293035489008},  {0.01, 2.3263478740408411},
    {0.025, 1.9599639845400542},  {0.05, 1.6448536269514727},   {0.075, 1.4395314709384559},
    {0.1, 1.2815515655446004},    {0.2, 0.84162123357291417},   {0.25, 0.67448975019608174},
    {0.4, 0.25334710313579974},   {0.49, 0.025068908258711058}, {0.4999999, 2.5066282747031065e-7},
    {0.6, -0.25334710313579974},  {0.9, -1.2815515655446006},   {0.999, -3.0902323061678133}};

// Recipe: erfc(mpf(z) / sqrt(2)) / 2.
constexpr point tails[] = {
    {-5, 0.99999971334842812},    {-1, 0.84134474606854295},     {0.5, 0.3085375387259869},
    {1, 0.15865525393145705},     {2, 0.022750131948179207},     {3, 0.0013498980316300945},
    {5, 2.8665157187919391e-7},   {8, 6.2209605742717841e-16},   {12, 1.776482112077679e-33},
    {20, 2.7536241186062337e-89}, {30, 4.9067139271481871e-198}, {37, 5.7255712225245768e-300}};

}  // namespace

TEST_CASE("the normal quantile is right to 14 digits", "[normal]") {
  for (const point& p : quantiles) {
    CAPTURE(p.x);
    CHECK(std::abs(normal_upper_quantile(p.x) / p.y - 1.0) < 1e-14);
  }
  CHECK(normal_upper_quantile(0.5) == 0.0);
}

TEST_CASE("the normal tail keeps its digits far out", "[normal]") {
  for (const point& p : tails) {
    CAPTURE(p.x);
    CHECK(std::abs(normal_upper_tail(p.x) / p.y - 1.0) < (3.0 + p.x * p.x) * 1e-15);
  }
  CHECK(std::isnan(normal_upper_tail(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("tail and quantile invert each other", "[normal]") {
  // d log(tail) = -(z + 1/z ...) dz, so an error in z of 1e-14 shows as z^2 1e-14 in the tail.
  for (double tail = 0.4; tail > 1e-290; tail *= 0.37) {
    CAPTURE(tail);
    const double z = normal_upper_quantile(tail);
    CHECK(std::abs(normal_upper_tail(z) / tail - 1.0) < (1.0 + z * z) * 2e-14);
  }
}

TEST_CASE("the normal quantile falls as the tail grows", "[normal]") {
  double before = std::numeric_limits<double>::infinity();
  for (double tail = 1e-300; tail < 1.0; tail *= 1.0007) {
    const double z = normal_upper_quantile(tail);
    REQUIRE(z < before);
    before = z;
  }
  // Across the seams of the three approximations, in steps of 1e-12.
  for (const double seam : {std::exp(-25.0), 0.075, 0.925})
    for (int step = -100; step < 100; ++step) {
      const double tail = seam * (1.0 + step * 1e-12);
      REQUIRE(normal_upper_quantile(tail * (1.0 + 1e-12)) < normal_upper_quantile(tail));
    }
}

TEST_CASE("the normal quantile outside (0, 1) is NaN", "[normal]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double tail : {0.0, 1.0, -0.1, 1.5, nan, std::numeric_limits<double>::infinity()})
    CHECK(std::isnan(normal_upper_quantile(tail)));
  CHECK(std::isfinite(normal_upper_quantile(std::numeric_limits<double>::denorm_min())));
}
