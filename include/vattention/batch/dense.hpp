// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dense attention of many requests, long ones split over their rows.
#pragma once

#include "vattention/attention/dense.hpp"
#include "vattention/batch/decode.hpp"

namespace vattn {

namespace detail {

/// Lists the chunks of all requests, in the order given; returns their number.
template <request_range Requests>
index_t list_pieces(const Requests& requests, std::span<const index_t> order,
                    decode_workspace<>& scratch) {
  const auto each = [&](auto use) {
    for (const index_t number : order) {
      const auto& r = std::ranges::data(requests)[number];
      use(number, row_chunks(visible_rows(r.queries, r.kv)).count(),
          softmax_sums::doubles(r.queries.heads, r.kv.value_dim()));
    }
  };
  index_t pieces = 0;
  index_t doubles = 0;
  each([&](index_t /*number*/, index_t chunks, index_t size) {
    pieces += chunks;
    doubles += chunks * size;
  });
  scratch.pieces.reserve(pieces);
  scratch.first_piece.reserve(static_cast<index_t>(order.size()));
  scratch.sums.reserve(doubles);
  index_t at = 0;
  index_t sums = 0;
  each([&](index_t number, index_t chunks, index_t size) {
    scratch.first_piece[number] = at;
    for (index_t chunk = 0; chunk < chunks; ++chunk, sums += size)
      scratch.pieces[at++] = {number, chunk, sums};
  });
  return pieces;
}

/// Makes room for calls that read the cache chunk by chunk, however long it is.
inline void reserve_chunked(const call_shape& shape, workspace& ws) {
  ws.reserve(shape.heads, 1, shape.key_dim, shape.value_dim, false);
}

/// The softmax sums of one chunk into their place.
template <request_range Requests>
void sum_piece(const Requests& requests, decode_workspace<>& scratch, int worker,
               index_t item) noexcept {
  const auto& piece = scratch.pieces[item];
  const auto& r = std::ranges::data(requests)[piece.request];
  workspace& ws = scratch.worker(worker);
  reserve_chunked(shape_of(r.queries, r.kv), ws);
  const attention_call call(r.queries, r.kv, {});
  sum_chunk(call, row_chunks(call.visible)[piece.chunk], ws,
            {scratch.sums.data() + piece.sums, call.heads(), r.kv.value_dim()});
}

/// A request's result from the sums of its chunks, in their order.
template <request_range Requests>
void merge_pieces(const Requests& requests, decode_workspace<>& scratch, int worker,
                  index_t number) noexcept {
  const auto& r = std::ranges::data(requests)[number];
  workspace& ws = scratch.worker(worker);
  reserve_chunked(shape_of(r.queries, r.kv), ws);
  const attention_call call(r.queries, r.kv, {});
  const softmax_state all(call, ws);
  const index_t chunks = row_chunks(call.visible).count();
  for (index_t chunk = 0; chunk < chunks; ++chunk) {
    const auto& piece = scratch.pieces[scratch.first_piece[number] + chunk];
    all.merge({scratch.sums.data() + piece.sums, call.heads(), r.kv.value_dim()});
  }
  deliver(r, conclude(call, all, ws, 0, 0));
}

}  // namespace detail

/// Exact attention of every request: `dense(queries, kv)` of each, bit for bit, whatever the executor, the
/// number of its workers and the order of the requests. Long requests are shared by the workers in chunks of
/// `row_chunks::size` rows, so that few heads with long contexts keep all of them busy. Two runs of the
/// executor: the chunks, then the sums of the chunks, which are kept in between (g (2 + d_v) doubles each).
/// Allocates only where `scratch` has to grow.
/// @throws std::invalid_argument that names a request and what is wrong with it; nothing has been written.
template <request_range Requests, executor Executor>
void dense(const Requests& requests, Executor&& on, decode_workspace<>& scratch) {
  using request_type = std::ranges::range_value_t<Requests>;
  const int workers = on.workers();
  require(workers >= 1, "dense", "an executor with a worker", workers);
  detail::require_requests("dense", requests, [](const char* where, const request_type& r) {
    require_shapes(where, r.queries, r.kv);
  });
  const std::span<const index_t> order = scratch.order_by_size(requests);
  const index_t pieces = detail::list_pieces(requests, order, scratch);
  detail::reserve_workers(requests, order, workers, scratch, {}, detail::reserve_chunked);

  on.run(pieces, [&](int worker, index_t item) noexcept {
    detail::sum_piece(requests, scratch, worker, item);
  });
  on.run(static_cast<index_t>(order.size()), [&](int worker, index_t number) noexcept {
    detail::merge_pieces(requests, scratch, worker, number);
  });
}

}  // namespace vattn
