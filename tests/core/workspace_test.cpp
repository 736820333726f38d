// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/workspace.hpp"

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a workspace allocates only for a call larger than any before") {
  workspace ws;
  ws.reserve(4, 1000, 96, 80, true);
  CHECK(test::count_allocations([&] {
          ws.reserve(4, 1000, 96, 80, true);
          ws.reserve(1, 10, 8, 8, false);
          ws.reserve(2, 1000, 64, 80, true);
          ws.reserve(4, 1500, 96, 80, true);
        }) == 0);
}

TEST_CASE("a cache that gets a row a step makes it allocate a logarithmic number of times") {
  workspace ws;
  int growths = 0;
  for (index_t rows = 1; rows <= 3000; ++rows)
    growths += test::count_allocations([&] { ws.reserve(4, rows, 64, 64, true); }) > 0 ? 1 : 0;
  // log_1.5 of 3000 is 19.7 for each of a few kinds of buffers that grow out of step.
  CHECK(growths <= 60);
  CHECK((growths >= 10 || !test::counts_allocations));
}

TEST_CASE("reserve empties exact set, draw and ranks") {
  workspace ws;
  ws.reserve(1, 100, 4, 4, true);
  ws.exact.add(3);
  ws.exact.list();
  ws.drawn.append(5, certain);
  ws.draws.ranks.add(9);
  ws.reserve(1, 90, 4, 4, true);
  CHECK(ws.exact.size() == 0);
  CHECK(ws.exact.rows().empty());
  CHECK(ws.exact.universe() == 90);
  CHECK(ws.drawn.size() == 0);
  CHECK(ws.draws.ranks.size() == 0);
  CHECK(ws.seen.rows() == 90);
}

TEST_CASE("every buffer holds what a call of the given shape may write") {
  workspace ws;
  const index_t rows = 700, key_dim = 33, value_dim = 17;
  ws.reserve(3, rows, key_dim, value_dim, true);
  ws.reserve_proposals(3, rows);
  ws.reserve_bounds(3, rows);
  ws.reserve_collisions(rows, key_dim);
  // Written from end to end; the address sanitizer objects if one is short.
  const auto fill = [](auto& buffer, index_t count) {
    std::fill_n(buffer.data(), count, std::remove_cvref_t<decltype(*buffer.data())>{});
  };
  fill(ws.candidates, rows);
  fill(ws.picks, rows);
  fill(ws.addresses, workspace::block);
  fill(ws.value_copies, value_dim * workspace::block);
  fill(ws.weights, 3 * 3 * workspace::block);
  fill(ws.sums, 3 * value_dim);
  fill(ws.group_sums, variance_groups * 3 * 3 * value_dim);
  fill(ws.sample_logits, 3 * rows);
  fill(ws.squares, rows);
  fill(ws.query_codes, (3 + 1) * ((key_dim + 31) / 32 * 32));
  fill(ws.query_terms, 4 * 3);
  fill(ws.code_dots, 2 * (3 + 1) * workspace::block);
  fill(ws.draws.constants, 8 * 3);
  fill(ws.draws.shares, 3 * rows);
  for (reached_rows* list : {&ws.draws.waiting, &ws.draws.settled}) {
    CHECK(list->count == 0);
    fill(list->rows, list->stride);
    fill(list->numbers, list->stride);
    fill(list->logs, 3 * list->stride);
  }
  CHECK(ws.draws.waiting.stride == 2 * rows);
  CHECK(ws.draws.settled.stride == rows);
  fill(ws.draws.histograms, 3 * share_histogram::buckets);
  fill(ws.draws.scales, 3);
  fill(ws.rotated, 10 * key_dim);
  fill(ws.draws.collisions.marks, rows);
  fill(ws.draws.collisions.histogram, 2 * (collision_counts::most_tables + 1));
  fill(ws.draws.collisions.direction, 2 * key_dim);
  fill(ws.draws.collisions.same_side, rows);
  fill(ws.lower, rows);
  fill(ws.upper, rows);
  fill(ws.ranges, 2 * 3);
  for (index_t h = 0; h < 3; ++h) {
    CHECK(ws.head(h).value_dim() == value_dim);
    ws.head(h).clear_numbers();
    std::fill_n(ws.logits_of(h), rows, 0.0F);
  }
  CHECK(ws.head(1).numbers().data() ==
        ws.head(0).numbers().data() + partial_view::doubles(value_dim));
  CHECK(ws.head(2).a_v(31) == ws.group_sums_of(31, 0, 2));
  CHECK(ws.head(2).s_v(31) == ws.group_sums_of(31, 1, 2));
  CHECK(ws.logits_of(2) == ws.logits_of(0) + 2 * rows);
}

TEST_CASE("a call that scores no rows needs no scores") {
  workspace ws;
  ws.reserve(4, 1000, 64, 64, false);
  CHECK(ws.seen.rows() == 0);
}
