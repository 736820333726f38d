// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/part_centroids.hpp"

#include "support/catch.hpp"
#include "support/centroids.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;
using test::made_up_centroids;
using top_k::part_centroids;

namespace {

/// Coordinate j of a centroid.
float coordinate(const part_centroids& by, index_t part, index_t centroid, index_t j) {
  return by.of(part)[j * by.count() + centroid];
}

/// Squared distance of a centroid from part `part` of a key, `x` `[width]`.
double distance(const part_centroids& by, index_t part, index_t centroid, const float* x) {
  double sum = 0.0;
  for (index_t j = 0; j < by.width(part); ++j) {
    const double off =
        static_cast<double>(x[j]) - static_cast<double>(coordinate(by, part, centroid, j));
    sum += off * off;
  }
  return sum;
}

std::vector<float> all_of(const part_centroids& by) {
  return {by.of(0), by.of(0) + by.dim() * by.count()};
}

/// Mean squared distance of vectors from the nearest centroids.
double error_of(const part_centroids& by, const synthetic_head::matrix& of) {
  double sum = 0.0;
  for (index_t i = 0; i < of.rows(); ++i)
    for (index_t part = 0; part < by.parts(); ++part) {
      const float* const x = of.row(i).data() + by.first(part);
      sum += distance(by, part, by.nearest(part, x), x);
    }
  return sum / static_cast<double>(of.rows());
}

std::vector<float> numbers_of(const synthetic_head::matrix& m) {
  return {m.data(), m.data() + m.size()};
}

}  // namespace

TEST_CASE("part_centroids: parts of near equal length are all coordinates, each once") {
  for (const index_t dim : {1, 12, 64, 80})
    for (const index_t parts : {1, 5, 16, 4096}) {
      const part_centroids by(parts, 8, dim);
      CAPTURE(dim, parts);
      CHECK(by.parts() == std::min(parts, dim));
      CHECK(by.dim() == dim);
      CHECK(by.bits() == 8);
      CHECK(by.count() == 256);
      index_t all = 0;
      for (index_t part = 0; part < by.parts(); ++part) {
        CHECK(by.first(part) == all);
        CHECK(by.width(part) >= dim / by.parts());
        CHECK(by.width(part) <= dim / by.parts() + 1);
        all += by.width(part);
      }
      CHECK(all == dim);
      CHECK(all_of(by) == std::vector<float>(static_cast<std::size_t>(256 * dim)));
    }
}

TEST_CASE("part_centroids: known centroids are taken part by part") {
  const std::vector<float> numbers = made_up_centroids(22, 5);
  const part_centroids by(numbers.data(), 7, 5, 22);
  const float* number = numbers.data();
  for (index_t part = 0; part < 7; ++part)
    for (index_t c = 0; c < 32; ++c)
      for (index_t j = 0; j < by.width(part); ++j) REQUIRE(coordinate(by, part, c, j) == *number++);
  CHECK(number == numbers.data() + numbers.size());
}

TEST_CASE("part_centroids: the nearest has the least distance, of equally near ones the first") {
  const test::prepared_call c({.rows = 400, .dim = 22});
  for (const int bits : {4, 6, 8}) {
    const std::vector<float> numbers = made_up_centroids(22, bits);
    const part_centroids by(numbers.data(), 7, bits, 22);
    for (index_t row = 0; row < 400; ++row)
      for (index_t part = 0; part < 7; ++part) {
        const float* const x = c.head.keys.row(row).data() + by.first(part);
        double least = distance(by, part, 0, x);
        for (index_t i = 1; i < by.count(); ++i) least = std::min(least, distance(by, part, i, x));
        REQUIRE(distance(by, part, by.nearest(part, x), x) <= least * (1.0 + 1e-5));
      }
  }
  std::vector<float> line(16, 9.0F);
  line[3] = line[11] = 1.0F;
  line[7] = -1.0F;
  const part_centroids by(line.data(), 1, 4, 1);
  const float at[] = {0.0F, 0.5F, -0.5F, 5.5F};
  CHECK(by.nearest(0, at) == 3);
  CHECK(by.nearest(0, at + 1) == 3);
  CHECK(by.nearest(0, at + 2) == 7);
  CHECK(by.nearest(0, at + 3) == 0);
}

