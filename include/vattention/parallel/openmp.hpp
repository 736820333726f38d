// SPDX-License-Identifier: Apache-2.0
/// @file
/// OpenMP's threads. Not part of `vattention.hpp`: include it where the compiler is told of OpenMP.
#pragma once

#if !defined(_OPENMP)
#error "vattention: parallel/openmp.hpp wants OpenMP: compile with -fopenmp"
#endif

#include <omp.h>

#include "vattention/core/errors.hpp"
#include "vattention/parallel/executor.hpp"

namespace vattn::parallel {

/// A team of OpenMP threads, each taking the next item when it is done with one. OpenMP may give fewer
/// threads than asked, inside another parallel region one: the others take their items.
class openmp {
public:
  /// As many as OpenMP would use, or as asked.
  openmp() noexcept : workers_(omp_get_max_threads()) {}
  /// @throws std::invalid_argument unless there is a worker.
  explicit openmp(int workers) : workers_(workers) {
    require(workers >= 1, "openmp", "at least one worker", workers);
  }

  int workers() const noexcept { return workers_; }
  template <item_body Body>
  void run(index_t count, const Body& body) const noexcept {
#pragma omp parallel for schedule(dynamic, 1) num_threads(workers_)
    for (index_t item = 0; item < count; ++item) body(omp_get_thread_num(), item);
  }

private:
  int workers_;
};
static_assert(executor<openmp>);

}  // namespace vattn::parallel
