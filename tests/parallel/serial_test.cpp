// SPDX-License-Identifier: Apache-2.0
#include "vattention/parallel/serial.hpp"

#include <thread>

#include "support/executor_contract.hpp"

using namespace vattn;

TEST_CASE("serial keeps the contract of executors") {
  parallel::serial on;
  CHECK(on.workers() == 1);
  test::check_executor_contract(on);
  test::check_many_runs(on, 100);
}

TEST_CASE("serial runs in order, on the caller's thread") {
  std::vector<index_t> items;
  items.reserve(5);
  bool elsewhere = false;
  const auto caller = std::this_thread::get_id();
  const auto body = [&](int worker, index_t item) noexcept {
    elsewhere = elsewhere || worker != 0 || std::this_thread::get_id() != caller;
    items.push_back(item);
  };
  CHECK(test::count_allocations([&] { parallel::serial().run(5, body); }) == 0);
  CHECK(items == std::vector<index_t>{0, 1, 2, 3, 4});
  CHECK_FALSE(elsewhere);
}