TEST_CASE("part_centroids: no more points than centroids are the centroids themselves") {
  for (const index_t m : {1, 5, 16}) {
    const test::prepared_call c({.rows = m, .dim = 10});
    part_centroids by(3, 4, 10);
    by.fit(numbers_of(c.head.keys));
    CAPTURE(m);
    for (index_t part = 0; part < 3; ++part)
      for (index_t i = 0; i < 16; ++i)
        for (index_t j = 0; j < by.width(part); ++j)
          REQUIRE(coordinate(by, part, i, j) == c.head.keys(i < m ? i : 0, by.first(part) + j));
  }
  part_centroids by(3, 4, 10);
  by.fit(made_up_centroids(10, 4));
  by.fit({});
  CHECK(all_of(by) == std::vector<float>(160));
}

TEST_CASE("part_centroids: a fit finds groups that lie apart, and their means", "[top_k]") {
  // 16 groups of 20 points each, 10 and more apart from each other in every part, of deviation .01.
  constexpr index_t groups = 16, each = 20, dim = 9;
  test::prepared_call c({.rows = groups * each, .dim = dim});
  synthetic_head::matrix& points = c.head.keys;
  points *= 0.01F;
  Eigen::MatrixXd means = Eigen::MatrixXd::Zero(groups, dim);
  for (index_t i = 0; i < points.rows(); ++i) {
    points.row(i).array() += 10.0F * static_cast<float>(i % groups);
    means.row(i % groups) += points.row(i).cast<double>() / static_cast<double>(each);
  }
  part_centroids by(4, 4, dim);
  by.fit(numbers_of(points));
  for (index_t part = 0; part < 4; ++part) {
    std::vector<bool> found(groups);
    for (index_t group = 0; group < groups; ++group) {
      const int nearest = by.nearest(part, points.row(group).data() + by.first(part));
      REQUIRE_FALSE(found[static_cast<std::size_t>(nearest)]);
      found[static_cast<std::size_t>(nearest)] = true;
      for (index_t j = 0; j < by.width(part); ++j)
        REQUIRE(static_cast<double>(coordinate(by, part, nearest, j)) ==
                Approx(means(group, by.first(part) + j)).epsilon(1e-6).margin(1e-6));
    }
  }
}

TEST_CASE("part_centroids: a fit follows from its points alone, and beats points drawn from them") {
  const test::prepared_call c({.rows = 1000, .dim = 24, .seed = 3});
  part_centroids fitted(6, 5, 24), again = fitted;
  fitted.fit(numbers_of(c.head.keys));
  again.fit(made_up_centroids(24, 6));
  CHECK(all_of(again) != all_of(fitted));
  again.fit(numbers_of(c.head.keys));
  CHECK(all_of(again) == all_of(fitted));

  part_centroids drawn(6, 5, 24);
  drawn.fit(numbers_of(c.head.keys.topRows(32)));
  CAPTURE(error_of(fitted, c.head.keys), error_of(drawn, c.head.keys));
  CHECK(error_of(fitted, c.head.keys) < 0.8 * error_of(drawn, c.head.keys));
  fitted.clear();
  CHECK(all_of(fitted) == std::vector<float>(24 * 32));
}

TEST_CASE("part_centroids refuses other parts and bits, and centroids that are not finite") {
  for (const index_t parts : {0, -1})
    CHECK_THROWS_WITH(part_centroids(parts, 8, 64), Catch::Contains("1 part or more, got"));
  for (const int bits : {-1, 0, 3, 9})
    CHECK_THROWS_WITH(part_centroids(8, bits, 64),
                      Catch::Contains("4 to 8 bits, got " + std::to_string(bits)));
  for (const index_t dim : {0, -1, 4097})
    CHECK_THROWS_WITH(part_centroids(8, 8, dim), Catch::Contains("1 <= key dimension <= 4096"));
  std::vector<float> numbers = made_up_centroids(24, 4);
  numbers[4 * 16 + 9] = std::nanf("");  // coordinate 1 of centroid 2 of part 1
  CHECK_THROWS_WITH(part_centroids(numbers.data(), 6, 4, 24),
                    Catch::Contains("finite centroids") && Catch::Contains("1, 2, "));
}
