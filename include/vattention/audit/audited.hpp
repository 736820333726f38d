// SPDX-License-Identifier: Apache-2.0
/// @file
/// `audited<Functor>`: now and then the exact answer as well, and a count of how the promise fares.
#pragma once

#include <memory>

#include "vattention/attention/attention_functor.hpp"
#include "vattention/attention/dense.hpp"
#include "vattention/audit/audit_counters.hpp"
#include "vattention/audit/audit_table.hpp"
#include "vattention/audit/comparison.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/static_rows.hpp"
#include "vattention/top_k/oracle.hpp"

namespace vattn {

/// Which calls are audited, and for which heads there are counters.
struct audit_plan {
  /// One call in so many, on average; 1: every call, 0: none, at the cost of one branch.
  index_t every = 0;
  /// Layers, KV heads a layer, query heads a KV head, as `draw_key` and the query group name them.
  int layers = 1, kv_heads = 1, group = 1;
};

/// Scratch of one call at a time, one object a thread. `call` is the wrapped functor's workspace:
/// results refer into it, and no audit touches it. `exact` and `logits` are the audit's, empty
/// until the first, or until a batch is to be audited.
struct audit_workspace {
  workspace call, exact;
  scratch<float> logits;
};

/// Calls the functor, and for some calls computes dense attention too and counts what came of the
/// promise, per layer, KV head and query head. The result is the functor's, bit for bit.
///
/// Which calls: a number drawn from the draw key alone (a stream of its own, independent of the
/// sample), so neither threads nor the order of calls matter and the audited calls are a fair
/// sample of all. The counts have the same bits whatever the order. An audited call costs two to
/// three dense calls on top (measured; dense, a scan of all keys, a selection) and g n floats; any
/// other the drawing of that number. Allocates only where a workspace has to grow. Thread-safe with
/// a workspace a thread.
///
/// Ends: what was not audited. A finite count refutes a promise, it cannot prove one. Keys must
/// differ from step to step as `draw_key` asks, else the same few calls are audited or none.
template <attention_functor Functor>
  requires std::same_as<typename Functor::workspace_type, workspace>
class audited {
public:
  using index_type = typename Functor::index_type;
  using workspace_type = audit_workspace;

  /// Counters for all heads of the plan, about 256 bytes each, are made here.
  /// @throws std::invalid_argument unless every >= 0 and layers, KV heads and group are at least 1.
  audited(Functor functor, audit_plan plan) : functor_(std::move(functor)), plan_(plan) {
    require(plan.every >= 0, "audited", "every >= 0", plan.every);
    require(plan.layers >= 1 && plan.kv_heads >= 1 && plan.group >= 1, "audited",
            "layers, KV heads and group >= 1", plan.layers, plan.kv_heads, plan.group);
    if (plan.every > 0) counters_ = std::make_unique<audit_counters[]>(heads());
  }

  template <cache_view View>
  index_type make_index(const View& kv) const {
    return functor_.make_index(kv);
  }

  /// As the functor's call, on `ws.call`.
  /// @throws std::invalid_argument also for a layer, KV head or group beyond the plan, whether or
  /// not the call would be audited; not where `every` is 0. Whatever is thrown, nothing has been
  /// counted.
  template <cache_view View>
  result operator()(const query_group& queries, const View& kv, const index_type& index,
                    draw_key key, audit_workspace& ws) const {
    if (plan_.every == 0) return functor_(queries, kv, index, key, ws.call);
    require_counted("audited", queries, key);
    result got = functor_(queries, kv, index, key, ws.call);
    if (audits(key)) audit(queries, kv, key, got, ws);
    return got;
  }

  /// The call's parts, for a batch, see `attention_functor`. Room is made for an audit as well.
  /// @throws std::invalid_argument as the call.
  template <cache_view View>
  void check(const char* where, const query_group& queries, const View& kv, const index_type& index,
             const draw_key& key) const {
    if (plan_.every > 0) require_counted(where, queries, key);
    functor_.check(where, queries, kv, index, key);
  }
  void reserve(const call_shape& shape, audit_workspace& ws) const {
    functor_.reserve(shape, ws.call);
    if (plan_.every > 0) reserve_audit(shape, ws);
  }
  void admit(index_t queries) const { functor_.admit(queries); }
  template <cache_view View>
  result attend(const query_group& queries, const View& kv, const index_type& index, draw_key key,
                audit_workspace& ws) const noexcept {
    result got = functor_.attend(queries, kv, index, key, ws.call);
    if (audits(key)) audit(queries, kv, key, got, ws);
    return got;
  }

  /// Merged partial results are not audited: their cache is not at hand.
  result finish(std::span<partial> heads, audit_workspace& ws) const {
    return functor_.finish(heads, ws.call);
  }

