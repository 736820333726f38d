// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/team.hpp"

#include <atomic>
#include <vector>

#include "support/catch.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/core/workspace.hpp"
#include "vattention/parallel/serial.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// How often each item came, and that its scratch was one of `some`.
void check_items(const team& workers, worker_spaces& some, index_t count) {
  std::vector<std::atomic<int>> came(static_cast<std::size_t>(count));
  std::atomic<bool> known{true};
  workers.for_each(count, some.of[0], [&](workspace& scratch, index_t item) {
    ++came[static_cast<std::size_t>(item)];
    if (&scratch < some.of.data() || &scratch > &some.of.back()) known = false;
  });
  for (const auto& times : came) REQUIRE(times == 1);
  CHECK(known);
}

}  // namespace

TEST_CASE("a team does every item once, whoever it is made of", "[batch]") {
  worker_spaces some;
  for (const index_t count : {0, 1, 2, 50}) {
    CAPTURE(count);
    check_items({}, some, count);
    parallel::thread_pool pool(4);
    check_items({pool, &some, worker_spaces::at}, some, count);
    const parallel::serial serial;
    check_items({serial, &some, worker_spaces::at}, some, count);
  }
}

TEST_CASE("a team of one uses the workspace of the call, in order", "[batch]") {
  const team alone;
  CHECK(alone.alone());
  workspace own;
  std::vector<index_t> items;
  alone.for_each(3, own, [&](workspace& scratch, index_t item) {
    CHECK(&scratch == &own);
    items.push_back(item);
  });
  CHECK(items == std::vector<index_t>{0, 1, 2});
}

TEST_CASE("rows are shared by chunks", "[batch]") {
  const team alone;
  workspace own;
  index_t next = 0;
  alone.over_rows(10000, own, [&](workspace&, half_open rows) {
    CHECK(rows.first == next);
    CHECK(rows.size() == std::min<index_t>(row_chunks::size, 10000 - rows.first));
    next = rows.last;
  });
  CHECK(next == 10000);
}
