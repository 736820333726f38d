// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/lsh_index.hpp"

#include <sstream>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/index_file.hpp"

using namespace vattn;

TEST_CASE("rows agree in the tables all of whose bits do", "[top_k]") {
  const std::pair<int, int> kinds[] = {{64, 1}, {96, 2}, {48, 4}, {16, 8}, {24, 16}, {1024, 1}};
  for (const auto& [tables, bits] : kinds) {
    test::prepared_call c({300, 24, 1});
    top_k::lsh_index index(tables, bits, 24, 3);
    index.append(c.view());
    CHECK(index.tables() == tables);
    CHECK(index.bits() == bits);
    CHECK(index.words() == tables * bits / 64);
    std::vector<float> x(24), room(8 * 24);
    std::copy_n(c.head.queries.data(), 24, x.data());
    std::vector<std::uint64_t> query(
        static_cast<std::size_t>(top_k::lsh_planes::patterns * index.words()));
    index.hash_query(x.data(), room.data(), query.data());
    for (const auto& [first, last] :
         {std::pair{0, tables}, {0, 0}, {3, tables - 1}, {tables / 2, tables}}) {
      std::vector<std::uint16_t> marks(300);
      index.count(query.data(), {7, 300}, first, last, marks.data());
      for (index_t row = 7; row < 300; ++row) {
        const int pattern = top_k::lsh_planes::pattern_of(row);
        int agreeing = 0;
        for (int table = first; table < last; ++table) {
          bool agrees = true;
          for (int bit = table * bits; bit < (table + 1) * bits; ++bit) {
            const std::uint64_t apart =
                index.signature(row)[bit / 64] ^
                query[static_cast<std::size_t>(pattern * index.words() + bit / 64)];
            agrees = agrees && (apart >> (bit % 64) & 1U) == 0;
          }
          agreeing += agrees ? 1 : 0;
        }
        CAPTURE(tables, bits, first, last, row);
        REQUIRE(marks[static_cast<std::size_t>(row - 7)] ==
                collision_counts::mark(agreeing, pattern % 2));
      }
    }
  }
}

TEST_CASE("a signature is that of the centred, turned key under the row's pattern", "[top_k]") {
  test::prepared_call c({400, 80, 1, element::bf16, 4});
  top_k::lsh_index index(128, 1, 80, 3);
  index.append(c.view());
  std::vector<float> x(80), room(80);
  for (index_t row = 0; row < 400; row += 13) {
    index.load(c.view(), row, x.data());
    std::uint64_t words[2];
    index.planes().hash(x.data(), top_k::lsh_planes::pattern_of(row), room.data(), words);
    REQUIRE(words[0] == index.signature(row)[0]);
    REQUIRE(words[1] == index.signature(row)[1]);
  }
}

TEST_CASE("an index of another seed or other tables is refused in a file", "[top_k]") {
  test::prepared_call c({300, 16});
  top_k::lsh_index index(64, 1, 16, 5);
  index.append(c.view());
  std::ostringstream out;
  save_index(index, out);
  const auto load_into = [&](top_k::lsh_index other) {
    std::istringstream in(out.str());
    load_index(other, in);
    CHECK(other.rows() == 300);
  };
  CHECK_NOTHROW(load_into({64, 1, 16, 5}));
  CHECK_THROWS_WITH(load_into({64, 1, 16, 6}), "vattention: load_index: an index of seed 5, not 6");
  CHECK_THROWS_WITH(load_into({128, 1, 16, 5}),
                    "vattention: load_index: an index of tables 64, not 128");
  CHECK_THROWS_WITH(load_into({64, 2, 16, 5}),
                    "vattention: load_index: an index of bits a table 1, not 2");
}

TEST_CASE("rows whose turned keys are not finite are odd", "[top_k]") {
  constexpr float most = std::numeric_limits<float>::max();
  test::prepared_call c({300, 16});
  c.head.keys(9, 3) = std::numeric_limits<float>::infinity();
  c.head.keys(256, 0) = std::numeric_limits<float>::quiet_NaN();
  for (index_t j = 0; j < 16; ++j) c.head.keys(280, j) = most;
  top_k::lsh_index index(64, 1, 16, 5);
  index.append(c.view());
  std::vector<float> x(16);
  index.load(c.view(), 280, x.data());
  const bool finite = std::all_of(x.begin(), x.end(), [](float v) { return std::isfinite(v); });
  CHECK(index.odd().rows() ==
        (finite ? std::vector<row_t>{9, 256} : std::vector<row_t>{9, 256, 280}));
}
