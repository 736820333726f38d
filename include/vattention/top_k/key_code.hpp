// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted logits from low-bit codes of rotated keys.
#pragma once

#include <limits>

#include "vattention/core/concepts.hpp"
#include "vattention/top_k/code_bounds.hpp"
#include "vattention/top_k/key_code_index.hpp"
#include "vattention/top_k/pick_size.hpp"
#include "vattention/top_k/tempering.hpp"

namespace vattn::top_k {

/// Scores every key by its code, in one pass for the whole query group: the rotated query as int8, the
/// dot product in integers (so the same scores on every kernel row), then scale, soft-cap and bias like
/// a true logit. The scores are log-weights. Takes the k best of each head, and rows of `long_values`.
///
/// Reads d bits / 8 + 2 bytes a key. Certificates with uniform sampling were measured to hold on every
/// captured (head, query) pair from 4 bits up; below, on average only. As a proposal, at epsilon = delta = .1, no row of
/// 3,072 was beyond epsilon more often than delta from 4 bits up, 11 were with 2 bits and 157 with 1.
class key_code {
public:
  using role = vattn::role::top_k;
  using index_type = key_code_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  /// `bits` a coordinate: 1, 2, 4, 6 or 8; k as rows, as a share of
  /// the visible rows, or as a share of the predicted mass.
  /// @throws std::invalid_argument for another width.
  key_code(int bits, pick_size k) : book_(bits), k_(k) {}

  key_code_index make_index(index_t key_dim) const { return {book_.bits(), key_dim}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const key_code_index& index, predictions& seen,
               workspace& ws) const noexcept {
    for (int h = 0; h < call.heads(); ++h) code_query(call, index, h, ws);
    for_blocks(call, ws, [&](workspace& scratch, index_t at, index_t count) {
      scan_block(call, index, call.heads(), at, count, ws, scratch);
      for (int h = 0; h < call.heads(); ++h) {
        float* score = seen.scores(h).data() + at;
        product_block(call, index, h, at, count, score, ws, scratch);
        call.to_logits(h, score, count, [=](index_t i) { return at + i; });
      }
    });
    index.values().mark(0, call.visible, seen.scores(0).data(), seen.rows(), call.heads());
  }

