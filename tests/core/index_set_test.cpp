// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/index_set.hpp"

#include <set>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/rng.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

list listed(index_set& s) {
  s.list();
  return {s.rows().begin(), s.rows().end()};
}

}  // namespace

TEST_CASE("a set lists its rows in ascending order, each once") {
  index_set s;
  s.reset(200);
  CHECK(listed(s).empty());
  for (const row_t row : {199U, 64U, 0U, 63U, 64U, 128U, 0U}) s.add(row);
  CHECK(s.size() == 5);
  CHECK(listed(s) == list{0, 63, 64, 128, 199});
  CHECK(s.contains(128));
  CHECK_FALSE(s.contains(127));
  CHECK(s.universe() == 200);
  s.add_range(126, 130);
  CHECK(s.size() == 8);
  CHECK(listed(s) == list{0, 63, 64, 126, 127, 128, 129, 199});
  s.add_range(5, 5);
  CHECK(s.size() == 8);
}

TEST_CASE("rows are added a word at a time") {
  index_set s;
  s.reset(130);
  s.add(64);
  s.add_word(1, 0x8000000000000005U);
  s.add_word(2, 2);
  s.add_word(0, 0);
  CHECK(s.size() == 4);
  CHECK(listed(s) == list{64, 66, 127, 129});
}

TEST_CASE("the list is that of the last call to list()") {
  index_set s;
  s.reset(10);
  s.add(3);
  s.list();
  s.add(1);
  CHECK(s.rows().size() == 1);
  CHECK(s.size() == 2);
  CHECK(listed(s) == list{1, 3});
}

TEST_CASE("a set equals std::set on random rows, for universes around the word size") {
  for (const index_t n : {1, 2, 63, 64, 65, 127, 128, 129, 1000}) {
    const random_stream stream({static_cast<std::uint64_t>(n)}, 1);
    index_set s;
    s.reset(n);
    std::set<row_t> expected;
    for (std::uint64_t i = 0; i < 300; ++i) {
      const auto row = static_cast<row_t>(stream.below(i, static_cast<std::uint64_t>(n)));
      s.add(row);
      expected.insert(row);
    }
    CAPTURE(n);
    CHECK(s.size() == static_cast<index_t>(expected.size()));
    CHECK(listed(s) == list(expected.begin(), expected.end()));
  }
}

TEST_CASE("a list knows whether it has a row of a range") {
  index_set set;
  set.reset(500);
  for (const row_t row : {3U, 255U, 256U, 400U}) set.add(row);
  CHECK_FALSE(set.lists_any(0, 500));  // not listed yet
  set.list();
  CHECK(set.lists_any(0, 4));
  CHECK_FALSE(set.lists_any(0, 3));
  CHECK_FALSE(set.lists_any(4, 255));
  CHECK(set.lists_any(255, 256));
  CHECK(set.lists_any(256, 512));
  CHECK_FALSE(set.lists_any(401, 512));
}

TEST_CASE("reset empties the set, whatever universe it had") {
  index_set s;
  s.reset(1000);
  s.add_range(0, 1000);
  s.list();
  s.reset(70);
  CHECK(s.size() == 0);
  CHECK(s.rows().empty());
  CHECK(listed(s).empty());
  s.reset(1000);
  CHECK(listed(s).empty());
  s.reset(0);
  CHECK(listed(s).empty());
}

TEST_CASE("a set allocates only where its universe has never been as large") {
  index_set s;
  s.reset(1000);
  CHECK(test::count_allocations([&] {
          s.reset(1000);
          s.add_range(0, 1000);
          s.list();
          s.reset(10);
          s.add(3);
          s.list();
        }) == 0);
}

TEST_CASE("the residual counts and numbers the rows outside a set") {
  for (const index_t n : {1, 5, 64, 65, 300}) {
    const random_stream stream({static_cast<std::uint64_t>(n)}, 2);
    for (const std::uint64_t keep : {0U, 1U, 3U, 8U}) {
      index_set s;
      s.reset(n);
      for (index_t row = 0; row < n; ++row)
        if (stream.below(static_cast<std::uint64_t>(row), 8) < keep) s.add(static_cast<row_t>(row));
      s.list();
      const population rest(n, s);
      list expected, ranks;
      for (index_t row = 0; row < n; ++row)
        if (!s.contains(static_cast<row_t>(row))) expected.push_back(static_cast<row_t>(row));
      CAPTURE(n, keep);
      REQUIRE(rest.size() == static_cast<index_t>(expected.size()));
      for (std::size_t i = 0; i < expected.size(); ++i) ranks.push_back(static_cast<row_t>(i));
      rest.to_rows(ranks);
      CHECK(ranks == expected);

      list some, of_some;
      for (std::size_t i = 0; i < expected.size(); i += 3) {
        some.push_back(static_cast<row_t>(i));
        of_some.push_back(expected[i]);
      }
      rest.to_rows(some);
      CHECK(some == of_some);
    }
  }
}

TEST_CASE("a range knows its size") {
  CHECK(half_open{}.size() == 0);
  CHECK(half_open{3, 10}.size() == 7);
}