  /// True if the call of this key is audited.
  bool audits(const draw_key& key) const noexcept {
    if (plan_.every <= 1) return plan_.every == 1;
    const random_stream stream(key, static_cast<std::uint32_t>(purpose::audit));
    return stream.below(0, static_cast<std::uint64_t>(plan_.every)) == 0;
  }

  /// What has been counted so far. Allocates.
  audit_report report() const {
    audit_report all{budget().asked(),
                     budget().delta(),
                     budget().guarantees(),
                     plan_.every,
                     {},
                     {},
                     detail::scale_of<std::remove_cvref_t<decltype(functor_.budget())>>};
    if (counters_ == nullptr) return all;
    all.rows.reserve(heads());
    for (int layer = 0; layer < plan_.layers; ++layer)
      for (int head = 0; head < plan_.kv_heads; ++head)
        for (int query = 0; query < plan_.group; ++query) {
          all.rows.push_back(counters_of(layer, head)[query].row(layer, head, query));
          all.total += all.rows.back();
        }
    return all;
  }

  decltype(auto) budget() const noexcept { return functor_.budget(); }
  decltype(auto) top_k() const noexcept { return functor_.top_k(); }
  decltype(auto) static_indices() const noexcept { return functor_.static_indices(); }
  const Functor& functor() const noexcept { return functor_; }
  const audit_plan& plan() const noexcept { return plan_; }

private:
  std::size_t heads() const noexcept {
    return static_cast<std::size_t>(plan_.layers) * static_cast<std::size_t>(plan_.kv_heads) *
           static_cast<std::size_t>(plan_.group);
  }
  audit_counters* counters_of(index_t layer, index_t kv_head) const noexcept {
    return counters_.get() + (layer * plan_.kv_heads + kv_head) * plan_.group;
  }

  void require_counted(const char* where, const query_group& queries, const draw_key& key) const {
    require(key.layer < static_cast<std::uint32_t>(plan_.layers), where,
            "a layer of the plan (layer, planned)", key.layer, plan_.layers);
    require(key.head < static_cast<std::uint32_t>(plan_.kv_heads), where,
            "a KV head of the plan (head, planned)", key.head, plan_.kv_heads);
    require(queries.heads <= plan_.group, where,
            "at most as many query heads as planned (heads, planned)", queries.heads, plan_.group);
  }

  static void reserve_audit(const call_shape& shape, audit_workspace& ws) {
    ws.exact.reserve(shape.heads, shape.rows, shape.key_dim, shape.value_dim, true);
    ws.logits.reserve(shape.rows);
  }

  template <cache_view View>
  void audit(const query_group& queries, const View& kv, const draw_key& key, const result& got,
             audit_workspace& ws) const {
    reserve_audit(shape_of(queries, kv), ws);
    const attention_call<View> call(queries, kv, key);
    const top_k::oracle all(rows(0));
    all.predict(call, all.make_index(kv.key_dim()), ws.exact.seen, ws.exact);
    const result want = detail::dense_checked(call, ws.exact);
    const index_t best = list_fixed(call, ws);
    for (int h = 0; h < queries.heads; ++h) {
      const auto i = static_cast<std::size_t>(h);
      const auto logits = ws.exact.seen.scores(h).first(static_cast<std::size_t>(call.visible));
      const comparison with{
          output_error(got.output.row(h).data(), want.output.row(h).data(), kv.value_dim(),
                       got.certificates[i].unit),
          denominator_error(got.log_sum_exp[i], want.log_sum_exp[i]),
          mass_read_exactly(logits, want.log_sum_exp[i], ws.call.exact.rows(),
                            drawn_by_weight(ws.call.drawn), ws.exact.exact.rows(), best,
                            ws.logits.first(call.visible)),
          size_in_units(want.output.row(h).data(), kv.value_dim(), got.certificates[i].unit)};
      counters_of(key.layer, key.head)[h].add(got.certificates[i], budget().asked(), with);
    }
  }

  /// Lists the static rows in the audit's workspace. Returns how many others a perfect predictor
  /// may take.
  template <cache_view View>
  index_t list_fixed(const attention_call<View>& call, audit_workspace& ws) const noexcept {
    index_set& fixed = ws.exact.exact;
    select_static(functor_.static_indices(), call, fixed);
    fixed.list();
    index_t predicted = 0;
    for (const row_t row : ws.call.exact.rows())
      predicted += !fixed.contains(row) && !call.hides(row) ? 1 : 0;
    predicted += static_cast<index_t>(drawn_by_weight(ws.call.drawn).size());
    return predictable_rows(predicted, call.heads(), call.visible);
  }

  Functor functor_;
  audit_plan plan_;
  std::unique_ptr<audit_counters[]> counters_;
};

}  // namespace vattn
