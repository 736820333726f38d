// SPDX-License-Identifier: Apache-2.0
/// @file
/// The channels that weigh most in the products of sampled queries and keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/convert.hpp"

namespace vattn::top_k {

/// Mean magnitudes of the coordinates of vectors, of which those that are not finite do not count.
class channel_magnitudes {
public:
  explicit channel_magnitudes(index_t dim) : sum_(static_cast<std::size_t>(dim)) {}

  void add(std::span<const float> x) noexcept {
    if (!std::all_of(x.begin(), x.end(), [](float c) { return std::isfinite(c); })) return;
    for (std::size_t j = 0; j < sum_.size(); ++j) sum_[j] += static_cast<double>(std::fabs(x[j]));
    counted_ += 1.0;
  }
  /// Of one coordinate; 0 if no vector counted.
  double mean(index_t j) const noexcept {
    return counted_ > 0.0 ? sum_[static_cast<std::size_t>(j)] / counted_ : 0.0;
  }

  /// The `count` numbers j < dim of largest `size(j)`, ties by number, the largest first.
  template <class Size>
  static std::vector<std::int32_t> largest(index_t dim, index_t count, Size size) {
    std::vector<double> sizes;
    std::vector<std::int32_t> order;
    for (index_t j = 0; j < dim; ++j) {
      sizes.push_back(size(j));
      order.push_back(static_cast<std::int32_t>(j));
    }
    std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
      return sizes[static_cast<std::size_t>(a)] > sizes[static_cast<std::size_t>(b)];
    });
    order.resize(static_cast<std::size_t>(count));
    return order;
  }

private:
  std::vector<double> sum_;
  double counted_ = 0.0;
};

/// The channels of one layer and KV head that weigh most in its products: the `count` of largest mean |q_j| times
/// mean |k_j|, ties by channel number, the largest first; all d if `count` is more. For
/// `double_sparsity::make_index(channels, d)`. Keys and queries are those of a capture, as attention sees them
/// (turned to their positions). Vectors that are not finite do not count.
///
/// `queries` `[query_count x d]`, row-major: samples of all query heads of the group, which share the labels. The
/// source takes the mean of |q_j k_j| over tokens; the product of the means does not ask that they be paired.
/// O((query_count + rows) d + d log d); allocates.
/// @throws std::invalid_argument unless count, query_count and the rows of the view are at least 1.
template <cache_view View>
std::vector<std::int32_t> choose_channels(const float* queries, index_t query_count, const View& kv,
                                          index_t count) {
  require(count >= 1, "choose_channels", "at least 1 channel", count);
  require(query_count >= 1 && queries != nullptr, "choose_channels", "at least 1 query",
          query_count);
  require(kv.rows() >= 1, "choose_channels", "at least 1 key", kv.rows());
  const index_t dim = kv.key_dim();
  const auto size = static_cast<std::size_t>(dim);
  channel_magnitudes of_queries(dim), of_keys(dim);
  for (index_t i = 0; i < query_count; ++i) of_queries.add({queries + i * dim, size});
  std::vector<float> key(size);
  for (index_t row = 0; row < kv.rows(); ++row) {
    kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim, key.data());
    of_keys.add(key);
  }
  return channel_magnitudes::largest(
      dim, std::min(count, dim), [&](index_t j) { return of_queries.mean(j) * of_keys.mean(j); });
}

}  // namespace vattn::top_k
