// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/key_code_index.hpp"

#include <limits>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;
using top_k::key_code_index;

namespace {

constexpr int widths[] = {1, 2, 4, 6, 8};

key_code_index index_of(int bits, const kv_view& kv) {
  key_code_index index(bits, kv.key_dim());
  index.append(kv);
  return index;
}

/// Codes of a row, read back from the layout that kernels::table::scan_codes documents.
std::vector<int> codes_of(const key_code_index& index, index_t row) {
  std::vector<int> codes(static_cast<std::size_t>(index.dim()), 0);
  int shift = 0;
  for (int plane = 0; plane < index.book().planes(); ++plane) {
    const int bits = index.book().plane_bits(plane);
    const index_t per = 32 / bits;
    const std::uint8_t* block = index.codes(plane, row / 16 * 16);
    for (index_t j = 0; j < index.dim(); ++j) {
      const index_t word = j / per;
      const index_t field = j % per / 4;
      const std::uint8_t byte = block[word * 64 + 4 * (row % 16) + j % 4];
      codes[static_cast<std::size_t>(j)] |= (byte >> (bits * field) & ((1 << bits) - 1)) << shift;
    }
    shift += bits;
  }
  return codes;
}

/// The rotation's definition in double.
Eigen::VectorXd rotated(Eigen::VectorXd x, std::uint64_t seed) {
  const index_t d = x.size();
  const random_stream stream({.seed = seed}, static_cast<std::uint32_t>(purpose::projection));
  const auto p = static_cast<index_t>(std::bit_floor(static_cast<std::uint64_t>(d)));
  const auto hadamard = [&](index_t first) {
    for (index_t half = 1; half < p; half *= 2)
      for (index_t i = first; i < first + p; ++i)
        if (((i - first) & half) == 0) {
          const double a = x[i], b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
    x.segment(first, p) /= std::sqrt(static_cast<double>(p));
  };
  for (index_t round = 0; round < 2; ++round) {
    for (index_t j = 0; j < d; ++j)
      if (stream.u32(static_cast<std::uint64_t>(round * d + j)) >> 31U == 0U) x[j] = -x[j];
    hadamard(0);
    if (p < d) hadamard(d - p);
  }
  return x;
}

/// Keys of every size: normal, one coordinate, equal coordinates, ramps; times powers of ten; and zero.
void fill_hard_keys(synthetic_head::matrix& keys) {
  const index_t d = keys.cols();
  for (index_t row = 0; row < keys.rows(); ++row) {
    auto key = keys.row(row);
    if (row % 5 == 1) {
      key.setZero();
      key[row % d] = 1.0F;
    }
    if (row % 5 == 2) key.setConstant(row % 2 == 0 ? 1.0F : -1.0F);
    if (row % 5 == 3) key = Eigen::RowVectorXf::LinSpaced(d, -1.0F, 1.0F);
    if (row % 50 == 4) key.setZero();
  }
}

}  // namespace

TEST_CASE("the double-precision rotation is the library's", "[top_k]") {
  for (const index_t d : {1, 3, 7, 64, 80, 96, 128}) {
    const test::prepared_call c({1, d});
    Eigen::VectorXf x = c.head.keys.row(0);
    const Eigen::VectorXd expected = rotated(x.cast<double>(), 77);
    rotation(d, 77).apply(x.data());
    CAPTURE(d);
    CHECK((x.cast<double>() - expected).norm() < 1e-6 * expected.norm());
  }
}

TEST_CASE("error_norm bounds what the code leaves of a key: all widths, all sizes", "[top_k]") {
  for (const int bits : widths)
    for (const index_t d : {1, 3, 7, 64, 80, 128})
      for (const float size :
           {1e-44F, 1e-38F, 1e-20F, 1e-6F, 1e-3F, 1.0F, 100.0F, 3e4F, 1e6F, 1e20F, 1e38F}) {
        const index_t rows = d == 64 ? 300 : 60;
        test::prepared_call c({rows, d, 1, element::f32, static_cast<std::uint64_t>(bits)});
        fill_hard_keys(c.head.keys);
        c.head.keys *= size;
        const kv_view kv = c.view();
        const key_code_index index = index_of(bits, kv);
        for (index_t row = 0; row < rows; ++row) {
          const double f = static_cast<double>(index.factor(row));
          const double bound = static_cast<double>(index.error_norm(row));
          CAPTURE(bits, d, size, row, f, bound);
          if (std::isnan(f)) {
            REQUIRE(std::isinf(bound));
            REQUIRE(size > 1e4F);  // smaller ones can be coded
            continue;
          }
          Eigen::VectorXd x = c.head.keys.row(row).cast<double>();
          for (index_t j = 0; j < d; ++j) x[j] -= static_cast<double>(index.centre()[j]);
          x = rotated(x, key_code_index::rotation_seed);
          const double norm = x.norm();
          const std::vector<int> codes = codes_of(index, row);
          for (index_t j = 0; j < d; ++j)
            x[j] -= f * index.book().level(codes[static_cast<std::size_t>(j)]);
          REQUIRE(x.norm() <= bound);
          if (x.norm() > 65000.0) continue;  // from here on fp16 has infinity only
          // Nor is it loose: f16 is good to 2^-11, in steps of 2^-24; a byte to a quarter octave.
          const double least = x.norm() * (1.0 + 0x1p-9) + 1e-5 * norm + 0x1p-23;
          REQUIRE(bound <= least * (bits <= 2 ? std::exp2(0.25) : 1.0));
        }
      }
}

TEST_CASE("keys that are not finite have no factor and an infinite error", "[top_k]") {
  for (const int bits : widths)
    for (const element type : {element::f32, element::bf16, element::f16, element::q8_0}) {
      const index_t dim = type == element::q8_0 ? 96 : 80;
      test::prepared_call c({300, dim, 1, type});
      const float odd[] = {std::numeric_limits<float>::quiet_NaN(),
                           std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity()};
      for (index_t i = 0; i < 12; ++i) c.head.keys(i * 27, i * 7 % 80) = odd[i % 3];
      const key_code_index index = index_of(bits, c.view());
      for (index_t row = 0; row < 300; ++row) {
        CAPTURE(bits, row);
        const bool finite = row % 27 != 0 || row >= 12 * 27;
        CHECK(std::isfinite(index.factor(row)) == finite);
        CHECK(std::isfinite(index.error_norm(row)) == finite);
        CHECK((finite || std::isnan(index.factor(row))));
        CHECK((finite || index.error_norm(row) == std::numeric_limits<float>::infinity()));
      }
    }
}

TEST_CASE("keys too large for the factor are unpredictable, not wrong", "[top_k]") {
  for (const int bits : widths) {
    test::prepared_call c({300, 64});
    c.head.keys.row(280) *= 1e30F;
    c.head.keys.row(281).setConstant(std::numeric_limits<float>::max());
    const key_code_index index = index_of(bits, c.view());
    CHECK(std::isnan(index.factor(280)));
    CHECK(std::isnan(index.factor(281)));
    CHECK(std::isfinite(index.factor(282)));
  }
}

TEST_CASE("the codes are those of the rotated, centred key", "[top_k]") {
  for (const int bits : widths)
    for (const index_t d : {7, 64, 80, 96}) {
      test::prepared_call c({40, d});
      const key_code_index index = index_of(bits, c.view());
      for (index_t row = 0; row < 40; ++row) {
        Eigen::VectorXf x = c.head.keys.row(row);
        for (index_t j = 0; j < d; ++j) x[j] -= index.centre()[j];
        index.rotated().apply(x.data());
        const auto rms =
            static_cast<float>(std::sqrt(x.cast<double>().squaredNorm() / static_cast<double>(d)));
        const std::vector<int> codes = codes_of(index, row);
        for (index_t j = 0; j < d; ++j)
          REQUIRE(codes[static_cast<std::size_t>(j)] ==
                  index.book().code(x[j], rms, x.cwiseAbs().maxCoeff()));
      }
    }
}

TEST_CASE("the centre is frozen at 256 rows: later keys change no earlier code", "[top_k]") {
  test::prepared_call c({600, 32});
  c.head.keys.bottomRows(344).array() += 50.0F;
  const kv_view kv = c.view();
  key_code_index index(4, 32);
  index.append(kv.shard(0, 256));
  const std::vector<float> centre(index.centre(), index.centre() + 32);
  std::vector<std::vector<int>> codes;
  std::vector<float> factors;
  for (index_t row = 0; row < 256; ++row) {
    codes.push_back(codes_of(index, row));
    factors.push_back(index.factor(row));
  }
  index.append(kv);
  CHECK(std::equal(centre.begin(), centre.end(), index.centre()));
  for (index_t row = 0; row < 256; ++row) {
    const auto at = static_cast<std::size_t>(row);
    REQUIRE(codes_of(index, row) == codes[at]);
    REQUIRE(index.factor(row) == factors[at]);
  }
  const Eigen::VectorXf mean = c.head.keys.topRows(256).colwise().mean();
  for (index_t j = 0; j < 32; ++j) CHECK(index.centre()[j] == Approx(mean[j]).margin(1e-5));
}

TEST_CASE("an index that got its rows in any steps is the one built at once, bit for bit",
          "[top_k]") {
  for (const int bits : widths)
    for (const index_t d : {7, 80}) {
      test::prepared_call c({400, d});
      const kv_view kv = c.view();
      const key_code_index once = index_of(bits, kv);
      for (const std::vector<index_t>& steps :
           {std::vector<index_t>{1, 2, 3, 17, 255, 256, 257, 400},
            {0, 0, 300, 300, 400},
            {255, 400}}) {
        key_code_index grown(bits, d);
        for (const index_t rows : steps) grown.append(kv.shard(0, rows));
        REQUIRE(grown.rows() == 400);
        for (index_t row = 0; row < 400; ++row) {
          REQUIRE(codes_of(grown, row) == codes_of(once, row));
          REQUIRE(grown.factor(row) == once.factor(row));
          REQUIRE(grown.error_norm(row) == once.error_norm(row));
        }
      }
    }
}

TEST_CASE("a key equal to the centre, and zero keys, are coded without error", "[top_k]") {
  for (const int bits : widths) {
    test::prepared_call c({300, 64});
    for (const float value : {0.0F, 3.0F}) {
      c.head.keys.setConstant(value);
      const key_code_index index = index_of(bits, c.view());
      for (index_t row = 0; row < 300; ++row) {
        CHECK(index.factor(row) == 0.0F);
        CHECK(index.error_norm(row) == 0.0F);
      }
    }
  }
}

TEST_CASE("an index refuses other keys and shrunken caches, and stays as it was", "[top_k]") {
  test::prepared_call c({300, 64});
  test::prepared_call other({300, 32});
  key_code_index index = index_of(4, c.view());
  CHECK_THROWS_WITH(
      index.append(other.view()),
      "vattention: key_code_index::append: want keys of the index's dimension, got 32");
  CHECK_THROWS_AS(index.append(c.view().shard(0, 299)), std::invalid_argument);
  CHECK(index.rows() == 300);
  CHECK(index.matches(c.view()));
  CHECK_FALSE(index.matches(c.view().shard(0, 299)));
  CHECK_FALSE(index.matches(other.view()));
  CHECK_THROWS_WITH(key_code_index(4, 0),
                    "vattention: key_code: want 1 <= key dimension <= 4096, got 0");
  CHECK_THROWS_AS(key_code_index(4, 4097), std::invalid_argument);
  CHECK_THROWS_AS(key_code_index(3, 64), std::invalid_argument);
}

TEST_CASE("memory and scanned bytes a key", "[top_k]") {
  // d bits / 8 bytes of codes, d padded to a multiple of 32 / bits, and 2 bytes of factor.
  CHECK(key_code_index(4, 64).scanned_bytes(1600) == 1600 * 34);
  CHECK(key_code_index(1, 64).scanned_bytes(1600) == 1600 * 10);
  CHECK(key_code_index(6, 64).scanned_bytes(1600) == 1600 * 50);
  CHECK(key_code_index(8, 80).scanned_bytes(1600) == 1600 * 82);
  CHECK(key_code_index(4, 7).scanned_bytes(16) == 16 * (4 + 2));
  CHECK(key_code_index(4, 64).scanned_bytes(1) == 16 * 32 + 2);  // a block is read whole
  CHECK(key_code_index(4, 64).scanned_bytes(0) == 0);
}
