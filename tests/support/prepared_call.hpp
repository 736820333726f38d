// SPDX-License-Identifier: Apache-2.0
/// @file
/// One call set up by hand, stage by stage, as the functor would: for tests of single policies.
#pragma once

#include <algorithm>
#include <iterator>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/testing/heads.hpp"

namespace vattn::test {

/// Sizes of a made-up cache.
struct cache_shape {
  index_t rows = 500, dim = 64;
  int heads = 1;
  element type = element::f32;
  std::uint64_t seed = 1;
};

/// Standard normal keys, queries of norm about 3 sqrt(d), values of 4 normal coordinates. The float
/// matrices may be changed; `view()` gives the keys as they are then, in the element type asked for.
class prepared_call {
public:
  explicit prepared_call(const cache_shape& wanted) : shape(wanted) {
    detail::head_source source(shape.seed, 7);
    const auto fill = [&](synthetic_head::matrix& m, index_t rows, index_t cols, double deviation) {
      m.resize(rows, cols);
      for (index_t i = 0; i < m.size(); ++i)
        m.data()[i] = static_cast<float>(deviation * source.normal());
    };
    fill(head.queries, shape.heads, shape.dim, 3.0);
    fill(head.keys, shape.rows, shape.dim, 1.0);
    fill(head.values, shape.rows, 4, 1.0);
  }

  kv_view view() {
    const rows_view values(head.values);
    if (shape.type == element::bf16) {
      bf16_ = narrow<Eigen::bfloat16>(head.keys);
      return {rows_view(bf16_.data(), shape.rows, shape.dim), values};
    }
    if (shape.type == element::f16) {
      f16_ = narrow<Eigen::half>(head.keys);
      return {rows_view(f16_.data(), shape.rows, shape.dim), values};
    }
    if (shape.type == element::q8_0) {
      const index_t stride = row_bytes(shape.type, shape.dim);
      q8_0_.resize(static_cast<std::size_t>(shape.rows * stride));
      for (index_t i = 0; i < shape.rows; ++i)
        kernels::quantise_q8_0(head.keys.row(i).data(), shape.dim, q8_0_.data() + i * stride);
      return {rows_view(q8_0_.data(), shape.type, shape.rows, shape.dim, stride), values};
    }
    return {rows_view(head.keys), values};
  }
  query_group group() const { return head.group(options); }
  index_t visible() const { return options.visible_rows < 0 ? shape.rows : options.visible_rows; }

  /// Begins a call on the workspace, with rows that are in the exact set already.
  void begin(bool scored, const std::vector<row_t>& already = {}) {
    ws.reserve(shape.heads, shape.rows, shape.dim, 4, scored);
    ws.reserve_proposals(shape.heads, shape.rows);
    ws.reserve_collisions(shape.rows, shape.dim);
    for (const row_t row : already) ws.exact.add(row);
    ws.exact.list();
  }

  cache_shape shape;
  synthetic_head head;
  logit_options options;
  workspace ws;

private:
  std::vector<Eigen::bfloat16> bf16_;
  std::vector<Eigen::half> f16_;
  std::vector<std::byte> q8_0_;
};

/// Rows [first, last).
inline std::vector<row_t> row_range(index_t first, index_t last) {
  std::vector<row_t> rows;
  for (index_t row = first; row < last; ++row) rows.push_back(static_cast<row_t>(row));
  return rows;
}
/// What `all` has and `some` has not; both ascend.
inline std::vector<row_t> rows_without(std::span<const row_t> all, std::span<const row_t> some) {
  std::vector<row_t> rest;
  std::set_difference(all.begin(), all.end(), some.begin(), some.end(), std::back_inserter(rest));
  return rest;
}

}  // namespace vattn::test
