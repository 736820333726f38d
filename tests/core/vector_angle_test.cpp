// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/vector_angle.hpp"

#include <vector>

#include "support/catch.hpp"
#include "vattention/core/rng.hpp"

using namespace vattn;

namespace {

constexpr double pi = std::numbers::pi;

double angle(const std::vector<float>& x, const std::vector<float>& y) {
  return angle_between(x.data(), y.data(), static_cast<index_t>(x.size()));
}

}  // namespace

TEST_CASE("angles in a plane are what they were made with, near 0 and pi as well") {
  // Integers, so that both vectors are exact: atan2 of their coordinates knows the angle.
  for (const float long_one : {1.0F, 1024.0F, 16777216.0F})
    for (const auto& [x, y] : {std::pair{1.0F, 0.0F},
                               {0.0F, 1.0F},
                               {-1.0F, 0.0F},
                               {3.0F, 4.0F},
                               {-long_one, 1.0F},
                               {long_one, 1.0F},
                               {long_one, -7.0F}}) {
      CAPTURE(x, y);
      const double wanted = std::fabs(std::atan2(static_cast<double>(y), static_cast<double>(x)));
      CHECK(std::fabs(angle({1.0F, 0.0F}, {x, y}) - wanted) <= 1e-15 * (1.0 + wanted));
      CHECK(std::fabs(angle({x, 0.0F, y}, {5.0F, 0.0F, 0.0F}) - wanted) <= 1e-15 * (1.0 + wanted));
    }
}

TEST_CASE("a vector is at angle 0 to itself and pi to its opposite, whatever its length") {
  const random_stream stream({.seed = 4}, 9);
  for (const index_t dim : {1, 7, 64, 128})
    for (const float scale : {1e-30F, 1.0F, 1e30F}) {
      std::vector<float> x, y;
      for (index_t j = 0; j < dim; ++j) {
        const auto at = static_cast<std::uint64_t>(j);
        x.push_back(static_cast<float>(stream.u32(at)) * 0x1p-32F - 0.5F);
        y.push_back(scale * x.back());
      }
      CHECK(angle(x, y) < 1e-6);  // y is rounded
      CHECK(angle(y, y) == 0.0);
      for (float& c : y) c = -c;
      CHECK(angle(x, y) > pi - 1e-6);
      std::vector<float> back = y;
      for (float& c : back) c = -c;
      CHECK(angle(back, y) == pi);
    }
}

TEST_CASE("a zero vector is at right angles to all but itself") {
  CHECK(angle({0.0F, 0.0F}, {3.0F, -1.0F}) == 0.5 * pi);
  CHECK(angle({3.0F, -1.0F}, {0.0F, -0.0F}) == 0.5 * pi);
  CHECK(angle({0.0F, -0.0F}, {0.0F, 0.0F}) == 0.0);
}

TEST_CASE("what is not finite has no angle") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const float odd : {nan, infinity, -infinity})
    for (const float other : {0.0F, 2.0F}) {
      CHECK(std::isnan(angle({1.0F, odd}, {other, other})));
      CHECK(std::isnan(angle({other, other}, {odd, 1.0F})));
    }
}
