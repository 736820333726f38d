// SPDX-License-Identifier: Apache-2.0
// Compiled with OpenMP where CMake finds it; without it compile_fail/openmp_without_openmp.cpp says what the
// header does.
#if defined(_OPENMP)
#include "vattention/parallel/openmp.hpp"

#include "support/executor_contract.hpp"

using namespace vattn;
using parallel::openmp;

/// LLVM's OpenMP keeps the records of its threads until the process ends: no leak of ours.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libomp.so"; }

TEST_CASE("openmp keeps the contract of executors") {
  CHECK(openmp().workers() == omp_get_max_threads());
  for (const int workers : {1, 2, 3, 8}) {
    openmp on(workers);
    CHECK(on.workers() == workers);
    test::check_executor_contract(on);
    test::check_many_runs(on, 200);
  }
}

TEST_CASE("openmp inside a parallel region does all items") {
  std::atomic<int> calls{0};
#pragma omp parallel num_threads(2)
  openmp(3).run(5, [&](int, index_t) noexcept { ++calls; });
  CHECK(calls == 10);
}

TEST_CASE("openmp has a worker at least") {
  CHECK_THROWS_WITH(openmp(0), "vattention: openmp: want at least one worker, got 0");
}
#endif
