// SPDX-License-Identifier: Apache-2.0
/// @file
/// Simple random sampling without replacement, grown as a prefix of one permutation of the residual.
#pragma once

#include "vattention/core/drawing.hpp"

namespace vattn {

/// Brings the draw to `size` rows; earlier rows stay, all probabilities become size / n.
///
/// New rows are appended in ascending order. O(new rows + n / 64) time, no allocation. The rows depend
/// on the draw key, the shard's first row and the size of the residual alone.
template <class Drawing>
void grow_simple_random_sample(const Drawing& d, index_t size) noexcept {
  const random_stream stream(d.call.key, static_cast<std::uint32_t>(purpose::sampling));
  const index_t n = d.rest.size();
  const auto origin = static_cast<std::uint64_t>(d.call.kv.first_row()) << 32U;
  if (n == 0) return;
  if (d.drawn.size() == 0) d.state.order.begin(n);
  d.state.ranks.reset(n);
  for (const row_t rank : d.state.order.extend(size, stream, origin)) d.state.ranks.add(rank);
  d.state.ranks.list();
  d.drawn.begin_growth();
  d.rest.to_rows(d.drawn.append(d.state.ranks.rows()));
  d.drawn.set_all(threshold_of(static_cast<double>(size) / static_cast<double>(n)));
}

/// Variance of the estimated total at another size, from the squares of the present one:
/// n^2 (1/size - 1/n) mean(y^2), or n^2 / size mean(y^2) without the finite-population correction.
inline double simple_random_variance(const contributions& y, index_t drawn, index_t population,
                                     index_t size, correction finite) noexcept {
  const auto n = static_cast<double>(population);
  const auto b = static_cast<double>(size);
  const double spread = finite == correction::none ? 1.0 / b : 1.0 / b - 1.0 / n;
  return n * n * std::max(0.0, spread) * y.total / static_cast<double>(drawn);
}

}  // namespace vattn
