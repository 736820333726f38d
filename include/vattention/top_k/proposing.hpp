// SPDX-License-Identifier: Apache-2.0
/// @file
/// Any predictor of log-weights as the proposal of sampling in proportion to predicted weight.
#pragma once

#include <algorithm>
#include <utility>

#include "vattention/core/concepts.hpp"

namespace vattn::top_k {

/// A predictor whose scores, formed at once for all rows, are log-weights, and that says how many of them its `select`
/// takes: `picks`, see `proposes_weights`.
template <class P>
concept scores_for_proposals = predicts_log_weights<P> && P::scores_rows &&
                               requires(const P& p, const attention_call<kv_view>& call) {
                                 { p.picks(call) } noexcept -> std::same_as<index_t>;
                               };

/// Makes proposals of a predictor's scores p, in one level: log-weights tau p. What the predictor picks is read exactly,
/// as without this; with k = 0, the usual case, all is left to the sample:
///
///     vattention(static_indices::sink_window(32, 64), top_k::proposing(top_k::double_sparsity(16, rows(0))),
///                base_sampling::proportional(), budget::output(e, d), dynamic_sampling::proportional());
///
/// If logits l are normal given the scores, with mean b p and variance s^2, the best proposal is exp(b p + s^2). A
/// predictor that does not know which of its scores are poor has one s for all rows, which adds the same to each
/// log-weight and falls out; b is left, the slope of logits over scores. It is 1 where errors are parts of a product
/// that were left out, and less where they are noise of the score. Measured on 768 captured rows, for 16 and 32 channels
/// and product codes: rows read are within 6 % of the least for tau from .65 to .9, and a tau for each call and head,
/// from the regression of 64 exact logits, saves 1 to 2 % of them, less than those 64 keys cost, and breaks as many
/// promises.
///
/// Reads what the predictor reads. Costs its prediction, 4 bytes of scratch a row and head, and one multiplication.
///
/// Where its certificates end: `coverage()` is that of the predictor and never better than `measured_on_average`, for
/// a row whose score is far too low is unknown to a sample that follows scores. What was measured of a predictor's
/// proposals stands in its header. `key_code` and `cascade` know each key's coding error and make proposals of their
/// own.
template <scores_for_proposals P>
class proposing {
public:
  using role = vattn::role::top_k;
  using index_type = typename P::index_type;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;
  /// Factor on scores where none is given.
  static constexpr double usual_tau = 0.75;

  /// @throws std::invalid_argument unless 0 < tau <= 1.
  explicit proposing(P predictor, double tau = usual_tau)
      : predictor_(std::move(predictor)), tau_(static_cast<float>(tau)) {
    require(tau_ > 0.0F && tau <= 1.0, "proposing", "0 < tau <= 1", tau);
  }

  /// As it was given, e.g. to make an index of chosen channels.
  const P& predictor() const noexcept { return predictor_; }

  index_type make_index(index_t key_dim) const { return predictor_.make_index(key_dim); }
  template <cache_view View>
  void predict(const attention_call<View>& call, const index_type& index, predictions& seen,
               workspace& ws) const noexcept {
    predictor_.predict(call, index, seen, ws);
  }
  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& seen,
              workspace& ws) const noexcept {
    predictor_.select(call, seen, ws);
  }
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return predictor_.bytes_scanned(call);
  }
  template <cache_view View>
    requires doubts_scores<P>
  double doubt(const attention_call<View>& call, const index_type& index, int h) const noexcept {
    return predictor_.doubt(call, index, h);
  }
  basis coverage() const noexcept {
    return std::max(predictor_.coverage(), basis::measured_on_average);
  }

  static constexpr int levels = 1;
  proposal_level level(int /*number*/) const noexcept { return {}; }
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return predictor_.picks(call);
  }
  /// Leaves all scores in ws.seen, where a call with rows to pick has left them already.
  template <cache_view View>
  void prepare(const attention_call<View>& call, const index_type& index,
               workspace& ws) const noexcept {
    if (picks(call) == 0) predict(call, index, ws.seen, ws);
  }
  /// Scores of ws.seen, tempered: -inf stays, of rows that cannot weigh anything or were fixed before a selection, and
  /// so does NaN.
  template <cache_view View>
  void propose(const attention_call<View>& call, const index_type& /*index*/, index_t at,
               index_t count, float* out, index_t stride, const workspace& ws,
               workspace& /*scratch*/) const noexcept {
    for (int h = 0; h < call.heads(); ++h) {
      const float* const score = ws.seen.scores(h).data() + at;
      for (index_t i = 0; i < count; ++i) out[h * stride + i] = tau_ * score[i];
    }
  }
  template <cache_view View>
  index_t bytes_proposed(const attention_call<View>& call, index_t /*refined*/) const noexcept {
    return bytes_scanned(call);
  }

private:
  P predictor_;
  float tau_;
};

}  // namespace vattn::top_k
