// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a call leaves to sampling, with its exact weights.
#pragma once

#include <vector>

#include "rows.hpp"
#include "vattention/core/workspace.hpp"
#include "vattention/static_indices/sink_window.hpp"

namespace vattn_bench {

/// Weights of the rows outside an exact set, as shares of the whole denominator.
struct residual_weights {
  std::vector<double> weights;
  double mass = 0.0;  ///< their sum
  /// Fourth and third standardised moments over these rows; 0 where all are equal.
  double kurtosis = 0.0, skewness = 0.0;
};

/// Leaves in ws.exact, listed, what 32 sinks, 64 window rows and a predictor read exactly.
template <class TopK>
void select_exact(const TopK& top_k, const typename TopK::index_type& index,
                  const vattn::query_group& query, const vattn::kv_view& kv, vattn::workspace& ws) {
  ws.reserve(query.heads, kv.rows(), kv.key_dim(), kv.value_dim(), true);
  const vattn::attention_call<vattn::kv_view> call(query, kv, {});
  vattn::static_indices::sink_window(32, 64).select(call.visible, ws.exact);
  ws.exact.list();
  top_k.predict(call, index, ws.seen, ws);
  top_k.select(call, ws.seen, ws);
  ws.exact.list();
}

/// The rest of a row whose softmax weights are `all`.
inline residual_weights outside(const vattn::index_set& exact, const Eigen::VectorXd& all) {
  residual_weights r;
  for (vattn::index_t i = 0; i < all.size(); ++i)
    if (!exact.contains(static_cast<vattn::row_t>(i))) r.weights.push_back(all[i]);
  if (r.weights.empty()) return r;
  const Eigen::Map<const Eigen::ArrayXd> w(r.weights.data(),
                                           static_cast<Eigen::Index>(r.weights.size()));
  r.mass = w.sum();
  const Eigen::ArrayXd off = w - w.mean();
  const double variance = off.square().mean();
  if (!(variance > 0.0)) return r;
  r.skewness = off.cube().mean() / std::pow(variance, 1.5);
  r.kurtosis = off.square().square().mean() / (variance * variance);
  return r;
}

}  // namespace vattn_bench
