// SPDX-License-Identifier: Apache-2.0
/// @file
/// `vattention<Policies...>`: the pipeline. Static indices, predicted top-k, base sample, budget, dynamic
/// sample, output, certificate.
#pragma once

#include "vattention/attention/attention_functor.hpp"
#include "vattention/attention/dense.hpp"
#include "vattention/attention/finish.hpp"
#include "vattention/attention/pipeline_outlook.hpp"
#include "vattention/attention/residual_range.hpp"
#include "vattention/attention/weighted.hpp"
#include "vattention/certify/doubt.hpp"
#include "vattention/certify/output.hpp"
#include "vattention/core/compose.hpp"
#include "vattention/core/explanation.hpp"
#include "vattention/core/static_rows.hpp"
#include "vattention/cost/none.hpp"
#include "vattention/static_indices/none.hpp"
#include "vattention/top_k/none.hpp"

namespace vattn {

/// Verified sparse attention composed from policies, one of each role, in any order.
///
/// Roles: static_indices, top_k and cost (default: none), base_sampling, budget, dynamic_sampling
/// (required); `core/concepts.hpp` says what each must offer. The functor is immutable: calls are thread-safe as long
/// as each thread has its own workspace. Output bits depend on the arguments and on the kernel row alone.
/// Source: arXiv 2510.05688, algorithm 1.
template <class... Policies>
class vattention {
  using roles = composition<Policies...>;

public:
  using static_indices_type =
      typename roles::template one_or<role::static_indices, static_indices::none>;
  using top_k_type = typename roles::template one_or<role::top_k, top_k::none>;
  using base_sampling_type = typename roles::template one<role::base_sampling>;
  using budget_type = typename roles::template one<role::budget>;
  using dynamic_sampling_type = typename roles::template one<role::dynamic_sampling>;
  using cost_type = typename roles::template one_or<role::cost, cost::none>;
  using index_type = typename top_k_type::index_type;
  using workspace_type = workspace;

  /// The policies, in the order of the template arguments.
  explicit vattention(Policies... policies)
      : static_indices_(roles::template pick<static_indices_type>(policies...)),
        top_k_(roles::template pick<top_k_type>(policies...)),
        base_sampling_(roles::template pick<base_sampling_type>(policies...)),
        budget_(roles::template pick<budget_type>(policies...)),
        dynamic_sampling_(roles::template pick<dynamic_sampling_type>(policies...)),
        cost_(roles::template pick<cost_type>(policies...)) {}

  /// The same composition with another cost policy: `presets::standard(e, d).with_cost(cost::model())`.
  template <cost_policy Cost>
  auto with_cost(Cost cost) const {
    return vattn::vattention<static_indices_type, top_k_type, base_sampling_type, budget_type,
                             dynamic_sampling_type, Cost>(
        static_indices_, top_k_, base_sampling_, budget_, dynamic_sampling_, std::move(cost));
  }

  /// The predictor's index of a cache; call `append` on it when the cache has grown.
  template <cache_view View>
  index_type make_index(const View& kv) const {
    index_type index = top_k_.make_index(kv.key_dim());
    index.append(kv);
    return index;
  }

  /// Sparse attention of g queries that share a KV head: outputs, log-sum-exp, one certificate each.
  ///
  /// Each key and value that is read is read once for all g queries. The result refers into `ws`.
  /// Allocates only where `ws` has to grow.
  /// @throws std::invalid_argument for shapes that do not fit, or an index of other keys; nothing has
  /// been changed then.
  template <cache_view View>
  result operator()(const query_group& queries, const View& kv, const index_type& index,
                    draw_key key, workspace& ws) const {
    check("attend", queries, kv, index, key);
    return pipeline(queries, kv, index, key, ws, [](const auto& /*look*/) {});
  }

  /// The call's parts, for a batch, see `attention_functor`.
  /// @throws std::invalid_argument as the call.
  template <cache_view View>
  void check(const char* where, const query_group& queries, const View& kv, const index_type& index,
             const draw_key& /*key*/) const {
    require_shapes(where, queries, kv);
    require(queries.heads <= max_heads, where, "at most 64 query heads a group", queries.heads);
    require(
        index.matches(kv), where,
        "an index of the view's keys, their number, dimension and type (rows taken in, rows in view)",
        index.rows(), kv.rows());
    if constexpr (knows_heads<index_type>)
      require(index.serves(queries.heads), where,
              "as many queries of each of the index's query heads (queries, query heads)",
              queries.heads, index.heads());
  }
  void reserve(const call_shape& shape, workspace& ws) const {
    ws.reserve(shape.heads, shape.rows, shape.key_dim, shape.value_dim, top_k_type::scores_rows);
    if constexpr (detail::takes_proposals<base_sampling_type>)
      ws.reserve_proposals(shape.heads, shape.rows);
    if constexpr (goes_by_collisions) ws.reserve_collisions(shape.rows, shape.key_dim);
    if constexpr (needs_ceiling<budget_type>) ws.reserve_bounds(shape.heads, shape.rows);
  }
  void admit(index_t /*queries*/) const noexcept {}
  template <cache_view View>
  result attend(const query_group& queries, const View& kv, const index_type& index, draw_key key,
                workspace& ws) const noexcept {
    return pipeline(queries, kv, index, key, ws, [](const auto& /*look*/) {});
  }

