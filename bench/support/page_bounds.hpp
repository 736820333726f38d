// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k by pages: an upper bound of q.k for every page of 16 keys.
#pragma once

#include "residual.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn_bench {

/// Coordinate-wise minima and maxima of each page, as bf16. The bound of a page, sum_j max(q_j
/// min_j, q_j max_j), is one dot product of (max, min) with the positive and the negative part of
/// q. Source: Quest, arXiv 2406.10774. Reads 4 d bytes a page, a 16th of a bf16 cache.
class page_bounds {
public:
  static constexpr vattn::index_t page = 16;

  explicit page_bounds(const vattn::kv_view& kv)
      : dim_(kv.key_dim()), pages_((kv.rows() + page - 1) / page) {
    ends_.resize(static_cast<std::size_t>(2 * pages_ * dim_));
    for (vattn::index_t p = 0; p < pages_; ++p) {
      Eigen::ArrayXd high = Eigen::ArrayXd::Constant(dim_, -1e30);
      Eigen::ArrayXd low = -high;
      for (vattn::index_t i = p * page; i < std::min(kv.rows(), (p + 1) * page); ++i) {
        const Eigen::ArrayXd key =
            vattn::detail::widen(kv.key_row(static_cast<vattn::row_t>(i)), kv.key_type(), dim_);
        high = high.max(key);
        low = low.min(key);
      }
      Eigen::bfloat16* out = ends_.data() + 2 * p * dim_;
      for (vattn::index_t j = 0; j < dim_; ++j) {
        out[j] = Eigen::bfloat16(static_cast<float>(high[j]));
        out[dim_ + j] = Eigen::bfloat16(static_cast<float>(low[j]));
      }
    }
  }

  /// Leaves in ws.exact, listed, sinks and window and the best pages, `rows` rows of them.
  void select(const vattn::query_group& query, const vattn::kv_view& kv, vattn::index_t rows,
              vattn::workspace& ws) const {
    ws.reserve(1, kv.rows(), kv.key_dim(), kv.value_dim(), true);
    const vattn::attention_call<vattn::kv_view> call(query, kv, {});
    vattn::static_indices::sink_window(32, 64).select(call.visible, ws.exact);
    const vattn::index_t pages = (call.visible + page - 1) / page;
    std::vector<float> parts(static_cast<std::size_t>(2 * dim_));
    for (vattn::index_t j = 0; j < dim_; ++j) {
      parts[static_cast<std::size_t>(j)] = std::max(0.0F, query.data[j]);
      parts[static_cast<std::size_t>(dim_ + j)] = std::min(0.0F, query.data[j]);
    }
    float* scores = ws.seen.scores(0).data();
    for (vattn::index_t at = 0; at < pages; at += vattn::workspace::block) {
      const vattn::index_t count = std::min(vattn::workspace::block, pages - at);
      for (vattn::index_t i = 0; i < count; ++i)
        ws.addresses[i] = ends_.data() + 2 * (at + i) * dim_;
      call.kernels.dot_rows(vattn::element::bf16, ws.addresses.data(), count, 0, 2 * dim_,
                            parts.data(), 2 * dim_, 1, scores + at, kv.rows());
    }
    const vattn::index_t chosen =
        vattn::pick_top({scores, static_cast<std::size_t>(pages)}, rows / page, ws);
    for (const vattn::row_t p : ws.picks.first(chosen))
      ws.exact.add_range(p * page, std::min(call.visible, (p + vattn::index_t{1}) * page));
    ws.exact.list();
  }

private:
  vattn::index_t dim_, pages_;
  std::vector<Eigen::bfloat16> ends_;
};

}  // namespace vattn_bench
