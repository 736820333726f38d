// SPDX-License-Identifier: Apache-2.0
/// @file
/// The g query heads that share one KV head, and how a model turns dot products into logits.
#pragma once

#include <Eigen/Core>

#include <algorithm>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Optional changes to a logit, in this order: scale, soft-cap, bias. Defaults are plain attention.
struct logit_options {
  /// Factor on q.k; 0 stands for 1 / sqrt(d).
  float scale = 0.0F;
  /// c > 0: the scaled product s becomes c tanh(s / c), within [-c, c]. 0: off.
  float softcap = 0.0F;
  /// Added to the logit: `bias[head * bias_stride + row]`, natural log units. -inf masks the row. Null: none.
  const float* bias = nullptr;
  /// From one query head's bias to the next [elements]; 0: one bias for all heads.
  index_t bias_stride = 0;
  /// One learned sink logit a query head: adds exp(sink) to the denominator, no value. Null: none.
  const float* sink_logits = nullptr;
  /// Rows the queries may see, counted from the first (causal). Negative: all of them.
  index_t visible_rows = -1;
  /// For queries of several positions: rows that each may see, `[heads]`, at least 1, at most
  /// `visible_rows`. Rows that only some may see are read exactly for all, so they should be few; a value
  /// there that is not finite shows in all. Null: all see the same.
  const index_t* visible_of = nullptr;
};

/// Query vectors `[heads x dim]`, float, of the query heads that share one KV head (a GQA group).
struct query_group {
  const float* data = nullptr;
  int heads = 1;
  index_t dim = 0;
  /// From one head's query to the next [elements].
  index_t stride = 0;
  logit_options logits{};

  query_group() = default;
  query_group(const float* queries, int head_count, index_t head_dim, logit_options options = {})
      : data(queries), heads(head_count), dim(head_dim), stride(head_dim), logits(options) {}

  /// A vector (one query), or a row-major matrix with one query a row. The group refers to the
  /// matrix, which must outlive it.
  template <class Derived>
    requires(std::same_as<typename Derived::Scalar, float> &&
             bool{Derived::IsVectorAtCompileTime || Derived::IsRowMajor})
  explicit query_group(const Eigen::PlainObjectBase<Derived>& queries, logit_options options = {})
      : data(queries.data()),
        heads(Derived::IsVectorAtCompileTime ? 1 : static_cast<int>(queries.rows())),
        dim(Derived::IsVectorAtCompileTime ? queries.size() : queries.cols()),
        stride(Derived::IsVectorAtCompileTime ? queries.size() : queries.outerStride()),
        logits(options) {}
};

/// Rows that the queries of a group see between them: [0, visible).
template <cache_view View>
index_t visible_rows(const query_group& queries, const View& kv) noexcept {
  const logit_options& options = queries.logits;
  if (options.visible_of != nullptr)
    return *std::max_element(options.visible_of, options.visible_of + queries.heads);
  return options.visible_rows < 0 ? kv.rows() : options.visible_rows;
}

}  // namespace vattn
