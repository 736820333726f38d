// SPDX-License-Identifier: Apache-2.0
/// @file
/// The scratch of a batch: one workspace a worker, the order of the requests, and sums of chunks.
#pragma once

#include <algorithm>
#include <numeric>

#include "vattention/attention/attention_functor.hpp"
#include "vattention/batch/request.hpp"
#include "vattention/core/workspace.hpp"

namespace vattn {

/// Scratch of one batch at a time. `Workspace` is the functor's `workspace_type`. Grows where a batch needs
/// more than any before, on the thread that asks for the batch, and allocates nothing otherwise.
template <class Workspace = workspace>
class decode_workspace {
public:
  /// Who needs room: a functor, by type and address, or nobody in particular.
  struct user {
    const void* type = nullptr;
    const void* object = nullptr;
    bool operator==(const user&) const = default;
  };

  /// Makes workspaces for workers 0 .. count - 1.
  void reserve_workers(int count) {
    if (static_cast<std::size_t>(count) > workers_.size())
      workers_.resize(static_cast<std::size_t>(count));
  }
  Workspace& worker(int number) noexcept {
    VATTN_ASSERT(number >= 0 && static_cast<std::size_t>(number) < workers_.size());
    return workers_[static_cast<std::size_t>(number)].scratch;
  }

  /// Makes room in a worker's workspace by `reserve(shape, workspace)`, unless that was done before for
  /// the same user and a shape no smaller. Rows are rounded up, so that caches that get a row a step have it
  /// done once in a while.
  template <class Reserve>
  void make_room(int number, const user& by, call_shape wanted, Reserve reserve) {
    slot& of = workers_[static_cast<std::size_t>(number)];
    if (of.by != by) of.room = {};
    if (wanted.fits(of.room)) return;
    wanted.rows = (wanted.rows + row_step - 1) / row_step * row_step;
    reserve(wanted, of.scratch);
    of.room = wanted;
    of.by = by;
  }

  /// Numbers of the requests, those with most bytes of keys and values first.
  template <request_range Requests>
  std::span<const index_t> order_by_size(const Requests& requests) {
    const auto count = static_cast<index_t>(std::ranges::size(requests));
    order_.reserve(count);
    const std::span<index_t> order = order_.first(count);
    std::iota(order.begin(), order.end(), index_t{0});
    const auto bytes = [&](index_t number) {
      return visible_bytes(std::ranges::data(requests)[number]);
    };
    std::sort(order.begin(), order.end(), [&](index_t a, index_t b) {
      const index_t first = bytes(a);
      const index_t second = bytes(b);
      return first != second ? first > second : a < b;
    });
    return order;
  }

  /// A chunk of a request's rows, and where in `sums` its softmax sums are.
  struct piece {
    index_t request = 0, chunk = 0, sums = 0;
  };
  scratch<piece> pieces;
  /// First piece of each request.
  scratch<index_t> first_piece;
  scratch<double> sums;

private:
  // No two workers' scratch shares a cache line.
  struct alignas(64) slot {
    Workspace scratch;
    call_shape room;
    user by;
  };
  static constexpr index_t row_step = 1024;
  std::vector<slot> workers_;
  scratch<index_t> order_;
};

}  // namespace vattn