  /// Replays the call of these arguments: which rows it read, with which probabilities, and what each look
  /// judged. Allocates what it returns.
  /// @throws std::invalid_argument as the call.
  template <cache_view View>
  explanation explain(const query_group& queries, const View& kv, const index_type& index,
                      draw_key key, workspace& ws) const {
    check("attend", queries, kv, index, key);
    explanation all;
    pipeline(queries, kv, index, key, ws, [&](auto& look) { all.add_look(look, ws.drawn.size()); });
    const attention_call<View> call(queries, kv, key);
    all.add_rows(ws.exact, [&](row_t row) { return call.hides(row); });
    all.add_draw(ws.drawn);
    const std::span<const certificate> said = ws.certificates.first(call.heads());
    all.certificates.assign(said.begin(), said.end());
    return all;
  }

  /// Output and certificate of the whole from merged partial results, one a query head (see
  /// `take_partial` and `partial_view::merge`): judged by this functor's budget, as one sample.
  /// @throws std::invalid_argument if there is no head, more than a group may have, or value dimensions
  /// differ.
  result finish(std::span<partial> heads, workspace& ws) const {
    const auto g = static_cast<int>(heads.size());
    require(g >= 1 && g <= max_heads, "finish", "1 to 64 heads", g);
    const index_t value_dim = heads[0].view().value_dim();
    for (partial& head : heads)
      require(head.view().value_dim() == value_dim, "finish", "values of one dimension",
              head.view().value_dim(), value_dim);
    ws.reserve(g, 1, 1, value_dim, false);
    for (int h = 0; h < g; ++h) {
      const partial_view state = heads[static_cast<std::size_t>(h)].view();
      certify(state, h, budget_.judge(state, ws), ws);
    }
    return {ws, g, value_dim};
  }

  /// Query heads a group may have.
  static constexpr int max_heads = workspace::most_heads;

  const budget_type& budget() const noexcept { return budget_; }
  const top_k_type& top_k() const noexcept { return top_k_; }
  const static_indices_type& static_indices() const noexcept { return static_indices_; }
  const cost_type& cost() const noexcept { return cost_; }

private:
  static constexpr error_scale scale = detail::scale_of<budget_type>;
  static constexpr bool follows_predictions = detail::takes_proposals<base_sampling_type>;
  static constexpr bool goes_by_collisions = detail::takes_collisions<base_sampling_type>;

