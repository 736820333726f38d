// SPDX-License-Identifier: Apache-2.0
/// @file
/// The point that coded keys are centred on: the mean of a cache's first rows, then frozen.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "vattention/kernels/convert.hpp"

namespace vattn::top_k {

/// Mean of the first 256 keys. Until a cache has that many, an index codes all of its keys anew at each
/// append; from then on the centre never moves, so an index grown row by row equals one built at once.
/// Shifting keys changes every logit of a query by the same amount, hence no ranking.
class frozen_centre {
public:
  static constexpr index_t rows = 256;

  explicit frozen_centre(index_t dim) : mean_(static_cast<std::size_t>(dim)) {}

  const float* data() const noexcept { return mean_.data(); }

  /// Mean of the finite ones among the first 256 keys; 0 if there is none.
  template <cache_view View>
  void settle(const View& kv) {
    std::vector<float> x(mean_.size());
    std::vector<double> sum(mean_.size());
    double counted = 0.0;
    for (index_t row = 0; row < std::min(kv.rows(), rows); ++row) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), kv.key_dim(), x.data());
      if (!std::all_of(x.begin(), x.end(), [](float c) { return std::isfinite(c); })) continue;
      for (std::size_t j = 0; j < x.size(); ++j) sum[j] += static_cast<double>(x[j]);
      counted += 1.0;
    }
    for (std::size_t j = 0; j < x.size(); ++j)
      mean_[j] = counted > 0.0 ? static_cast<float>(sum[j] / counted) : 0.0F;
  }

  /// Loads a key as float and subtracts the centre.
  template <cache_view View>
  void load(const View& kv, index_t row, float* x) const noexcept {
    kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), kv.key_dim(), x);
    for (std::size_t j = 0; j < mean_.size(); ++j) x[j] -= mean_[j];
  }

  template <class File>
  void exchange(File& file) {
    file.numbers(mean_, static_cast<index_t>(mean_.size()));
  }

private:
  std::vector<float> mean_;
};

}  // namespace vattn::top_k