  /// Sound bounds of every visible row's logit for one head, `[visible]` each: lower <= logit <=
  /// upper for the real logit and for the float that the kernels compute, all rounding included.
  /// -inf and +inf where the key has no code, the query is not finite, or the float might overflow;
  /// both -inf for a row the bias hides. Half their distance is |scale| ||q|| times the error norm
  /// of the code and 1.4 % at most: on captured heads (d = 64) a median of 2.4, .60 and .15 logit
  /// units at 4, 6 and 8 bits.
  ///
  /// Where it ends: soft-capped logits rest on a float tanh of at most 8 ulp error, and keys must
  /// not have changed since they were indexed. Reads d bits / 8 + 4 bytes a key; no allocation.
  template <cache_view View>
  void bounds(const attention_call<View>& call, const key_code_index& index, int head,
              std::span<float> lower, std::span<float> upper, workspace& ws) const noexcept {
    const index_t stride = padded(index.dim());
    const two_digit_query query(call.queries.data + head * call.queries.stride, index,
                                ws.rotated.data(), ws.query_codes.data(), stride);
    std::int32_t* coarse = ws.code_dots.data();
    std::int32_t* fine = coarse + workspace::block;
    for (index_t at = 0; at < call.visible; at += workspace::block) {
      const index_t count = std::min(workspace::block, call.visible - at);
      scan_block(call, index, 2, at, count, ws, ws);
      for (index_t i = 0; i < count; ++i) {
        const real_range range =
            query.product(index.factor(at + i), index.error_norm(at + i), coarse[i], fine[i]);
        const auto row = static_cast<std::size_t>(at + i);
        call.bound_logit(head, at + i, range.low, range.high, lower[row], upper[row]);
      }
    }
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_sized(call, k_, ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    index_t bytes = 2 * call.visible;
    for (int plane = 0; plane < book_.planes(); ++plane)
      bytes += (call.visible + 15) / 16 * 64 * book_.words(plane, call.kv.key_dim());
    return bytes;
  }
  template <cache_view View>
  double doubt(const attention_call<View>& call, const key_code_index& index,
               int h) const noexcept {
    return std::sqrt(static_cast<double>(error_scale(call, h)) * index.error_square());
  }
  basis coverage() const noexcept {
    return book_.bits() >= 4 ? basis::measured_per_row : basis::measured_on_average;
  }

  static constexpr int levels = 1;
  proposal_level level(int /*number*/) const noexcept {
    return {.floor = book_.bits() == 1 ? 0.1 : 0.05};
  }
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.most(call.visible);
  }
  template <cache_view View>
  void prepare(const attention_call<View>& call, const key_code_index& index,
               workspace& ws) const noexcept {
    for (int h = 0; h < call.heads(); ++h) code_query(call, index, h, ws);
  }
  /// Log-weights of a block of rows: what `predict` does, tempered. Where a logit is no more than scale times q.k,
  /// both are one kernel.
  template <cache_view View>
  void propose(const attention_call<View>& call, const key_code_index& index, index_t at,
               index_t count, float* out, index_t stride, const workspace& ws,
               workspace& scratch) const noexcept {
    float norms[workspace::block];
    scan_block(call, index, call.heads(), at, count, ws, scratch);
    index.error_norms(at, count, norms);
    const bool scales_only = call.scales_only(at + count);
    for (int h = 0; h < call.heads(); ++h) {
      float* t = out + h * stride;
      if (scales_only) {
        call.kernels.weigh_sums(scratch.code_dots.data() + h * workspace::block,
                                index.factors() + at, norms, count, terms_of(call, h, ws), t);
        continue;
      }
      product_block(call, index, h, at, count, t, ws, scratch);
      call.to_logits(h, t, count, [=](index_t i) { return at + i; });
      temper_scores(t, norms, count, tempered(), error_scale_of(h, ws));
    }
    index.values().mark(at, count, out, stride, call.heads());
  }
  void expect(const key_code_index& index, index_t at, index_t count) const noexcept {
    index.prefetch(at, count);
  }
  /// How a log-weight follows from a predicted logit.
  tempering tempered() const noexcept {
    return book_.bits() >= 4   ? tempering{1.0F, 1.0F}
           : book_.bits() == 2 ? tempering{0.75F, 0.5F}
                               : tempering{0.6F, 0.1F};
  }
  template <cache_view View>
  index_t bytes_proposed(const attention_call<View>& call, index_t /*refined*/) const noexcept {
    return bytes_scanned(call) + (book_.bits() <= 2 ? 1 : 2) * call.visible;
  }

  /// `error_scale` of a head of the call that `predict` or `prepare` saw last.
  static float error_scale_of(int h, const workspace& ws) noexcept {
    return ws.query_terms[4 * h + 3];
  }
  /// Coordinates that a query's int8 codes in ws.query_codes are padded to.
  static index_t padded(index_t dim) noexcept { return (dim + 31) / 32 * 32; }

private:
  /// The terms of `propose`'s kernel after `code_query`; NaN, which makes every row one that must be read, for
  /// a query so large that a product might overflow.
  template <cache_view View>
  kernels::weigh_terms terms_of(const attention_call<View>& call, int h,
                                const workspace& ws) const noexcept {
    const tempering by = tempered();
    const float* query = ws.query_terms.data() + 4 * h;
    const float factor = by.tau * call.scale;
    const float slope = factor * query[0];
    const bool small = std::fabs(slope) < 1e24F && std::isfinite(factor * query[2]);
    const auto times = static_cast<float>(book_.level_times());
    const auto plus = static_cast<float>(book_.level_plus());
    return {small ? slope * times : std::numeric_limits<float>::quiet_NaN(),
            slope * plus * query[1], by.kappa * query[3], factor * query[2]};
  }

