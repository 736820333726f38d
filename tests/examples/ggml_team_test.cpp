// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama.cpp/ggml_team.hpp"

#include <thread>

#include "support/executor_contract.hpp"

using namespace vattn;
using vattn_llama_cpp::ggml_team;

namespace {

/// Threads that meet in operator after operator, as ggml's do: thread 0 drives, a barrier is between operators.
template <class Drive>
void run_operators(int threads, int operators, Drive drive) {
  ggml_team team;
  std::atomic<int> arrived{0};
  const auto meet = [&](int operation) {
    ++arrived;
    while (arrived < threads * (operation + 1)) std::this_thread::yield();
  };
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread)
    others.emplace_back([&, thread] {
      for (int operation = 0; operation < operators; ++operation) {
        team.help(thread);
        team.leave(threads);
        meet(operation);
      }
    });
  for (int operation = 0; operation < operators; ++operation) {
    team.begin(threads);
    drive(team, operation);
    team.end();
    team.leave(threads);
    meet(operation);
  }
  for (std::thread& other : others) other.join();
}

}  // namespace

TEST_CASE("threads that meet in an operator keep the contract of executors") {
  for (const int threads : {1, 2, 3, 5})
    run_operators(threads, 3, [&](ggml_team& team, int /*operation*/) {
      CHECK(team.workers() == threads);
      test::check_executor_contract(team);
    });
}

TEST_CASE("short runs in many operators are kept apart") {
  for (const int threads : {2, 4})
    run_operators(threads, 50, [](ggml_team& team, int operation) {
      if (operation % 7 != 0) test::check_many_runs(team, 40);
    });
}
