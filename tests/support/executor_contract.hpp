// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every executor must do: `check_executor_contract(executor)`.
#pragma once

#include <atomic>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/parallel/executor.hpp"

namespace vattn::test {

/// Each item once, on workers that exist and do one thing at a time; plain writes are seen afterwards.
template <executor E>
void check_executor_contract(E& on) {
  const int workers = on.workers();
  REQUIRE(workers >= 1);
  std::vector<std::atomic<int>> busy(static_cast<std::size_t>(workers));
  for (const index_t count : {0, 1, 2, 3, 7, 64, 1000}) {
    std::vector<int> calls(static_cast<std::size_t>(count), 0);  // plain on purpose
    std::atomic<int> outside{0}, overlaps{0};
    on.run(count, [&](int worker, index_t item) noexcept {
      if (worker < 0 || worker >= workers || item < 0 || item >= count) {
        ++outside;
        return;
      }
      std::atomic<int>& at_work = busy[static_cast<std::size_t>(worker)];
      if (at_work.fetch_add(1) != 0) ++overlaps;
      ++calls[static_cast<std::size_t>(item)];
      at_work.fetch_sub(1);
    });
    CAPTURE(workers, count);
    CHECK(outside == 0);
    CHECK(overlaps == 0);
    CHECK(calls == std::vector<int>(static_cast<std::size_t>(count), 1));
    CHECK(on.workers() == workers);
  }
}

/// Many short runs one after the other: none loses an item, or takes one of another run.
template <executor E>
void check_many_runs(E& on, int runs) {
  for (int run = 0; run < runs; ++run) {
    const index_t count = run % 9;
    std::atomic<index_t> sum{0};
    on.run(count, [&](int /*worker*/, index_t item) noexcept { sum += run + item; });
    const index_t want = count * run + count * (count - 1) / 2;
    if (sum != want) {
      CAPTURE(run, count);
      REQUIRE(sum == want);
    }
  }
  SUCCEED();
}

}  // namespace vattn::test