  /// The pipeline of a checked call; `watch` sees every look once it is judged.
  template <cache_view View, class Watch>
  result pipeline(const query_group& queries, const View& kv, const index_type& index, draw_key key,
                  workspace& ws, Watch watch) const {
    reserve(shape_of(queries, kv), ws);
    if constexpr (knows_values<top_k_type>) ws.value_square = index.mean_value_square();
    const attention_call<View> call(queries, kv, key);

    // 1 static indices: sinks and window. 2 predicted top-k among what is left. Both are read exactly.
    const index_t hidden = hide(call, ws.exact);
    select_static(static_indices_, call, ws.exact);
    ws.exact.list();
    const call_prospect prospect = prospect_of(call, hidden, ws.exact.size());
    if (may_read_all(prospect) && cost_.dense_at_once(prospect)) return read_all(call, ws, 0, 0);
    const bool doubtful = follows_predictions && top_k_.coverage() <= basis::measured_per_row &&
                          beyond_prediction(top_k_, call, index);
    if (doubtful && may_read_all(prospect)) return read_all(call, ws, 0, 0);
    predict_top(call, index, ws);
    const population rest(call.visible, ws.exact);
    if (too_few_to_sample(call.visible - hidden, rest))
      return read_all(call, ws, 0, index_bytes(call, true, 0));
    if constexpr (needs_ceiling<budget_type>)
      bound_residual(top_k_, call, index, detail::takes_bounds<base_sampling_type>, ws);
    weighted_attention<View> pass(call, ws);

    // 3 base sample of the rest: rows with their inclusion probabilities
    const drawing d{call, rest, top_k_, index, ws};
    if constexpr (follows_predictions) top_k_.prepare(call, index, ws);
    base_sampling_.draw(d);

    // 4 estimate, 5 budget, 6 dynamic sample: until the budget is content, or everything is read
    judgement judged[max_heads];
    const auto unsampled = static_cast<double>(bytes_touched(call, hidden, 0, 0, ws));
    detail::pipeline_outlook look(d, dynamic_sampling_, judged, unsampled);
    for (;; look.next_look()) {
      pass.read_fresh();
      pass.estimate(dynamic_sampling_type::scheme, rest.size());
      look.forget();
      for (int h = 0; h < call.heads(); ++h) {
        complete(call, h, hidden, look.look(), ws);
        ws.head(h).resolution() = dynamic_sampling_.resolution(d, h);
        if constexpr (detail::takes_bounds<dynamic_sampling_type>)
          dynamic_sampling_.describe(d, h, budget_.aim(ws.head(h)));
        judged[h] = budget_.judge(ws.head(h), ws);
      }
      watch(look);
      const decision next = next_step(look, prospect, ws);
      if (next == decision::stop) break;
      if (next == decision::read_all)
        return read_all(call, ws, look.look(), index_bytes(call, true, ws.draws.refined));
      dynamic_sampling_.grow(d, look.sizes());
    }

    // 7 output, and 8 the certificate of the sample that formed it
    for (int h = 0; h < call.heads(); ++h) {
      ws.head(h).doubtful() = doubtful ? 1.0 : 0.0;
      certify(ws.head(h), h, judged[h], ws);
    }
    return {ws, call.heads(), kv.value_dim()};
  }

  /// What the predictor picks for certain; none costs no pass over the scores of a predictor that the sampler follows.
  template <cache_view View>
  void predict_top(const attention_call<View>& call, const index_type& index,
                   workspace& ws) const noexcept {
    if constexpr (follows_predictions || goes_by_collisions)
      if (top_k_.picks(call) == 0) return;
    top_k_.predict(call, index, ws.seen, ws);
    top_k_.select(call, ws.seen, ws);
    ws.exact.list();
  }

  /// Short caches, and residuals that the base sample would nearly exhaust, are read whole.
  bool too_few_to_sample(index_t rows, const population& rest) const noexcept {
    const index_t base = base_sampling_.size(rest.size());
    const index_t exact = rows - rest.size();
    return rest.size() <= std::max<index_t>(base, 32) || rows <= 2 * (exact + base);
  }

  /// What a cost policy is told of a call that reads `exact` rows for certain, the hidden ones among them.
  template <cache_view View>
  call_prospect prospect_of(const attention_call<View>& call, index_t hidden,
                            index_t exact) const noexcept {
    call_prospect all{.heads = call.heads(),
                      .rows = call.visible - hidden,
                      .key_dim = call.kv.key_dim(),
                      .value_dim = call.kv.value_dim(),
                      .row_bytes = key_bytes(call.kv) + value_bytes(call.kv),
                      .scanned_bytes = index_bytes(call, true, 0),
                      .exact = exact - hidden,
                      .base = base_sampling_.size(call.visible - exact)};
    if constexpr (detail::takes_proposals<base_sampling_type>) all.levels = top_k_type::levels;
    if constexpr (detail::takes_bounds<base_sampling_type> || goes_by_collisions) all.levels = 1;
    all.bounds = needs_ceiling<budget_type>;
    if (scale == error_scale::output && budget_.guarantees() == quantity::output)
      all.epsilon = budget_.asked();
    return all;
  }
  /// False for a budget with a limit that reading everything would exceed.
  bool may_read_all(const call_prospect& all) const noexcept {
    if constexpr (limits_reading<budget_type>)
      return budget_.limit().allows_all(all.rows, all.rows * all.row_bytes);
    return true;
  }
  template <class Look>
  bool may_read_all(Look& look) const noexcept {
    if constexpr (limits_reading<budget_type>) return !budget_.limit().binds(look);
    return true;
  }

  template <class Look>
  decision next_step(Look& look, const call_prospect& prospect, workspace& ws) const noexcept {
    for (int h = 0; h < look.heads(); ++h)
      if (!std::isfinite(look.state(h).denominator())) return decision::read_all;
    const decision next = budget_.next(look);
    if (next != decision::grow) return next;
    for (int h = 0; h < look.heads(); ++h)
      if (ws.sizes[h] >= look.population()) return decision::read_all;
    if (may_read_all(look) && cost_.dense_from_here(prospect, look.growth()))
      return decision::read_all;
    return next;
  }

