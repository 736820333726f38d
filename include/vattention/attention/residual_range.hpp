// SPDX-License-Identifier: Apache-2.0
/// @file
/// The range of the weights that are left to sample, from a predictor's bounds: before anything is drawn.
#pragma once

#include <cmath>

#include "vattention/core/concepts.hpp"

namespace vattn {

/// For each head into ws.ranges: a ceiling c of the logits outside ws.exact (listed), and a lower bound
/// of sum exp(l - c) over them; +inf and 0 if some row cannot be bounded, -inf and 0 if the head sees
/// none. Sound to 2^-16 of the sum, for weights are floats. Looks at every code once more a head: O(n d)
/// a head, no key is read, nothing allocated after `workspace::reserve_bounds`.
template <bounds_scores Predictor, cache_view View>
void bound_residual(const Predictor& top_k, const decode<View>& call,
                    const typename Predictor::index_type& index, workspace& ws) noexcept {
  for (int h = 0; h < call.heads(); ++h) {
    top_k.bounds(call, index, h, ws.lower.first(call.visible), ws.upper.first(call.visible), ws);
    index_t count = 0;
    for (index_t row = 0; row < call.visible; ++row) {
      if (ws.exact.contains(static_cast<row_t>(row))) continue;
      ws.lower[count] = ws.lower[row];
      ws.upper[count++] = ws.upper[row];
    }
    const float ceiling = call.kernels.max_of(ws.upper.data(), count);
    double* range = ws.ranges.data() + 2 * h;
    range[0] = static_cast<double>(ceiling);
    range[1] = 0.0;
    if (std::isfinite(ceiling))
      range[1] = (1.0 - 0x1p-16) *
                 call.kernels.exp_shifted(ws.lower.data(), count, ceiling, ws.lower.data());
  }
}

/// Puts a head's two numbers into its state, whose floor is that of the exact rows so far.
inline void set_range(const partial_view& state, const double* range) noexcept {
  state.ceiling() = range[0];
  if (std::isfinite(range[0])) state.floor() += range[1] * std::exp(range[0] - state.max_logit());
}

}  // namespace vattn
