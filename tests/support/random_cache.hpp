// SPDX-License-Identifier: Apache-2.0
/// @file
/// Caches of random numbers in any element type, row stride and shape, with their queries.
#pragma once

#include <vector>

#include "vattention/kernels/convert.hpp"
#include "vattention/testing/heads.hpp"

namespace vattn::test {

/// What a cache should look like. Between two rows lie `gap` elements (bytes of q8_0) that nobody may read:
/// NaN.
struct cache_plan {
  index_t rows = 300, dim = 64, value_dim = 64;
  int heads = 1;
  element keys = element::f32, values = element::f32;
  index_t gap = 0;
  std::uint64_t seed = 1;
};

/// Rows of one element type, stored as they are asked for.
class stored_rows {
public:
  stored_rows() = default;
  stored_rows(const synthetic_head::matrix& m, element type, index_t gap)
      : type_(type), rows_(m.rows()), dim_(m.cols()), stride_(m.cols() + gap) {
    if (type == element::f32) fill(m, f32_);
    if (type == element::bf16) fill(m, bf16_);
    if (type == element::f16) fill(m, f16_);
    if (type == element::q8_0) fill_blocks(m, row_bytes(type, dim_) + gap);
  }
  rows_view view() const {
    if (type_ == element::bf16) return {bf16_.data(), rows_, dim_, stride_};
    if (type_ == element::f16) return {f16_.data(), rows_, dim_, stride_};
    if (type_ == element::q8_0) return {q8_0_.data(), type_, rows_, dim_, stride_};
    return {f32_.data(), rows_, dim_, stride_};
  }

private:
  template <class T>
  void fill(const synthetic_head::matrix& m, std::vector<T>& out) {
    out.assign(static_cast<std::size_t>(rows_ * stride_), T(std::nanf("")));
    for (index_t i = 0; i < rows_; ++i)
      for (index_t j = 0; j < dim_; ++j)
        out[static_cast<std::size_t>(i * stride_ + j)] = T(m(i, j));
  }
  void fill_blocks(const synthetic_head::matrix& m, index_t stride) {
    stride_ = stride;
    q8_0_.assign(static_cast<std::size_t>(rows_ * stride), std::byte{0x7f});
    for (index_t i = 0; i < rows_; ++i)
      kernels::quantise_q8_0(m.row(i).data(), dim_, q8_0_.data() + i * stride);
  }
  element type_ = element::f32;
  index_t rows_ = 0, dim_ = 1, stride_ = 1;
  std::vector<float> f32_;
  std::vector<Eigen::bfloat16> bf16_;
  std::vector<Eigen::half> f16_;
  std::vector<std::byte> q8_0_;
};

/// Normal keys and queries with logits of deviation about 2, values normal about 1/2. The float matrices
/// may be changed; `store()` then makes what `view()` shows.
class random_cache {
public:
  synthetic_head::matrix queries, keys, values;
  logit_options options;

  explicit random_cache(const cache_plan& wanted) : plan(wanted) {
    vattn::detail::head_source source(plan.seed, 11);
    const auto fill = [&](synthetic_head::matrix& m, index_t rows, index_t cols, double deviation,
                          double mean) {
      m.resize(rows, cols);
      for (index_t i = 0; i < m.size(); ++i)
        m.data()[i] = static_cast<float>(mean + deviation * source.normal());
    };
    fill(queries, plan.heads, plan.dim, 2.0, 0.0);
    fill(keys, plan.rows, plan.dim, 1.0, 0.0);
    fill(values, plan.rows, plan.value_dim, 1.0, 0.5);
    store();
  }
  void store() {
    keys_ = stored_rows(keys, plan.keys, plan.gap);
    values_ = stored_rows(values, plan.values, plan.gap);
  }
  kv_view view() const { return {keys_.view(), values_.view()}; }
  query_group group() const { return {queries.data(), plan.heads, plan.dim, options}; }

  cache_plan plan;

private:
  stored_rows keys_, values_;
};

/// A cache whose logit of row i is exactly `l[i]` for every head: one-hot keys and queries, scale 1.
inline random_cache cache_with_logits(const std::vector<float>& l, int heads = 1,
                                      std::uint64_t seed = 1) {
  random_cache c({.rows = static_cast<index_t>(l.size()),
                  .dim = 8,
                  .value_dim = 16,
                  .heads = heads,
                  .seed = seed});
  c.queries.setZero();
  c.keys.setZero();
  c.queries.col(0).setOnes();
  for (std::size_t i = 0; i < l.size(); ++i) c.keys(static_cast<index_t>(i), 0) = l[i];
  c.options.scale = 1.0F;
  c.store();
  return c;
}

/// True if every number is finite.
template <class Numbers>
bool all_finite(const Numbers& numbers) {
  for (index_t i = 0; i < numbers.size(); ++i)
    if (!std::isfinite(numbers.data()[i])) return false;
  return true;
}

}  // namespace vattn::test
