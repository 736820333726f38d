// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/rotation.hpp"

#include <Eigen/Core>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

namespace {

/// The map as a matrix: column j is the image of unit vector j.
Eigen::MatrixXf matrix_of(const rotation& r) {
  Eigen::MatrixXf m = Eigen::MatrixXf::Identity(r.dim(), r.dim());
  for (index_t j = 0; j < r.dim(); ++j) r.apply(m.col(j).data());
  return m;
}

}  // namespace

TEST_CASE("a rotation is orthogonal in every dimension") {
  for (const index_t d : {1, 2, 3, 5, 7, 16, 64, 80, 96, 100, 128, 256}) {
    CAPTURE(d);
    const Eigen::MatrixXd m = matrix_of(rotation(d, 17)).cast<double>();
    const Eigen::MatrixXd off = m.transpose() * m - Eigen::MatrixXd::Identity(d, d);
    CHECK(off.cwiseAbs().maxCoeff() < 1e-6);
  }
}

TEST_CASE("norms and dot products are kept to a few float roundings") {
  for (const index_t d : {3, 7, 64, 80, 128, 4096}) {
    const rotation r(d, 5);
    Eigen::VectorXf a(d), b(d);
    const random_stream s({static_cast<std::uint64_t>(d)}, 1);
    for (index_t j = 0; j < d; ++j) {
      a[j] = static_cast<float>(s.u32(static_cast<std::uint64_t>(j))) * 0x1p-31F - 1.0F;
      b[j] = static_cast<float>(s.u32(static_cast<std::uint64_t>(j + d))) * 0x1p-31F - 1.0F;
    }
    const double dot = a.cast<double>().dot(b.cast<double>());
    const double scale = a.cast<double>().norm() * b.cast<double>().norm();
    r.apply(a.data());
    r.apply(b.data());
    CAPTURE(d);
    CHECK(std::fabs(a.cast<double>().dot(b.cast<double>()) - dot) < 4e-6 * scale);
  }
}

TEST_CASE("one direction is spread over all coordinates") {
  // After two rounds every image of a unit vector has coordinates of about 1 / sqrt(d): the largest of
  // all d^2 stays below .75 where one round alone would leave 1 / sqrt(p) exactly or, outside the
  // first p coordinates, no spread at all.
  for (const index_t d : {64, 80, 96, 100, 128, 256}) {
    CAPTURE(d);
    const Eigen::MatrixXf m = matrix_of(rotation(d, 17));
    CHECK(m.cwiseAbs().maxCoeff() < 0.75F);
    CHECK((m.array().abs() > 0.0F).cast<double>().mean() > 0.5);
  }
}

TEST_CASE("a rotation is a function of dimension and seed") {
  CHECK(matrix_of(rotation(80, 3)) == matrix_of(rotation(80, 3)));
  CHECK(matrix_of(rotation(80, 3)) != matrix_of(rotation(80, 4)));
  CHECK(rotation(80, 3).dim() == 80);
}

TEST_CASE("a NaN or infinite coordinate shows in the image") {
  for (const index_t d : {1, 3, 7, 64, 80, 96}) {
    const rotation r(d, 3);
    for (const float odd :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
          -std::numeric_limits<float>::infinity()})
      for (index_t j = 0; j < d; ++j) {
        Eigen::VectorXf x = Eigen::VectorXf::Constant(d, 0.5F);
        x[j] = odd;
        r.apply(x.data());
        CHECK_FALSE(x.allFinite());
      }
  }
}

TEST_CASE("applying allocates nothing") {
  const rotation r(96, 3);
  float x[96] = {1.0F};
  CHECK(test::count_allocations([&] { r.apply(x); }) == 0);
}
