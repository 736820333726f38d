// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/fit_hash_rotation.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/fitted_rotation.hpp"
#include "support/hash_rotations.hpp"

using namespace vattn;
using test::fitted_to;
using test::orthonormal_to;
using test::rows_of;
using test::same;
using test::uneven;
using top_k::fit_hash_rotation;
using top_k::hash_rotation;

namespace {

using matrix = synthetic_head::matrix;

/// Mean square of sign(y) - y over the bits, y the products of vectors that are scaled to norm sqrt(bits).
double quantisation_error(const hash_rotation& by, const matrix& of, bool centred) {
  Eigen::MatrixXd x = of.cast<double>();
  if (centred) x.rowwise() -= x.colwise().mean().eval();
  double sum = 0.0;
  for (index_t i = 0; i < x.rows(); ++i) {
    const Eigen::VectorXd y =
        rows_of(by) * x.row(i).transpose().normalized() * std::sqrt(static_cast<double>(by.bits()));
    sum += (y.cwiseAbs().array() - 1.0).square().mean();
  }
  return sum / static_cast<double>(x.rows());
}

}  // namespace

TEST_CASE("fit_hash_rotation: directions are orthonormal in groups and follow from the seed") {
  for (const index_t dim : {1, 7, 64, 80})
    for (const int bits : {32, 96}) {
      CAPTURE(dim, bits);
      const matrix queries = uneven(20, dim, 1), keys = uneven(200, dim, 2);
      const hash_rotation fitted = fitted_to(queries, keys, bits, 5);
      CHECK(fitted.bits() == bits);
      CHECK(fitted.dim() == dim);
      CHECK(orthonormal_to(fitted) < 1e-6);
      CHECK(same(fitted, fitted_to(queries, keys, bits, 5)));
      if (dim > 1) CHECK_FALSE(same(fitted, fitted_to(queries, keys, bits, 5, 2)));
    }
}

TEST_CASE("fit_hash_rotation lowers the quantisation error of its random start", "[top_k]") {
  const matrix queries = uneven(1024, 64, 1), keys = uneven(1024, 64, 2),
               unseen = uneven(1024, 64, 3);
  const hash_rotation start = fitted_to(queries, keys, 64, 0);
  const hash_rotation fitted = fitted_to(queries, keys, 64, 30);
  const auto lowers = [&](const matrix& of, bool centred, double factor) {
    const double before = quantisation_error(start, of, centred);
    const double after = quantisation_error(fitted, of, centred);
    CAPTURE(before, after);
    CHECK(before == Approx(2.0 - 2.0 * std::sqrt(2.0 / 3.14159265358979)).epsilon(0.05));
    CHECK(after < factor * before);
  };
  lowers(keys, true, 0.9);
  lowers(queries, false, 0.9);
  lowers(unseen, false, 0.98);
}

TEST_CASE("fit_hash_rotation: where bits are few, directions lie in the leading principal ones") {
  // Only 32 of 64 channels are not 0, so these span all that there is to see.
  matrix queries = matrix::Zero(40, 64), keys = matrix::Zero(300, 64);
  for (index_t j = 0; j < 32; ++j) {
    queries.col(2 * j) = uneven(40, 32, 1).col(j);
    keys.col(2 * j) = uneven(300, 32, 2).col(j);
  }
  const Eigen::MatrixXd rows = rows_of(fitted_to(queries, keys, 32, 5));
  for (index_t j = 0; j < 32; ++j) {
    CAPTURE(j);
    CHECK(rows.col(2 * j).norm() == Approx(1.0).epsilon(1e-6));
    CHECK(rows.col(2 * j + 1).norm() < 1e-6);
  }
}

TEST_CASE("fit_hash_rotation takes data without directions") {
  const matrix none = matrix::Zero(100, 48);
  const matrix one = matrix::Ones(3, 48);
  for (const int bits : {32, 64}) {
    CHECK(orthonormal_to(fitted_to(none, none, bits)) < 1e-6);
    CHECK(orthonormal_to(fitted_to(one, none, bits)) < 1e-6);
  }
}

TEST_CASE("fit_hash_rotation refuses what it cannot work with, and says so", "[top_k]") {
  using Catch::Contains;
  const matrix queries = uneven(4, 48, 1), keys = uneven(100, 48, 2);
  const auto fit = [&](index_t query_count, index_t key_count, index_t dim, int bits,
                       int iterations) {
    return fit_hash_rotation(queries.data(), query_count, keys.data(), key_count, dim, bits,
                             iterations);
  };
  for (const int bits : {0, 16, 33, 288, -64})
    CHECK_THROWS_WITH(
        fit(4, 100, 48, bits, 1),
        "vattention: fit_hash_rotation: want 32, 64, ... 256 bits, got " + std::to_string(bits));
  for (const index_t dim : {0, -1, 4097})
    CHECK_THROWS_WITH(fit(4, 100, dim, 32, 1), Contains("1 <= key dimension <= 4096"));
  CHECK_THROWS_WITH(fit(0, 100, 48, 32, 1), Contains("one query or more, got 0"));
  CHECK_THROWS_WITH(fit(4, 31, 48, 32, 1), Contains("as many keys as bits or dimensions"));
  CHECK_THROWS_WITH(fit(4, 47, 48, 64, 1), Contains("got 47, 64, 48"));
  CHECK_NOTHROW(fit(1, 32, 48, 32, 1));
  CHECK_THROWS_WITH(fit(4, 100, 48, 32, -1), Contains("iterations >= 0, got -1"));
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    matrix bad = keys;
    bad(95, 47) = odd;
    CHECK_THROWS_WITH(fitted_to(queries, bad, 32), Contains("finite keys"));
    CHECK_THROWS_WITH(fitted_to(bad, keys, 32), Contains("finite queries"));
  }
}
