// SPDX-License-Identifier: Apache-2.0
/// @file
/// `decode`: sparse attention of many requests, on the caller's threads.
#pragma once

#include "vattention/batch/decode_workspace.hpp"
#include "vattention/batch/request.hpp"
#include "vattention/parallel/executor.hpp"

namespace vattn {

namespace detail {

/// Checks every request, in their order, by `check(name, request)`; returns the number of queries.
/// @throws std::invalid_argument that names the first one that is wrong.
template <request_range Requests, class Check>
index_t require_requests(const char* where, const Requests& requests, Check check) {
  index_t number = 0;
  index_t queries = 0;
  for (const auto& r : requests) {
    const request_name name(where, number++);
    check(name.text(), r);
    require_destination(name.text(), r);
    queries += r.queries.heads;
  }
  return queries;
}

/// An address for each type.
template <class T>
inline constexpr char address_of_type = 0;

/// Room for any of the requests in every worker's workspace. Only shapes larger than the one before in some
/// number are looked at: of like heads the longest, which comes first.
template <request_range Requests, class Workspace, class Reserve>
void reserve_workers(const Requests& requests, std::span<const index_t> order, int workers,
                     decode_workspace<Workspace>& scratch,
                     const typename decode_workspace<Workspace>::user& by, Reserve reserve) {
  scratch.reserve_workers(workers);
  call_shape had;
  for (const index_t number : order) {
    const auto& r = std::ranges::data(requests)[number];
    const call_shape wanted = shape_of(r.queries, r.kv);
    if (wanted.fits(had)) continue;
    had = wanted;
    for (int worker = 0; worker < workers; ++worker) scratch.make_room(worker, by, wanted, reserve);
  }
}

/// The workspace that a functor's calls do their work in: its own, or that of the functor it wraps.
inline workspace& calls_workspace(workspace& ws) noexcept { return ws; }
template <class Workspace>
workspace& calls_workspace(Workspace& ws) noexcept {
  return ws.call;
}

/// How many requests, in their order, are better shared by all workers than given to one each: the longest, while
/// it has more than a worker's part of the bytes that are left, and rows enough to be cut.
template <request_range Requests>
index_t count_shared(const Requests& requests, std::span<const index_t> order,
                     int workers) noexcept {
  constexpr index_t least_rows = 4 * row_chunks::size;
  const auto of = [&](index_t number) -> const auto& {
    return std::ranges::data(requests)[number];
  };
  double left = 0.0;
  for (const index_t number : order) left += static_cast<double>(visible_bytes(of(number)));
  index_t count = 0;
  for (const index_t number : order) {
    const auto bytes = static_cast<double>(visible_bytes(of(number)));
    const auto& r = of(number);
    if (workers == 1 || visible_rows(r.queries, r.kv) < least_rows || bytes * workers <= left)
      break;
    left -= bytes;
    ++count;
  }
  return count;
}

/// The calling thread's workspace knows the other workers for as long as this lives.
template <class Workspace, class Executor>
class shared_calls {
public:
  shared_calls(Executor& on, decode_workspace<Workspace>& scratch) noexcept
      : own_(calls_workspace(scratch.worker(0))) {
    own_.workers = team(on, &scratch, [](void* of, int worker) -> workspace& {
      return calls_workspace(static_cast<decode_workspace<Workspace>*>(of)->worker(worker));
    });
  }
  shared_calls(const shared_calls&) = delete;
  shared_calls& operator=(const shared_calls&) = delete;
  ~shared_calls() { own_.workers = {}; }

private:
  workspace& own_;
};

}  // namespace detail

/// Attends to every request and writes its results: `functor(queries, kv, index, key)` of each, bit for bit,
/// whatever the executor, the number of its workers and the order of the requests. Longest requests begin
/// first, so that the last ones to end are short; a request that would keep one worker busy when the others have
/// ended is shared by all of them, chunk by chunk of its rows.
///
/// Allocates only where `scratch` has to grow; then nothing is allocated, locked or thrown until all is done.
/// Each worker needs a workspace for the largest request.
/// @throws std::invalid_argument that names a request and what is wrong with it, or `ledger_exhausted` where
/// a `ledgered` functor has not enough left for the whole batch. Nothing has been written or spent then.
template <attention_functor Functor, request_range Requests, executor Executor>
void decode(const Functor& functor, const Requests& requests, Executor&& on,
            decode_workspace<typename Functor::workspace_type>& scratch) {
  using request_type = std::ranges::range_value_t<Requests>;
  static_assert(std::same_as<typename request_type::index_type, typename Functor::index_type>,
                "vattention: decode: want requests with the functor's index_type");
  const int workers = on.workers();
  require(workers >= 1, "decode", "an executor with a worker", workers);
  const index_t queries =
      detail::require_requests("decode", requests, [&](const char* where, const request_type& r) {
        require(r.index != nullptr, where, "an index", "null");
        functor.check(where, r.queries, r.kv, *r.index, r.key);
      });
  const std::span<const index_t> order = scratch.order_by_size(requests);
  detail::reserve_workers(requests, order, workers, scratch,
                          {&detail::address_of_type<Functor>, &functor},
                          [&](const call_shape& shape, auto& ws) { functor.reserve(shape, ws); });
  functor.admit(queries);

  const auto attend = [&](int worker, index_t item) noexcept {
    const request_type& r = std::ranges::data(requests)[order[static_cast<std::size_t>(item)]];
    detail::deliver(r, functor.attend(r.queries, r.kv, *r.index, r.key, scratch.worker(worker)));
  };
  const index_t shared = detail::count_shared(requests, order, workers);
  if (shared > 0) {
    const detail::shared_calls helped(on, scratch);
    for (index_t item = 0; item < shared; ++item) attend(0, item);
  }
  on.run(static_cast<index_t>(order.size()) - shared,
         [&](int worker, index_t item) noexcept { attend(worker, shared + item); });
}

}  // namespace vattn