  /// The dense kernel on everything visible; its result bit for bit. `codes` are the bytes of the predictor's
  /// index that were read in vain.
  template <cache_view View>
  result read_all(const attention_call<View>& call, workspace& ws, int looks,
                  index_t codes) const noexcept {
    result all = detail::dense_checked(call, ws, codes, looks);
    for (int h = 0; h < call.heads(); ++h) {
      ws.certificates[h].epsilon_asked = budget_.asked();
      ws.certificates[h].delta = budget_.delta();
      ws.certificates[h].quantity = budget_.guarantees();
      ws.certificates[h].scale = scale;
      ws.certificates[h].unit = unit_of<scale>(ws.value_square);
    }
    return all;
  }

  /// Rows that the bias hides from every head leave the residual; they are not read.
  template <cache_view View>
  static index_t hide(const attention_call<View>& call, index_set& exact) noexcept {
    if (call.queries.logits.bias != nullptr)
      for (index_t row = 0; row < call.visible; ++row)
        if (call.hides(row)) exact.add(static_cast<row_t>(row));
    return exact.size();
  }

  /// What a head's state says beside the sums: the work, and bounds that do not depend on the draw.
  template <cache_view View>
  void complete(const attention_call<View>& call, int h, index_t hidden, int looks,
                workspace& ws) const noexcept {
    const partial_view state = ws.head(h);
    state.sampled_shards() = 1.0;
    if constexpr (needs_ceiling<budget_type>) set_range(state, ws.ranges.data() + 2 * h);
    const index_t beyond = call.count_beyond(h);
    const index_t exact = ws.exact.size() - hidden - beyond;
    state.looks() = looks;
    state.rows_total() = static_cast<double>(call.visible - hidden - beyond);
    state.rows_exact() = static_cast<double>(exact);
    state.rows_sampled() = static_cast<double>(ws.drawn.size());
    state.bytes_touched() =
        static_cast<double>(bytes_touched(call, hidden, ws.draws.refined, ws.drawn.size(), ws));
    state.value_squares() = ws.value_square * state.rows_total();
  }

  /// Bytes of codes, keys and values of a call that refines and draws so many rows.
  template <cache_view View>
  index_t bytes_touched(const attention_call<View>& call, index_t hidden, index_t refined,
                        index_t drawn, const workspace& ws) const noexcept {
    const index_t rows = ws.exact.size() - hidden + drawn;
    return index_bytes(call, true, refined) + rows * (key_bytes(call.kv) + value_bytes(call.kv));
  }

  /// Bytes of the predictor's index that were read.
  template <cache_view View>
  index_t index_bytes(const attention_call<View>& call, bool sampled,
                      index_t refined) const noexcept {
    if constexpr (detail::takes_proposals<base_sampling_type>)
      if (sampled) return top_k_.bytes_proposed(call, refined);
    if constexpr (goes_by_collisions)
      if (sampled) return top_k_.bytes_collided(call);
    return top_k_.bytes_scanned(call);
  }

  void certify(const partial_view& state, int h, const judgement& judged,
               workspace& ws) const noexcept {
    const bool finite = detail::write_result(state, h, ws);
    certificate& c = ws.certificates[h] = detail::describe(state);
    const bool whole = c.rows_exact + c.rows_sampled == c.rows_total && state.uncertain() == 0.0;
    c.status = !finite ? status::non_finite : whole ? status::exact : budget_.end(judged);
    c.basis = !finite                               ? basis::unmeasured
              : whole                               ? basis::exact
              : budget_.coverage() == basis::proved ? basis::proved
              : state.doubtful() > 0.0              ? basis::unmeasured
                                       : std::max(budget_.coverage(), top_k_.coverage());
    c.quantity = budget_.guarantees();
    c.scale = scale;
    c.epsilon_asked = budget_.asked();
    c.delta = budget_.delta();
    c.bounds_violated = static_cast<index_t>(state.violations());
    if (finite && c.bounds_violated > 0) c.status = status::bound_violated;
    c.unit = unit_of<scale>(state);
    if (!finite || c.bounds_violated > 0) return;
    c.bound = whole ? bound_kind::exact : judged.bound;
    c.epsilon = whole ? 0.0 : judged.epsilon;
  }

  [[no_unique_address]] static_indices_type static_indices_;
  [[no_unique_address]] top_k_type top_k_;
  [[no_unique_address]] base_sampling_type base_sampling_;
  [[no_unique_address]] budget_type budget_;
  [[no_unique_address]] dynamic_sampling_type dynamic_sampling_;
  [[no_unique_address]] cost_type cost_;
};

}  // namespace vattn
