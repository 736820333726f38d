// SPDX-License-Identifier: Apache-2.0
/// @file
/// Running softmax {max, sum, weighted values} of a query group over any list of rows.
#pragma once

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <span>

#include "vattention/attention/softmax_sums.hpp"
#include "vattention/core/attention_call.hpp"
#include "vattention/core/value_rows.hpp"
#include "vattention/core/workspace.hpp"
#include "vattention/kernels/prefetch.hpp"

namespace vattn {

/// Softmax sums of g heads, kept in the workspace or where the caller says, see `softmax_sums`. Kernels work in float on blocks of 256 rows, blocks add up in
/// double. Rows of -inf logits weigh nothing; with no finite logit at all m = -inf and all sums are 0.
template <cache_view View>
class softmax_state {
public:
  softmax_state(const attention_call<View>& call, workspace& ws) noexcept
      : softmax_state(call, ws,
                      {ws.softmax_max.data(), ws.softmax_sum.data(), ws.softmax_numerator.data(),
                       call.heads(), call.kv.value_dim()}) {
    sums_.clear(call.queries.logits.sink_logits);
  }
  /// In other memory, for the rows of a chunk: without learned sinks.
  softmax_state(const attention_call<View>& call, workspace& ws, softmax_sums sums) noexcept
      : call_(call), ws_(ws), sums_(sums) {
    sums_.clear();
  }

  double& max(int h) const noexcept { return sums_.max(h); }
  double& sum(int h) const noexcept { return sums_.sum(h); }
  double* numerator(int h) const noexcept { return sums_.numerator(h); }

  /// Adds listed rows. Each key and value is read once for all heads.
  void add(std::span<const row_t> rows) const noexcept {
    for_blocks(static_cast<index_t>(rows.size()),
               [&](index_t at) { return rows[static_cast<std::size_t>(at)]; });
  }
  /// Adds the rows [first, last); whole blocks of them as so many `streams`, a row of each in turn.
  void add_range(index_t first, index_t last) const noexcept {
    const index_t in_turn = (last - first) / workspace::block * workspace::block;
    for_blocks(last - first, [=](index_t at) {
      const index_t place = at % workspace::block;
      const index_t turned = place % streams * (workspace::block / streams) + place / streams;
      return static_cast<row_t>(first + (at < in_turn ? at - place + turned : at));
    });
  }

  /// Adds the sums of other rows, which are brought to the common maximum.
  void merge(const softmax_sums& other) const noexcept { sums_.merge(other); }

private:
  /// Places of a block that are read side by side: memory answers so many requests for neighbours faster than one
  /// after the other (a sixth to a fifth less time where it is the limit).
  static constexpr index_t streams = 8;

  /// Blocks of rows; those that the bias hides are left out.
  template <class RowAt>
  void for_blocks(index_t count, RowAt row_at) const noexcept {
    row_t rows[workspace::block + workspace::upcoming];
    index_t known = 0;
    for (index_t at = 0; at < count; ++at) {
      const row_t row = row_at(at);
      if (call_.hides(row)) continue;
      rows[known++] = row;
      if (known == std::ssize(rows)) known = add_block(rows, workspace::block, known);
    }
    while (known > 0) known = add_block(rows, std::min(workspace::block, known), known);
  }

  /// Adds the first `count` of the rows in hand and takes them away; returns how many are left. The memory
  /// stays busy: while keys are read, the first values are asked for, and while those are, the next keys.
  index_t add_block(row_t* rows, index_t count, index_t known) const noexcept {
    const View& kv = call_.kv;
    const int g = call_.heads();
    float* w = ws_.weights.data();
    const index_t values = address_keys(rows, count);
    call_.kernels.dot_rows(kv.key_type(), ws_.addresses.data(), count, values, kv.key_dim(),
                           call_.queries.data, call_.queries.stride, g, w, workspace::block);
    for (int h = 0; h < g; ++h) {
      prefetch_values(h, count, values);
      float* logits = w + h * workspace::block;
      call_.to_logits(h, logits, count, [=](index_t i) { return rows[i]; });
      to_weights(h, logits, count);
    }
    address_values(kv, count, 0, [=](index_t i) { return rows[i]; }, ws_);
    for (index_t i = count; i < known; ++i) ws_.addresses[i] = kv.key_row(rows[i]);
    std::fill_n(ws_.sums.data(), g * kv.value_dim(), 0.0F);
    call_.kernels.sum_rows(kv.value_type(), ws_.addresses.data(), count, known - count,
                           kv.value_dim(), w, workspace::block, g, ws_.sums.data(), kv.value_dim(),
                           nullptr);
    for (index_t j = 0; j < g * kv.value_dim(); ++j)
      numerator(0)[j] += static_cast<double>(ws_.sums[j]);
    std::copy(rows + count, rows + known, rows);
    return known - count;
  }

  /// While the weights of head h are formed: a share of the values that the keys' kernel was told of and, so
  /// far behind them, has not asked for.
  void prefetch_values(int h, index_t count, index_t values) const noexcept {
    const kernels::prefetch_plan& plan = kernels::active_plan();
    const index_t first = std::min(plan.rows_ahead, values), left = values - first;
    for (index_t i = left * h / call_.heads(); i < left * (h + 1) / call_.heads(); ++i)
      kernels::prefetch_lines(ws_.addresses[count + first + i], value_bytes(call_.kv), plan.to_l1);
  }

  /// The addresses of keys, and behind them those of the values that are read after them; returns the number
  /// of these.
  index_t address_keys(const row_t* rows, index_t count) const noexcept {
    const View& kv = call_.kv;
    for (index_t i = 0; i < count; ++i) ws_.addresses[i] = kv.key_row(rows[i]);
    if constexpr (contiguous_values<View>) {
      const index_t values = std::min(count, workspace::upcoming);
      for (index_t i = 0; i < values; ++i) ws_.addresses[count + i] = kv.value_row(rows[i]);
      return values;
    }
    return 0;
  }

  /// Logits become weights relative to the running maximum, which moves up where it must.
  void to_weights(int h, float* logits, index_t count) const noexcept {
    const auto top = static_cast<double>(call_.kernels.max_of(logits, count));
    if (top > max(h)) sums_.raise(h, top);
    if (max(h) == -std::numeric_limits<double>::infinity()) {
      for (index_t i = 0; i < count; ++i) {
        if (std::isnan(logits[i])) sum(h) = std::numeric_limits<double>::quiet_NaN();
        logits[i] = 0.0F;
      }
      return;
    }
    sum(h) += call_.kernels.exp_shifted(logits, count, static_cast<float>(max(h)), logits);
  }

  const attention_call<View>& call_;
  workspace& ws_;
  softmax_sums sums_;
};

}  // namespace vattn
