// SPDX-License-Identifier: Apache-2.0
/// @file
/// One call as the policies see it: queries, cache, randomness, and how a dot product becomes a logit.
#pragma once

#include <cmath>
#include <limits>

#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// A checked call. Everything is by reference; it lives as long as the call.
template <cache_view View>
struct decode {
  const query_group& queries;
  const View& kv;
  draw_key key;
  const kernels::table& kernels;
  /// Rows the queries see: [0, visible).
  index_t visible;
  /// Factor on q.k, never 0.
  float scale;
  /// The bias of a row that a head must not see.
  static constexpr float hidden = -std::numeric_limits<float>::infinity();

  decode(const query_group& q, const View& cache, draw_key draw) noexcept
      : queries(q),
        kv(cache),
        key(draw),
        kernels(kernels::active()),
        visible(q.logits.visible_rows < 0 ? cache.rows() : q.logits.visible_rows),
        scale(q.logits.scale != 0.0F ? q.logits.scale
                                     : 1.0F / std::sqrt(static_cast<float>(q.dim))) {}

  int heads() const noexcept { return queries.heads; }
  /// Bias of a row for a head; only if there is a bias.
  float bias_of(int head, index_t row) const noexcept {
    return queries.logits.bias[head * queries.logits.bias_stride + row];
  }

  /// Turns dot products q.k of listed rows into logits, in place: scale, soft-cap, bias.
  /// `row_of(i)` is the cache row of entry i. A product that is not finite becomes NaN, so that an
  /// infinite key neither hides as a logit of -inf nor passes the soft-cap.
  template <class RowOf>
  void to_logits(int head, float* dots, index_t count, RowOf row_of) const noexcept {
    const logit_options& options = queries.logits;
    for (index_t i = 0; i < count; ++i) {
      const float product = scale * dots[i];
      dots[i] = product + 0.0F * product;
    }
    if (options.softcap > 0.0F)
      for (index_t i = 0; i < count; ++i)
        dots[i] = options.softcap * std::tanh(dots[i] / options.softcap);
    if (options.bias == nullptr) return;
    for (index_t i = 0; i < count; ++i) {
      const float bias = bias_of(head, static_cast<index_t>(row_of(i)));
      dots[i] = bias == hidden ? hidden : dots[i] + bias;
    }
  }

  /// True if the bias hides a row from every head: such a row is never read, whatever it holds.
  bool hides(index_t row) const noexcept {
    if (queries.logits.bias == nullptr) return false;
    for (int h = 0; h < heads(); ++h)
      if (bias_of(h, row) != hidden) return false;
    return true;
  }
  index_t count_hidden() const noexcept {
    index_t count = 0;
    if (queries.logits.bias != nullptr)
      for (index_t row = 0; row < visible; ++row) count += hides(row) ? 1 : 0;
    return count;
  }
};

}  // namespace vattn
