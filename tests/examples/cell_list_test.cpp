// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama.cpp/cell_list.hpp"

#include <optional>
#include <random>

#include "support/catch.hpp"

using namespace vattn_llama_cpp;

namespace {

constexpr std::uint16_t hides = 0xFC00, half = 0x3800;

using cells_type = std::vector<std::int32_t>;

/// f16 mask of `cells` cells that shows those listed.
std::vector<std::uint16_t> mask_of(const cells_type& shown, std::size_t cells) {
  std::vector<std::uint16_t> mask(cells, hides);
  for (const std::int32_t cell : shown) mask[static_cast<std::size_t>(cell)] = 0;
  return mask;
}
cells_type range(std::int32_t first, std::int32_t last) {
  cells_type all;
  for (std::int32_t cell = first; cell < last; ++cell) all.push_back(cell);
  return all;
}
void write(cell_times& times, const cells_type& cells) {
  const std::vector<std::uint32_t> all(cells.begin(), cells.end());
  times.write(all);
}
/// The list of one token that sees these cells.
index_t follow(cell_list& list, const cells_type& shown, const cell_times& times,
               std::size_t cells = 64) {
  const std::vector<std::uint16_t> mask = mask_of(shown, cells);
  const std::uint16_t* const masks[] = {mask.data()};
  return list.follow(masks, static_cast<index_t>(cells), times);
}
cells_type listed(const cell_list& list) { return {list.listed().begin(), list.listed().end()}; }

}  // namespace

TEST_CASE("cells that are written one after the other are rows in place") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 40));
  CHECK(follow(list, range(0, 40), times) == 0);
  for (std::int32_t n = 40; n < 50; ++n) {
    write(times, {n});
    CHECK(follow(list, range(0, n + 1), times) == n);
    CHECK(list.size() == n + 1);
    CHECK(list.cells() == nullptr);
    CHECK(list.sight(0).visible == n + 1);
    CHECK(list.sight(0).bias == nullptr);
  }
  // Nothing new: nothing differs.
  CHECK(follow(list, range(0, 50), times) == 50);
}

TEST_CASE(
    "a shorter list is a beginning of the old one, and cells that are written again are new") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 40));
  follow(list, range(0, 40), times);
  CHECK(follow(list, range(0, 25), times) == 25);
  CHECK(listed(list) == range(0, 25));
  write(times, range(25, 30));
  CHECK(follow(list, range(0, 30), times) == 25);
  // Written between two looks, although the mask shows the same cells.
  write(times, {28, 29});
  CHECK(follow(list, range(0, 30), times) == 28);
  CHECK(listed(list) == range(0, 30));
}

TEST_CASE("a cell that fills a hole is the last row, and rows before the hole stay") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 40));
  follow(list, range(0, 40), times);
  cells_type shown = range(0, 10);
  for (const std::int32_t cell : range(15, 40)) shown.push_back(cell);
  CHECK(follow(list, shown, times) == 10);
  CHECK(listed(list) == shown);
  write(times, {12, 11});
  shown.push_back(12);
  shown.push_back(11);
  CHECK(follow(list, shown, times) == 35);
  CHECK(listed(list) == shown);
  REQUIRE(list.cells() != nullptr);
  CHECK(list.sight(0).visible == 37);
  CHECK(list.sight(0).bias == nullptr);
}

TEST_CASE("after a rewrite all rows are new, in their order") {
  cell_times times(64);
  cell_list list;
  write(times, {5, 4, 3});
  follow(list, {3, 4, 5}, times);
  CHECK(listed(list) == cells_type{5, 4, 3});
  times.rewrite();
  CHECK(follow(list, {3, 4, 5}, times) == 0);
  CHECK(listed(list) == cells_type{5, 4, 3});
  CHECK(follow(list, {3, 4, 5}, times) == 3);
}

