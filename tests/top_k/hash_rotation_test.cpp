// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/hash_rotation.hpp"

#include <string>

#include "support/catch.hpp"
#include "support/hash_rotations.hpp"

using namespace vattn;
using test::rows_of;
using test::same;
using test::uneven;
using top_k::hash_rotation;

TEST_CASE("hash_rotation: random directions are orthonormal in groups and follow from the seed") {
  for (const index_t dim : {1, 7, 64, 80})
    for (const int bits : {32, 96}) {
      CAPTURE(dim, bits);
      const hash_rotation by = hash_rotation::random(bits, dim, 3);
      CHECK(by.bits() == bits);
      CHECK(by.dim() == dim);
      CHECK(test::orthonormal_to(by) < 1e-6);
      CHECK(same(by, hash_rotation::random(bits, dim, 3)));
      if (dim > 1) CHECK_FALSE(same(by, hash_rotation::random(bits, dim, 4)));
    }
  // Several groups of one dimension are not the same group again.
  const Eigen::MatrixXd rows = rows_of(hash_rotation::random(64, 32, 1));
  CHECK((rows.topRows(32) - rows.bottomRows(32)).cwiseAbs().maxCoeff() > 0.1);
}

TEST_CASE("hash_rotation: a matrix of one's own is taken as it is") {
  const synthetic_head::matrix own = uneven(64, 10, 5);
  const hash_rotation by(own.data(), 64, 10);
  CHECK(rows_of(by) == own.cast<double>());
}

TEST_CASE("hash_rotation: a signature holds the signs of the products, and 0 in bits not used") {
  for (const index_t dim : {1, 10, 65})
    for (const int bits : {32, 64, 96, 256}) {
      const synthetic_head::matrix own = uneven(bits, dim, 6), vectors = uneven(20, dim, 7);
      const hash_rotation by(own.data(), bits, dim);
      CAPTURE(dim, bits);
      for (index_t i = 0; i < vectors.rows(); ++i) {
        constexpr std::uint64_t untouched = 0x0123456789ABCDEFU;
        std::uint64_t signature[5];
        std::fill_n(signature, 5, untouched);
        by.hash(vectors.row(i).data(), signature);
        const Eigen::VectorXd y = rows_of(by) * vectors.row(i).transpose().cast<double>();
        const int words = (bits + 63) / 64;
        for (int bit = 0; bit < 64 * words; ++bit) {
          const bool set = (signature[bit / 64] >> (bit % 64) & 1U) != 0;
          // A product this near 0 may have either sign.
          if (bit < bits && std::fabs(y[bit]) < 1e-12) continue;
          REQUIRE(set == (bit < bits && y[bit] > 0.0));
        }
        REQUIRE(signature[words] == untouched);
        std::uint64_t again[4];
        by.hash(vectors.row(i).data(), nullptr, again);
        REQUIRE(std::equal(again, again + words, signature));
      }
    }
  // A product of 0 is not positive.
  const synthetic_head::matrix nothing = synthetic_head::matrix::Zero(1, 3);
  std::uint64_t signature = 1;
  hash_rotation::random(64, 3, 1).hash(nothing.data(), &signature);
  CHECK(signature == 0);
}

TEST_CASE("hash_rotation refuses other bits and dimensions and what is not finite, and says so") {
  using Catch::Contains;
  const synthetic_head::matrix keys = uneven(100, 48, 2);
  for (const int bits : {0, 16, 33, 288, -64}) {
    const std::string message =
        "vattention: hash_rotation: want 32, 64, ... 256 bits, got " + std::to_string(bits);
    CHECK_THROWS_WITH(hash_rotation::random(bits, 48, 1), message);
    CHECK_THROWS_WITH(hash_rotation(keys.data(), bits, 48), message);
  }
  for (const index_t dim : {0, -1, 4097})
    CHECK_THROWS_WITH(hash_rotation::random(32, dim, 1), Contains("1 <= key dimension <= 4096"));
  for (const float odd :
       {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    synthetic_head::matrix bad = keys;
    bad(95, 47) = odd;
    CHECK_THROWS_WITH(hash_rotation(bad.data(), 96, 48), Contains("finite matrix"));
    CHECK_NOTHROW(hash_rotation(bad.data(), 64, 48));
  }
}
