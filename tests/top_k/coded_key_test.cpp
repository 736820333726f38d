// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/coded_key.hpp"

#include <vector>

#include "support/catch.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;
using top_k::code_book;
using top_k::code_key;
using top_k::coded_key;
using top_k::error_byte;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int widths[] = {1, 2, 4, 6, 8};

/// Vectors of every kind: normal, one coordinate, equal coordinates, a ramp, zero; times `size`.
std::vector<Eigen::VectorXf> hard_vectors(index_t d, float size) {
  detail::head_source source(3, 1);
  std::vector<Eigen::VectorXf> all;
  for (int i = 0; i < 10; ++i) all.push_back(source.normals(d).cast<float>());
  all.push_back(Eigen::VectorXf::Unit(d, d / 2));
  all.push_back(Eigen::VectorXf::Constant(d, -1.0F));
  all.push_back(Eigen::VectorXf::LinSpaced(d, -1.0F, 2.0F));
  all.push_back(Eigen::VectorXf::Zero(d));
  for (Eigen::VectorXf& x : all) x *= size;
  return all;
}

}  // namespace

TEST_CASE("||x - f level|| is at most the error norm, and little less", "[top_k]") {
  for (const int bits : widths) {
    const code_book book(bits);
    for (const index_t d : {1, 3, 64, 80, 96, 128})
      for (const float size : {1e-44F, 1e-30F, 1e-5F, 1e-2F, 1.0F, 300.0F, 2e4F, 1e6F, 1e25F})
        for (const Eigen::VectorXf& x : hard_vectors(d, size)) {
          std::vector<std::uint8_t> codes(static_cast<std::size_t>(d));
          const coded_key key = code_key(book, x.data(), d, codes.data());
          const auto f = static_cast<double>(kernels::f16_to_float(key.factor));
          const auto e = static_cast<double>(kernels::f16_to_float(key.error));
          CAPTURE(bits, d, size, f, e);
          if (std::isnan(f)) {
            REQUIRE(std::isinf(e));
            REQUIRE(size > 1e4F);
            continue;
          }
          Eigen::VectorXd left = x.cast<double>();
          for (index_t j = 0; j < d; ++j)
            left[j] -= f * book.level(codes[static_cast<std::size_t>(j)]);
          REQUIRE(left.norm() <= e);
          if (left.norm() > 65000.0) continue;
          const double norm = x.cast<double>().norm();
          REQUIRE(e <= left.norm() * (1.0 + 0x1p-9) + 1e-5 * norm + 0x1p-23);
        }
  }
}

TEST_CASE("the factor is |x|^2 over x.level, so the estimate of x.x is exact", "[top_k]") {
  for (const int bits : widths) {
    const code_book book(bits);
    for (const Eigen::VectorXf& x : hard_vectors(64, 1.0F)) {
      if (x.norm() == 0.0F) continue;
      std::vector<std::uint8_t> codes(64);
      const coded_key key = code_key(book, x.data(), 64, codes.data());
      double along = 0.0;
      for (index_t j = 0; j < 64; ++j)
        along += static_cast<double>(x[j]) * book.level(codes[static_cast<std::size_t>(j)]);
      CHECK(static_cast<double>(kernels::f16_to_float(key.factor)) * along ==
            Approx(x.cast<double>().squaredNorm()).epsilon(0x1p-10));
    }
  }
}

TEST_CASE("what cannot be coded has no factor and an infinite error", "[top_k]") {
  const coded_key none;
  CHECK(std::isnan(kernels::f16_to_float(none.factor)));
  CHECK(kernels::f16_to_float(none.error) == infinity);
  for (const int bits : widths)
    for (const float odd : {std::numeric_limits<float>::quiet_NaN(), infinity, -infinity, 3e38F}) {
      Eigen::VectorXf x = hard_vectors(64, 1.0F)[0];
      x[17] = odd;
      std::vector<std::uint8_t> codes(64);
      const coded_key key = code_key(code_book(bits), x.data(), 64, codes.data());
      CHECK(key.factor == coded_key::not_a_number);
      CHECK(key.error == coded_key::infinite);
    }
}

TEST_CASE("a zero vector has neither factor nor error", "[top_k]") {
  const Eigen::VectorXf zero = Eigen::VectorXf::Zero(64);
  std::vector<std::uint8_t> codes(64);
  for (const int bits : widths) {
    const coded_key key = code_key(code_book(bits), zero.data(), 64, codes.data());
    CHECK(key.factor == 0);
    CHECK(key.error == 0);
  }
}

TEST_CASE("error bytes ascend in steps of a quarter octave, from none to infinity", "[top_k]") {
  CHECK(error_byte::decode(0) == 0.0F);
  CHECK(error_byte::decode(1) == Approx(std::exp2(-31.75)));
  CHECK(error_byte::decode(128) == 1.0F);
  CHECK(error_byte::decode(254) == Approx(std::exp2(31.5)));
  CHECK(error_byte::decode(255) == infinity);
  for (int b = 1; b < 256; ++b)
    CHECK(error_byte::decode(static_cast<std::uint8_t>(b)) >
          error_byte::decode(static_cast<std::uint8_t>(b - 1)));
}

TEST_CASE("error bytes round up, by a quarter octave at most, and keep the order", "[top_k]") {
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<std::uint8_t>(b);
    CHECK(error_byte::up(error_byte::decode(byte)) == byte);
  }
  std::uint8_t before = 0;
  for (double norm = 1e-45; norm < 1e38; norm *= 1.0137) {
    const auto x = static_cast<float>(norm);
    const std::uint8_t byte = error_byte::up(x);
    CAPTURE(norm);
    REQUIRE(error_byte::decode(byte) >= x);
    REQUIRE(byte >= before);
    if (x >= 0x1p-31F && x <= 0x1p31F) REQUIRE(error_byte::decode(byte) <= x * 1.1893F);  // 2^(1/4)
    before = byte;
  }
  CHECK(before == 255);
  for (int b = 1; b < 255; ++b) {
    const float level = error_byte::decode(static_cast<std::uint8_t>(b));
    CHECK(error_byte::up(std::nextafter(level, infinity)) == b + 1);
    CHECK(error_byte::up(std::nextafter(level, 0.0F)) == b);
  }
  CHECK(error_byte::up(0.0F) == 0);
  CHECK(error_byte::up(infinity) == 255);
}