TEST_CASE("tokens that see more and more rows see first rows of one list") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 40));
  const std::vector<std::uint16_t> a = mask_of(range(0, 38), 64), b = mask_of(range(0, 39), 64),
                                   c = mask_of(range(0, 40), 64);
  const std::uint16_t* const masks[] = {a.data(), b.data(), c.data()};
  list.follow(masks, 64, times);
  CHECK(list.size() == 40);
  for (std::size_t t = 0; t < 3; ++t) {
    CHECK(list.sight(t).visible == 38 + static_cast<index_t>(t));
    CHECK(list.sight(t).bias == nullptr);
  }
}

TEST_CASE("what is no number of first rows, and what is added to logits, becomes a bias") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 20));
  // Two branches of a tree, and one token with a number in its mask.
  cells_type one = range(0, 10), two = range(0, 9);
  one.push_back(12);
  two.push_back(13);
  std::vector<std::uint16_t> a = mask_of(one, 64), b = mask_of(two, 64), c = mask_of({0, 1}, 64);
  c[1] = half;
  const std::uint16_t* const masks[] = {a.data(), b.data(), c.data()};
  list.follow(masks, 64, times);
  cells_type all = range(0, 10);
  all.insert(all.end(), {12, 13});
  CHECK(listed(list) == all);
  CHECK(list.sight(0).visible == 11);
  CHECK(list.sight(0).bias == nullptr);
  REQUIRE(list.sight(1).bias != nullptr);
  CHECK(list.sight(1).visible == 12);
  for (std::size_t i = 0; i < 12; ++i) {
    const bool shown = i < 9 || i == 11;
    CHECK(list.sight(1).bias[i] == (shown ? 0.0F : -INFINITY));
  }
  REQUIRE(list.sight(2).bias != nullptr);
  CHECK(list.sight(2).visible == 2);
  CHECK(list.sight(2).bias[0] == 0.0F);
  CHECK(list.sight(2).bias[1] == 0.5F);
}

TEST_CASE("a token that sees nothing has no rows") {
  cell_times times(64);
  cell_list list;
  write(times, range(0, 4));
  follow(list, {0, 1}, times);
  CHECK(follow(list, {}, times) == 0);
  CHECK(list.size() == 0);
  CHECK(list.sight(0).visible == 0);
}

// A cache that is written, freed, rewritten and looked at by chance: what the list says did not change has not, and
// rows are the cells shown, each once, those that are new in the order of their writing. Deterministic.
TEST_CASE("rows before the first that differs hold what they held") {
  std::mt19937 random(11);
  constexpr std::size_t cells = 96;
  cell_times times(cells);
  cell_list list;
  std::vector<int> content(cells, 0);  // a number for each writing
  std::vector<bool> shown(cells, false);
  cells_type rows_then;
  std::vector<int> content_then(cells, 0);
  int writing = 0;
  for (int step = 0; step < 3000; ++step) {
    const auto chance = [&](unsigned of) { return random() % of == 0; };
    cells_type fresh;
    for (std::size_t cell = 0; cell < cells; ++cell) {
      if (!shown[cell] && chance(24)) {
        fresh.push_back(static_cast<std::int32_t>(cell));
        shown[cell] = true;
        content[cell] = ++writing;
      } else if (shown[cell] && chance(60)) {
        shown[cell] = false;
      }
    }
    write(times, fresh);
    if (chance(40)) {
      times.rewrite();
      for (int& x : content) ++x;
    }
    if (chance(3)) continue;  // steps that nobody looks at
    cells_type now;
    for (std::size_t cell = 0; cell < cells; ++cell)
      if (shown[cell]) now.push_back(static_cast<std::int32_t>(cell));
    const index_t first = follow(list, now, times, cells);
    cells_type sorted = listed(list);
    std::sort(sorted.begin(), sorted.end());
    REQUIRE(sorted == now);
    REQUIRE(first <= list.size());
    REQUIRE(first <= static_cast<index_t>(rows_then.size()));
    for (std::size_t row = 0; row < static_cast<std::size_t>(first); ++row) {
      const auto cell = static_cast<std::size_t>(listed(list)[row]);
      REQUIRE(rows_then[row] == listed(list)[row]);
      REQUIRE(content_then[cell] == content[cell]);
    }
    REQUIRE(list.sight(0).visible == list.size());
    rows_then = listed(list);
    content_then = content;
  }
}
