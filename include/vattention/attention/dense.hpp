// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dense attention over every visible row: the fall-back of the functor, and its base line.
#pragma once

#include "vattention/attention/result.hpp"
#include "vattention/attention/softmax_state.hpp"
#include "vattention/core/row_chunks.hpp"

namespace vattn {

/// Checks a call's shapes and numbers; nothing has been touched when it throws.
/// @throws std::invalid_argument naming `where` and what is wrong.
template <cache_view View>
void require_shapes(const char* where, const query_group& q, const View& kv) {
  require(kv.rows() > 0, where, "at least one key", kv.rows());
  require(q.data != nullptr && q.heads >= 1, where, "at least one query", q.heads);
  require(q.dim == kv.key_dim(), where, "queries as long as the keys", q.dim, kv.key_dim());
  require(q.stride >= q.dim || q.heads == 1, where, "query stride >= query length", q.stride);
  require(kv.key_dim() % block_values(kv.key_type()) == 0 &&
              kv.value_dim() % block_values(kv.value_type()) == 0,
          where, "rows of whole blocks (keys, values)", kv.key_dim(), kv.value_dim());
  require(contiguous_values<View> || block_values(kv.value_type()) == 1, where,
          "scattered values of a type without blocks", "q8_0");
  const logit_options& options = q.logits;
  require(options.visible_rows <= kv.rows(), where, "visible rows within the cache",
          options.visible_rows, kv.rows());
  require(options.visible_rows != 0, where, "at least one visible row", 0);
  require(std::isfinite(options.scale), where, "a finite scale", options.scale);
  require(std::isfinite(options.softcap) && options.softcap >= 0.0F, where, "softcap >= 0",
          options.softcap);
  require(options.bias_stride >= 0, where, "bias stride >= 0", options.bias_stride);
  const index_t most = options.visible_rows < 0 ? kv.rows() : options.visible_rows;
  for (int h = 0; options.visible_of != nullptr && h < q.heads; ++h)
    require(options.visible_of[h] >= 1 && options.visible_of[h] <= most, where,
            "each query to see 1 row at least, and no more than are visible (rows, query, visible)",
            options.visible_of[h], h, most);
}

namespace detail {

/// The softmax sums of one chunk of the visible rows, learned sinks aside.
template <cache_view View>
void sum_chunk(const attention_call<View>& call, half_open rows, workspace& ws,
               softmax_sums sums) noexcept {
  softmax_state<View>(call, ws, sums).add_range(rows.first, rows.last);
}

/// The result that the sums of all visible rows make. Certificates say `exact`, or `non_finite`.
template <cache_view View>
result conclude(const attention_call<View>& call, const softmax_state<View>& state, workspace& ws,
                index_t more_bytes, int looks) noexcept {
  const index_t value_dim = call.kv.value_dim();
  const index_t read = call.visible - call.count_hidden();
  for (int h = 0; h < call.heads(); ++h) {
    const bool finite =
        write_output(state.numerator(h), state.sum(h), value_dim, ws.output.data() + h * value_dim);
    certificate& c = ws.certificates[h] = {};
    c.status = finite ? status::exact : status::non_finite;
    c.basis = finite ? basis::exact : basis::unmeasured;
    c.quantity = quantity::output;
    c.bound = finite ? bound_kind::exact : bound_kind::none;
    if (finite) c.epsilon = 0.0;
    c.max_logit = state.max(h);
    c.denominator = state.sum(h);
    c.looks = looks;
    c.rows_total = c.rows_exact = read - call.count_beyond(h);
    c.bytes_touched =
        more_bytes + read * (key_bytes(call.kv) + row_bytes(call.kv.value_type(), value_dim));
    ws.log_sum_exp[h] = state.max(h) + std::log(state.sum(h));
    ws.log_sum_exp_error[h] = 0.0;
  }
  return {ws, call.heads(), value_dim};
}

/// Dense attention of a checked call: chunk by chunk, shared by the workers of the call.
template <cache_view View>
result dense_checked(const attention_call<View>& call, workspace& ws, index_t more_bytes = 0,
                     int looks = 0) noexcept {
  const softmax_state<View> all(call, ws);
  const row_chunks chunks(call.visible);
  const auto sums_of = [&](index_t chunk) {
    const index_t size = softmax_sums::doubles(call.heads(), call.kv.value_dim());
    return softmax_sums(ws.chunk_sums.data() + chunk * size, call.heads(), call.kv.value_dim());
  };
  ws.workers.for_each(chunks.count(), ws, [&](workspace& scratch, index_t chunk) {
    sum_chunk(call, chunks[chunk], scratch, sums_of(chunk));
  });
  for (index_t chunk = 0; chunk < chunks.count(); ++chunk) all.merge(sums_of(chunk));
  return conclude(call, all, ws, more_bytes, looks);
}

}  // namespace detail

/// Exact attention of g queries, each key and value read once for all of them. Float kernels, double
/// sums. O(n g (d + d_v)) time, n rows of K and V read, no allocation once the workspace has grown.
/// @throws std::invalid_argument for shapes that do not fit.
template <cache_view View>
result dense(const query_group& queries, const View& kv, workspace& ws) {
  require_shapes("dense", queries, kv);
  ws.reserve(queries.heads, kv.rows(), kv.key_dim(), kv.value_dim(), false);
  return detail::dense_checked(attention_call<View>(queries, kv, {}), ws);
}

}  // namespace vattn
