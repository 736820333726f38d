// SPDX-License-Identifier: Apache-2.0
#include "vattention/parallel/thread_pool.hpp"

#include <chrono>
#include <set>

#include "support/executor_contract.hpp"

using namespace vattn;
using parallel::thread_pool;

TEST_CASE("a thread pool of any size keeps the contract of executors") {
  for (const int workers : {1, 2, 3, 8}) {
    thread_pool pool(workers);
    CHECK(pool.workers() == workers);
    test::check_executor_contract(pool);
  }
}

TEST_CASE("a thread pool keeps many short runs apart") {
  for (const int workers : {2, 5}) {
    thread_pool pool(workers);
    test::check_many_runs(pool, 5000);
  }
}

TEST_CASE("a thread pool begins items in order, and all of its workers work") {
  thread_pool pool(3);
  std::atomic<index_t> next{0};
  std::atomic<int> arrived{0}, late{0};
  std::vector<std::thread::id> threads(3);
  // Three items that wait for each other need three threads.
  pool.run(3, [&](int worker, index_t item) noexcept {
    next.fetch_add(1);
    threads[static_cast<std::size_t>(worker)] = std::this_thread::get_id();
    ++arrived;
    const auto begun = std::chrono::steady_clock::now();
    while (arrived < 3 && std::chrono::steady_clock::now() - begun < std::chrono::seconds(60))
      std::this_thread::yield();
    if (arrived < 3) ++late;
    static_cast<void>(item);
  });
  CHECK(late == 0);
  CHECK(threads[0] == std::this_thread::get_id());
  CHECK(std::set<std::thread::id>(threads.begin(), threads.end()).size() == 3);
  std::vector<index_t> begun;
  thread_pool alone(1);
  alone.run(4, [&](int, index_t item) noexcept { begun.push_back(item); });
  CHECK(begun == std::vector<index_t>{0, 1, 2, 3});
}

TEST_CASE("a run waits for all items, not for threads without any") {
  thread_pool pool(4);
  std::atomic<int> done{0};
  pool.run(2, [&](int, index_t item) noexcept {
    if (item == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    ++done;
  });
  CHECK(done == 2);
}

TEST_CASE("a thread pool allocates nothing in a run") {
  thread_pool pool(3);
  std::atomic<std::int64_t> within{0};
  test::begin_counting();
  const std::int64_t outside = test::count_allocations([&] {
    for (int run = 0; run < 20; ++run)
      pool.run(50, [&](int, index_t) noexcept {
        const std::int64_t before = test::allocations;
        std::this_thread::yield();
        within += test::allocations - before;
      });
  });
  CHECK(outside == 0);
  CHECK(within == 0);
}

TEST_CASE("a thread pool comes and goes without a run") {
  for (int i = 0; i < 50; ++i) thread_pool pool(1 + i % 4);
  SUCCEED();
}

TEST_CASE("a thread pool has a worker at least") {
  CHECK_THROWS_WITH(thread_pool(0), "vattention: thread_pool: want at least one worker, got 0");
  CHECK_THROWS_AS(thread_pool(-2), std::invalid_argument);
}
