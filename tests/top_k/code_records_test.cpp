// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/code_records.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/key_code_index.hpp"

using namespace vattn;
using top_k::code_records;
using top_k::coded_key;
using top_k::key_code_index;

namespace {

constexpr int widths[] = {1, 2, 4, 8};

/// The same codes twice: in the layout of a scan, and as records.
struct twice {
  key_code_index scan;
  code_records records;

  twice(int bits, test::prepared_call& c) : scan(bits, c.shape.dim), records(bits, c.shape.dim) {
    std::vector<std::uint8_t> scratch(static_cast<std::size_t>(c.shape.dim));
    records.reserve(c.shape.rows);
    scan.append(c.view(), [&](index_t row, const float* x, const std::uint8_t*, const coded_key&) {
      records.store(row, x, scratch.data());
    });
  }
};

}  // namespace

TEST_CASE("gathered records are a block of the scan, byte for byte", "[top_k]") {
  for (const int bits : widths)
    for (const index_t d : {1, 7, 64, 80, 96, 128}) {
      test::prepared_call c({333, d});
      if (d > 7) c.head.keys(40, 3) = std::numeric_limits<float>::quiet_NaN();
      const twice t(bits, c);
      const index_t words = t.records.words();
      CAPTURE(bits, d);
      CHECK(words == t.scan.book().words(0, d));
      for (index_t first = 0; first < 333; first += 16) {
        const index_t count = std::min<index_t>(16, 333 - first);
        std::vector<std::uint8_t> block(static_cast<std::size_t>(64 * words), 0);
        std::uint16_t factors[16] = {}, errors[16] = {};
        t.records.gather(test::row_range(first, first + count), block.data(), factors, errors);
        REQUIRE(std::equal(block.begin(), block.end(), t.scan.codes(0, first)));
        for (index_t k = 0; k < count; ++k) {
          REQUIRE(factors[k] == t.scan.factors()[first + k]);
          const float error = kernels::f16_to_float(errors[k]);
          if (bits > 2)
            REQUIRE(error == t.scan.error_norm(first + k));
          else
            REQUIRE(top_k::error_byte::decode(top_k::error_byte::up(error)) ==
                    t.scan.error_norm(first + k));
        }
      }
    }
}

TEST_CASE("records are gathered in the order asked for, and other places are left alone",
          "[top_k]") {
  test::prepared_call c({200, 64});
  const twice t(4, c);
  const std::vector<row_t> asked{199, 3, 3, 77};
  std::vector<std::uint8_t> block(64 * 8, 0xEE);
  std::uint16_t factors[16] = {}, errors[16] = {};
  for (const row_t row : asked) t.records.prefetch(row);
  t.records.gather(asked, block.data(), factors, errors);
  for (std::size_t k = 0; k < 16; ++k)
    for (std::size_t word = 0; word < 8; ++word)
      for (std::size_t b = 0; b < 4; ++b) {
        const std::uint8_t got = block[64 * word + 4 * k + b];
        if (k >= asked.size()) {
          REQUIRE(got == 0xEE);
          continue;
        }
        const row_t row = asked[k];
        REQUIRE(got == t.scan.codes(0, row / 16 * 16)[64 * word + 4 * (row % 16) + b]);
      }
  for (std::size_t k = 0; k < asked.size(); ++k) CHECK(factors[k] == t.scan.factors()[asked[k]]);
  CHECK(factors[4] == 0);
}

TEST_CASE("records may be stored anew, in any order, while there is room for more", "[top_k]") {
  detail::head_source source(8, 8);
  std::vector<Eigen::VectorXf> keys;
  for (int i = 0; i < 40; ++i) keys.push_back(source.normals(64).cast<float>());
  std::vector<std::uint8_t> scratch(64);
  code_records once(4, 64), grown(4, 64);
  once.reserve(40);
  for (index_t i = 0; i < 40; ++i)
    once.store(i, keys[static_cast<std::size_t>(i)].data(), scratch.data());
  for (index_t i = 0; i < 40; ++i) {
    grown.reserve(i + 1);
    grown.store(i, keys[static_cast<std::size_t>(39 - i)].data(), scratch.data());
  }
  for (index_t i = 39; i >= 0; --i)
    grown.store(i, keys[static_cast<std::size_t>(i)].data(), scratch.data());
  for (row_t row = 0; row < 40; ++row) {
    std::vector<std::uint8_t> a(64 * 8, 0), b(64 * 8, 0);
    std::uint16_t factor[2] = {}, error[2] = {};
    once.gather({&row, 1}, a.data(), factor, error);
    grown.gather({&row, 1}, b.data(), factor + 1, error + 1);
    REQUIRE(a == b);
    REQUIRE(factor[0] == factor[1]);
    REQUIRE(error[0] == error[1]);
  }
}

TEST_CASE("bytes a record, and widths", "[top_k]") {
  CHECK(code_records(4, 64).bytes_each() == 36);
  CHECK(code_records(2, 64).bytes_each() == 20);
  CHECK(code_records(1, 80).bytes_each() == 16);  // 80 bits in words of 32
  CHECK(code_records(8, 128).bytes_each() == 132);
  CHECK_THROWS_WITH(code_records(6, 64), "vattention: code_records: want 1, 2, 4 or 8 bits, got 6");
  CHECK_THROWS_AS(code_records(3, 64), std::invalid_argument);
}
