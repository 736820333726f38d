// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention over selected rows alone, a given share of them: what top-k and sliding-window methods do, to compare.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/attention/attention_functor.hpp"
#include "vattention/attention/dense.hpp"
#include "vattention/attention/softmax_state.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/core/static_rows.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/top_k/none.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn_llama_cpp {

using vattn::index_t;

/// Reads 32 sinks, the last 64 rows and each head's best rows by `TopK`'s scores, so many that all of these are `density`
/// of the visible rows for the whole group; with `top_k::none` the last rows instead of the best ones. Rows outside count as
/// weighing nothing, so nothing is certified: status `no_target`, bound +inf. `density`, (0, 1], is looked up in each
/// call: it outlives this and may change between calls.
template <class TopK>
class selected_rows {
public:
  using index_type = typename TopK::index_type;
  using workspace_type = vattn::workspace;

  selected_rows(TopK top_k, const double* density) : top_k_(std::move(top_k)), density_(density) {}

  template <vattn::cache_view View>
  index_type make_index(const View& kv) const {
    index_type index = top_k_.make_index(kv.key_dim());
    index.append(kv);
    return index;
  }
  template <vattn::cache_view View>
  vattn::result operator()(const vattn::query_group& queries, const View& kv,
                           const index_type& index, vattn::draw_key key,
                           vattn::workspace& ws) const {
    check("selected_rows", queries, kv, index, key);
    reserve(vattn::shape_of(queries, kv), ws);
    return attend(queries, kv, index, key, ws);
  }
  template <vattn::cache_view View>
  void check(const char* where, const vattn::query_group& queries, const View& kv,
             const index_type& index, const vattn::draw_key& /*key*/) const {
    vattn::require_shapes(where, queries, kv);
    vattn::require(queries.heads <= vattn::workspace::most_heads, where, "at most 64 query heads",
                   queries.heads);
    vattn::require(index.matches(kv), where, "an index of the view's keys", index.rows(),
                   kv.rows());
  }
  void reserve(const vattn::call_shape& shape, vattn::workspace& ws) const {
    ws.reserve(shape.heads, shape.rows, shape.key_dim, shape.value_dim, true);
  }
  void admit(index_t /*queries*/) const noexcept {}
  template <vattn::cache_view View>
  vattn::result attend(const vattn::query_group& queries, const View& kv, const index_type& index,
                       vattn::draw_key key, vattn::workspace& ws) const noexcept {
    reserve(vattn::shape_of(queries, kv), ws);
    const vattn::attention_call<View> call(queries, kv, key);
    select(call, index, ws);
    const vattn::softmax_state<View> state(call, ws);
    state.add(ws.exact.rows());
    const index_t hidden = count_hidden(call, ws);
    for (int h = 0; h < call.heads(); ++h) {
      const bool finite = vattn::detail::write_output(
          state.numerator(h), state.sum(h), kv.value_dim(), ws.output.data() + h * kv.value_dim());
      vattn::certificate& c = ws.certificates[h] = {};
      c.status = finite ? vattn::status::no_target : vattn::status::non_finite;
      c.quantity = vattn::quantity::output;
      c.max_logit = state.max(h);
      c.denominator = state.sum(h);
      c.rows_total = call.visible - call.count_hidden() - call.count_beyond(h);
      c.rows_exact = ws.exact.size() - hidden;
      c.bytes_touched = c.rows_exact * (vattn::key_bytes(kv) + vattn::value_bytes(kv));
      ws.log_sum_exp[h] = state.max(h) + std::log(state.sum(h));
      ws.log_sum_exp_error[h] = 0.0;
    }
    return {ws, call.heads(), kv.value_dim()};
  }

  const vattn::budget::fixed& budget() const noexcept { return budget_; }
  const vattn::static_indices::sink_window& static_indices() const noexcept { return fixed_; }

private:
  static constexpr bool has_scores = !std::same_as<TopK, vattn::top_k::none>;
  static constexpr index_t sinks = 32, window = 64;

  template <vattn::cache_view View>
  static index_t count_hidden(const vattn::attention_call<View>& call,
                              const vattn::workspace& ws) noexcept {
    index_t count = 0;
    for (const vattn::row_t row : ws.exact.rows()) count += call.hides(row) ? 1 : 0;
    return count;
  }

  template <vattn::cache_view View>
  void select(const vattn::attention_call<View>& call, const index_type& index,
              vattn::workspace& ws) const noexcept {
    const auto wanted =
        static_cast<index_t>(std::ceil(*density_ * static_cast<double>(call.visible)));
    if constexpr (!has_scores) {
      const vattn::static_indices::sink_window rows(sinks,
                                                    std::max<index_t>(window, wanted - sinks));
      vattn::select_static(rows, call, ws.exact);
    } else {
      top_k_.predict(call, index, ws.seen, ws);
      take(call, 0, ws);
      ws.exact.list();
      ws.seen.exclude(ws.exact.rows());
      // Heads pick rows in common: the largest k, to 3 %, whose rows together are no more than wanted.
      index_t k = 0;
      for (index_t above = wanted + 1; above - k > 1;) {
        const index_t middle = k + (above - k) / 2;
        take(call, middle, ws);
        const bool fits = ws.exact.size() <= wanted;
        (fits ? k : above) = middle;
        if (fits && 100 * ws.exact.size() >= 97 * wanted) break;
      }
      take(call, k, ws);
    }
    ws.exact.list();
  }
  /// Static rows and each head's k best others.
  template <vattn::cache_view View>
  void take(const vattn::attention_call<View>& call, index_t k,
            vattn::workspace& ws) const noexcept {
    ws.exact.reset(call.visible);
    vattn::select_static(fixed_, call, ws.exact);
    for (int h = 0; k > 0 && h < call.heads(); ++h) {
      const auto scores = ws.seen.scores(h).first(static_cast<std::size_t>(call.visible));
      for (const vattn::row_t row : ws.picks.first(vattn::pick_top(scores, k, ws)))
        ws.exact.add(row);
    }
  }

  TopK top_k_;
  const double* density_;
  vattn::static_indices::sink_window fixed_{sinks, window};
  vattn::budget::fixed budget_{vattn::rows(0)};
};

}  // namespace vattn_llama_cpp