  /// Calls `each(scratch, at, count)` for the blocks of the visible rows, shared by the workers of the call.
  template <cache_view View, class Each>
  static void for_blocks(const attention_call<View>& call, workspace& ws, Each each) noexcept {
    ws.workers.over_rows(call.visible, ws, [&](workspace& scratch, half_open rows) {
      for (index_t at = rows.first; at < rows.last; at += workspace::block)
        each(scratch, at, std::min(workspace::block, rows.last - at));
    });
  }

  /// Sums of `queries` coded queries, of ws, over a block of keys, `[queries x block]` in scratch.code_dots;
  /// behind them is room for as many.
  template <cache_view View>
  void scan_block(const attention_call<View>& call, const key_code_index& index, int queries,
                  index_t at, index_t count, const workspace& ws,
                  workspace& scratch) const noexcept {
    const index_t size = queries * workspace::block;
    std::int32_t* first = scratch.code_dots.data();
    for (int plane = 0; plane < book_.planes(); ++plane)
      call.kernels.scan_codes(book_.plane_bits(plane), index.codes(plane, at), (count + 15) / 16,
                              book_.words(plane, index.dim()), book_.lookup(),
                              ws.query_codes.data(), padded(index.dim()), queries,
                              first + plane * size, workspace::block);
    for (int q = 0; book_.planes() == 2 && q < queries; ++q, first += workspace::block)
      for (index_t i = 0; i < count; ++i) first[i] += 16 * first[size + i];
  }

  /// Rotates a query and rounds it to int8. Leaves its step, its sum, q.centre and its error scale in
  /// ws.query_terms.
  template <cache_view View>
  static void code_query(const attention_call<View>& call, const key_code_index& index, int h,
                         workspace& ws) noexcept {
    const index_t dim = index.dim();
    float* x = ws.rotated.data();
    std::int8_t* codes = ws.query_codes.data() + h * padded(dim);
    std::copy_n(call.queries.data + h * call.queries.stride, dim, x);
    double centre = 0.0;
    for (index_t j = 0; j < dim; ++j)
      centre += static_cast<double>(x[j]) * static_cast<double>(index.centre()[j]);
    index.rotated().apply(x);
    float largest = 0.0F;
    bool finite = true;
    for (index_t j = 0; j < dim; ++j) {
      largest = std::max(largest, std::fabs(x[j]));
      finite = finite && std::isfinite(x[j]);
    }
    const float step = finite ? largest / 127.0F : std::numeric_limits<float>::quiet_NaN();
    // A query too small to divide by is coded as 0: it tells no key from another.
    const float inverse = step > 0x1p-126F ? 1.0F / step : 0.0F;
    std::int32_t sum = 0;
    std::fill_n(codes, padded(dim), std::int8_t{0});
    for (index_t j = 0; inverse > 0.0F && j < dim; ++j) {
      const float rounded = std::nearbyint(std::clamp(x[j] * inverse, -127.0F, 127.0F));
      codes[j] = static_cast<std::int8_t>(rounded);
      sum += codes[j];
    }
    float* terms = ws.query_terms.data() + 4 * h;
    terms[0] = step;
    terms[1] = static_cast<float>(sum);
    terms[2] = static_cast<float>(centre);
    terms[3] = error_scale(call, h);
  }

  template <cache_view View>
  void product_block(const attention_call<View>& call, const key_code_index& index, int h,
                     index_t at, index_t count, float* out, const workspace& ws,
                     const workspace& scratch) const noexcept {
    const float* terms = ws.query_terms.data() + 4 * h;
    const std::int32_t* sums = scratch.code_dots.data() + h * workspace::block;
    call.kernels.scale_sums(sums, index.factors() + at, count, book_.level_times(),
                            book_.level_plus() * static_cast<std::int32_t>(terms[1]), terms[0],
                            terms[2], out);
  }

  code_book book_;
  pick_size k_;
};
static_assert(proposes_weights<key_code>);
static_assert(bounds_scores<key_code>);

}  // namespace vattn::top_k
