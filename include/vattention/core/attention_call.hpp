// SPDX-License-Identifier: Apache-2.0
/// @file
/// One call as the policies see it: queries, cache, randomness, and how a dot product becomes a logit.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

/// A checked call. Everything is by reference; it lives as long as the call.
template <cache_view View>
struct attention_call {
  const query_group& queries;
  const View& kv;
  draw_key key;
  const kernels::table& kernels;
  /// Rows the queries see between them, and rows that all of them see: [0, visible), [0, shared).
  index_t visible;
  index_t shared;
  /// Factor on q.k, never 0.
  float scale;
  /// The bias of a row that a head must not see.
  static constexpr float hidden = -std::numeric_limits<float>::infinity();

  attention_call(const query_group& q, const View& cache, draw_key draw) noexcept
      : queries(q),
        kv(cache),
        key(draw),
        kernels(kernels::active()),
        visible(visible_rows(q, cache)),
        shared(visible),
        scale(q.logits.scale != 0.0F ? q.logits.scale
                                     : 1.0F / std::sqrt(static_cast<float>(q.dim))) {
    for (int h = 0; h < heads(); ++h) shared = std::min(shared, visible_to(h));
  }

  int heads() const noexcept { return queries.heads; }
  /// Rows that one head sees: [0, visible_to(head)).
  index_t visible_to(int head) const noexcept {
    const index_t* of = queries.logits.visible_of;
    return of == nullptr ? visible : of[head];
  }
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
    if (options.bias != nullptr)
      for (index_t i = 0; i < count; ++i) {
        const float bias = bias_of(head, static_cast<index_t>(row_of(i)));
        dots[i] = bias == hidden ? hidden : dots[i] + bias;
      }
    const index_t sees = visible_to(head);
    if (sees < visible)
      for (index_t i = 0; i < count; ++i)
        if (static_cast<index_t>(row_of(i)) >= sees) dots[i] = hidden;
  }

  /// True if the logits of rows [0, last) are no more than `scale` times q.k.
  bool scales_only(index_t last) const noexcept {
    return queries.logits.softcap == 0.0F && queries.logits.bias == nullptr && last <= shared;
  }
  /// The logit of a row whose product q.k is larger by `more` than the one that `logit` stands for.
  float moved_logit(int head, row_t row, float logit, float more) const noexcept {
    const float cap = queries.logits.softcap;
    if (cap == 0.0F || logit == hidden) return logit + scale * more;
    const float bias = queries.logits.bias == nullptr ? 0.0F : bias_of(head, row);
    const float product = cap * std::atanh(std::clamp((logit - bias) / cap, -1.0F, 1.0F));
    return cap * std::tanh((product + scale * more) / cap) + bias;
  }

  /// Turns bounds of a row's product q.k into bounds of its logit: scale, soft-cap, bias. Sound for
  /// the real logit and for the float of `to_logits`; where a float may overflow or is NaN they are
  /// -inf and +inf, and both -inf for a hidden row. Takes a float tanh that is off by at most 8
  /// ulp.
  void bound_logit(int head, index_t row, double low, double high, float& lower,
                   float& upper) const noexcept {
    const float bias = hides(head, row)                 ? hidden
                       : queries.logits.bias == nullptr ? 0.0F
                                                        : bias_of(head, row);
    const double a = static_cast<double>(scale) * low;
    const double b = static_cast<double>(scale) * high;
    const bool known = std::fabs(a) < 0x1p127 && std::fabs(b) < 0x1p127;
    const double infinite = std::numeric_limits<double>::infinity();
    lower = bias == hidden ? hidden : end_of(known ? std::min(a, b) : -infinite, bias, -1.0);
    upper = bias == hidden ? hidden : end_of(known ? std::max(a, b) : infinite, bias, 1.0);
  }

  /// A head's query to `out` `[d]`, or its opposite if logits fall with q.k: they rise with the product of this one.
  void rising_query(int head, float* out) const noexcept {
    const float* query = queries.data + head * queries.stride;
    const float sign = scale < 0.0F ? -1.0F : 1.0F;
    for (index_t j = 0; j < kv.key_dim(); ++j) out[j] = sign * query[j];
  }

  /// True if a row of [0, visible) is hidden from one head, by its bias or its position.
  bool hides(int head, index_t row) const noexcept {
    return row >= visible_to(head) ||
           (queries.logits.bias != nullptr && bias_of(head, row) == hidden);
  }
  /// True if it is hidden from every head, which takes a bias: such a row is never read, whatever it holds.
  bool hides(index_t row) const noexcept {
    if (queries.logits.bias == nullptr) return false;
    for (int h = 0; h < heads(); ++h)
      if (!hides(h, row)) return false;
    return true;
  }
  index_t count_hidden() const noexcept {
    return queries.logits.bias == nullptr ? 0 : count_hidden(0);
  }
  /// Rows beyond a head's sight that are read all the same, for other heads.
  index_t count_beyond(int head) const noexcept {
    const index_t first = visible_to(head);
    return visible - first - (queries.logits.bias == nullptr ? 0 : count_hidden(first));
  }

private:
  /// Rows of [first, visible) that are hidden from every head.
  index_t count_hidden(index_t first) const noexcept {
    index_t count = 0;
    for (index_t row = first; row < visible; ++row) count += hides(row) ? 1 : 0;
    return count;
  }

  /// One end of a range of scaled products as a logit, moved towards `sign` times infinity beyond
  /// all rounding: 2^-23 of a number for a product, a sum or a float, 2^-18 of a capped logit, and
  /// 2^-147 below 2^-126.
  static double beyond(double x, double rounding, double sign) noexcept {
    return x + sign * (rounding * std::fabs(x) + 0x1p-147);
  }
  float end_of(double product, float bias, double sign) const noexcept {
    const auto cap = static_cast<double>(queries.logits.softcap);
    double x = beyond(product, 0x1p-23, sign);
    if (cap > 0.0) x = beyond(cap * std::tanh(x / cap), 0x1p-18, sign) + sign * 0x1p-147 * cap;
    x = beyond(x + static_cast<double>(bias), 0x1p-23, sign);
    return static_cast<float>(std::fabs(x) < 0x1p127 ? x : sign * static_cast<double>(-hidden));
  }
};

}  // namespace vattn
