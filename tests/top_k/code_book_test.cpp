// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/code_book.hpp"

#include <limits>

#include "support/catch.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;
using top_k::code_book;

namespace {

constexpr int widths[] = {1, 2, 4, 6, 8};

/// Share of a normal coordinate's variance that its code loses, at the best single factor.
double lost_variance(int bits) {
  const code_book book(bits);
  detail::head_source source(5, 1);
  constexpr float largest = 4.5F;  // of 20000 coordinates; where 6 and 8 bits end
  std::vector<float> x;
  for (int i = 0; i < 20000; ++i) x.push_back(static_cast<float>(source.normal()));
  double along = 0.0, levels = 0.0, square = 0.0;
  for (const float each : x) {
    const double level = book.level(book.code(each, 1.0F, largest));
    along += static_cast<double>(each) * level;
    levels += level * level;
    square += static_cast<double>(each) * static_cast<double>(each);
  }
  return 1.0 - along * along / (levels * square);
}

}  // namespace

TEST_CASE("only 1, 2, 4, 6 and 8 bits make a code") {
  for (const int bits : widths) CHECK(code_book(bits).bits() == bits);
  for (const int bits : {-1, 0, 3, 5, 7, 9, 16})
    CHECK_THROWS_AS(code_book(bits), std::invalid_argument);
  CHECK_THROWS_WITH(code_book(3), "vattention: key_code: want 1, 2, 4, 6 or 8 bits, got 3");
}

TEST_CASE("levels ascend and are odd-symmetric") {
  for (const int bits : widths) {
    const code_book book(bits);
    const int count = 1 << bits;
    for (int c = 0; c < count; ++c) {
      CAPTURE(bits, c);
      CHECK(book.level(c) == -book.level(count - 1 - c));
      if (c > 0) CHECK(book.level(c) > book.level(c - 1));
    }
  }
}

TEST_CASE("codes are monotone in the coordinate, symmetric, and within range") {
  for (const int bits : widths) {
    const code_book book(bits);
    const int count = 1 << bits;
    int before = 0;
    for (float x = -4.0F; x <= 4.0F; x += 0.01F) {
      const int c = book.code(x, 1.0F, 4.0F);
      CAPTURE(bits, x, c);
      REQUIRE(c >= before);
      REQUIRE(c < count);
      before = c;
      if (std::fabs(std::fmod(x, 0.125F)) > 1e-3F)
        REQUIRE(book.code(-x, 1.0F, 4.0F) == count - 1 - c);
    }
    CHECK(book.code(-4.0F, 1.0F, 4.0F) == 0);
    CHECK(before == count - 1);
    CHECK(book.code(1.0F, 1.0F, 1.0F) >= count / 2);
    CHECK(book.code(-1.0F, 1.0F, 1.0F) < count / 2);
  }
}

TEST_CASE("keys at the ends of float get a code") {
  constexpr float most = std::numeric_limits<float>::max();
  constexpr float least = std::numeric_limits<float>::denorm_min();
  for (const int bits : widths) {
    const code_book book(bits);
    for (const float size : {0.0F, least, 3 * least, 100 * least, 1e-38F, 1e30F, 1e38F, most})
      for (const float x : {size, -size, size / 3, -size / 3, 0.0F}) {
        const int c = book.code(x, size / 2, size);
        CAPTURE(bits, size, x);
        CHECK(c >= 0);
        CHECK(c < 1 << bits);
      }
  }
}

TEST_CASE("a code loses the variance its quantiser should") {
  // Lloyd-Max of a normal variable: 1 bit .3634, 2 bits .1175, 4 bits .0095 (Max 1960, table 1). Equal
  // steps h = 9 / 64 and 9 / 256: h^2 / 12.
  CHECK(lost_variance(1) == Approx(0.3634).margin(0.01));
  CHECK(lost_variance(2) == Approx(0.1175).margin(0.005));
  CHECK(lost_variance(4) == Approx(0.0095).margin(0.001));
  CHECK(lost_variance(6) == Approx(0.00165).epsilon(0.1));
  CHECK(lost_variance(8) == Approx(0.000103).epsilon(0.1));
}

TEST_CASE("planes and words of a block of 16 keys") {
  for (const int bits : widths) {
    const code_book book(bits);
    CHECK(book.planes() == (bits == 6 ? 2 : 1));
    int sum = 0;
    for (int plane = 0; plane < book.planes(); ++plane) {
      const int width = book.plane_bits(plane);
      sum += width;
      for (const index_t dim : {1, 7, 16, 32, 33, 64, 80, 96, 100, 128}) {
        CAPTURE(bits, plane, dim);
        const index_t words = book.words(plane, dim);
        CHECK(words * (32 / width) >= dim);
        CHECK((words - 1) * (32 / width) < dim);
      }
    }
    CHECK(sum == bits);
  }
}

TEST_CASE("the scan's sums give back the sum of levels") {
  // times (sum q byte(first plane) + 16 sum q byte(second plane)) + plus sum q = sum q level(code)
  detail::head_source source(9, 2);
  for (const int bits : widths) {
    const code_book book(bits);
    std::int64_t first = 0, second = 0, query = 0, expected = 0;
    for (int j = 0; j < 200; ++j) {
      const auto q = static_cast<std::int64_t>(source.below(255)) - 127;
      const auto code = static_cast<int>(source.below(index_t{1} << bits));
      const int low = bits == 6 ? code & 15 : code;
      first += q * (bits == 8 ? code : book.lookup()[low]);
      if (bits == 6) second += q * book.lookup()[code >> 4];
      query += q;
      expected += q * book.level(code);
    }
    CAPTURE(bits);
    CHECK(book.level_times() * (first + 16 * second) + book.level_plus() * query == expected);
  }
}
