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

TEST_CASE("a record holds the words that the key has in a block of the scan", "[top_k]") {
  for (const int bits : widths)
    for (const index_t d : {1, 7, 64, 80, 96, 128}) {
      test::prepared_call c({333, d});
      if (d > 7) c.head.keys(40, 3) = std::numeric_limits<float>::quiet_NaN();
      const twice t(bits, c);
      const index_t words = t.records.words();
      CAPTURE(bits, d);
      CHECK(words == t.scan.book().words(0, d));
      for (row_t row = 0; row < 333; ++row) {
        const auto* codes = static_cast<const std::uint8_t*>(t.records.record(row));
        const std::uint8_t* block = t.scan.codes(0, row / 16 * 16);
        for (index_t i = 0; i < 4 * words; ++i)
          REQUIRE(codes[i] == block[64 * (i / 4) + 4 * (row % 16) + i % 4]);
        REQUIRE(t.records.factor(row) == t.scan.factors()[row]);
        const float error = kernels::f16_to_float(t.records.error(row));
        if (bits > 2)
          REQUIRE(error == t.scan.error_norm(row));
        else
          REQUIRE(top_k::error_byte::decode(top_k::error_byte::up(error)) ==
                  t.scan.error_norm(row));
      }
    }
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
    const auto* a = static_cast<const std::uint8_t*>(once.record(row));
    const auto* b = static_cast<const std::uint8_t*>(grown.record(row));
    REQUIRE(std::equal(a, a + 4 * once.words(), b));
    REQUIRE(once.factor(row) == grown.factor(row));
    REQUIRE(once.error(row) == grown.error(row));
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
