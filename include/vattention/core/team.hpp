// SPDX-License-Identifier: Apache-2.0
/// @file
/// Threads that share one call.
#pragma once

#include "vattention/core/row_chunks.hpp"
#include "vattention/parallel/executor.hpp"

namespace vattn {

class workspace;

/// Threads that share the passes of one call, each with scratch of its own; alone unless made from an executor.
///
/// A pass is cut at boundaries that depend on the number of rows alone, and what its parts leave is put
/// together in their order: the same bits come out for any number of threads. Not owning.
class team {
public:
  /// The calling thread alone.
  team() noexcept = default;
  /// The executor's workers. `space(spaces, worker)` is the scratch of a worker; that of worker 0 is the workspace
  /// of the call. Must not be used from within a run of the same executor.
  template <executor Executor>
  team(Executor& on, void* spaces, workspace& (*space)(void*, int)) noexcept
      : executor_(&on), spaces_(spaces), space_(space), run_(run_on<Executor>) {}

  /// True if the calling thread does all.
  bool alone() const noexcept { return run_ == nullptr; }

  /// Calls `body(scratch, item)` for items 0 .. count - 1; `own` is the workspace of the call.
  template <class Body>
  void for_each(index_t count, workspace& own, const Body& body) const noexcept {
    if (alone() || count <= 1) {
      for (index_t item = 0; item < count; ++item) body(own, item);
      return;
    }
    const job<Body> of{this, &body};
    run_(executor_, count, &of, [](const void* what, int worker, index_t item) noexcept {
      const auto& all = *static_cast<const job<Body>*>(what);
      (*all.body)(all.on->space_of(worker), item);
    });
  }
  /// Calls `body(scratch, rows)` for the `row_chunks` of rows [0, count).
  template <class Body>
  void over_rows(index_t count, workspace& own, const Body& body) const noexcept {
    const row_chunks chunks(count);
    for_each(chunks.count(), own,
             [&](workspace& scratch, index_t chunk) { body(scratch, chunks[chunk]); });
  }

private:
  workspace& space_of(int worker) const noexcept { return space_(spaces_, worker); }

  template <class Body>
  struct job {
    const team* on;
    const Body* body;
  };
  using item_call = void (*)(const void* what, int worker, index_t item) noexcept;

  template <class Executor>
  static void run_on(const void* executor, index_t count, const void* what,
                     item_call call) noexcept {
    auto& on = *static_cast<Executor*>(const_cast<void*>(executor));
    on.run(count, [what, call](int worker, index_t item) noexcept { call(what, worker, item); });
  }

  const void* executor_ = nullptr;
  void* spaces_ = nullptr;
  workspace& (*space_)(void*, int) = nullptr;
  void (*run_)(const void* executor, index_t count, const void* what,
               item_call call) noexcept = nullptr;
};

}  // namespace vattn
