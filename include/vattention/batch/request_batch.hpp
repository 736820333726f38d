// SPDX-License-Identifier: Apache-2.0
/// @file
/// Requests of a decoding step from plain tensors.
#pragma once

#include <span>
#include <vector>

#include "vattention/batch/request.hpp"

namespace vattn {

/// Queries and results of one layer and step as dense arrays, one sequence after the other; rows of d and
/// d_v elements. With g = query_heads / kv_heads, query heads [g k, g (k + 1)) share KV head k.
struct batch_tensors {
  int batch = 0, query_heads = 0, kv_heads = 0;
  index_t dim = 0, value_dim = 0;
  /// Query positions of each sequence: the last of them sees its whole cache, each one before a row less.
  int positions = 1;

  /// `[batch x query_heads x positions x d]`
  const float* queries = nullptr;
  /// `[batch x query_heads x positions x d_v]`, and `[batch x query_heads x positions]` each; null: not
  /// wanted.
  float* output = nullptr;
  double* log_sum_exp = nullptr;
  double* log_sum_exp_error = nullptr;
  certificate* certificates = nullptr;

  /// Of all requests. Bias and learned sinks are `[query_heads x positions]` and the same in all sequences.
  logit_options logits{};
};

/// Which calls a step's requests are, for their draw keys: the step of each is its cache's number of rows.
struct batch_step {
  std::uint64_t seed = 0;
  std::uint32_t layer = 0;
  /// What tells the sequences apart, `[batch]`; null: their place in the batch.
  const std::uint64_t* sequences = nullptr;
};

/// A request for each (sequence, KV head), made anew each step in the same memory. A `request_range`.
template <cache_view View, class Index = void>
class request_batch {
public:
  using value_type = request<View, Index>;

  request_batch() = default;
  // Requests refer into the batch.
  request_batch(const request_batch&) = delete;
  request_batch& operator=(const request_batch&) = delete;
  request_batch(request_batch&&) noexcept = default;
  request_batch& operator=(request_batch&&) noexcept = default;

  /// `views` and `indices`, `[batch x kv_heads]`; no index where `Index` is void. Requests may be changed
  /// afterwards. Allocates only if there never were as many.
  /// @throws std::invalid_argument if KV heads do not divide the query heads, or numbers do not fit; the
  /// requests are as they were then.
  void assign(const batch_tensors& tensors, const batch_step& step, std::span<const View> views,
              std::span<const Index> indices)
    requires(!std::is_void_v<Index>)
  {
    check(tensors, views);
    require(indices.size() == views.size(), "request_batch", "an index for each view",
            indices.size(), views.size());
    fill(tensors, step, views);
    for (std::size_t i = 0; i < indices.size(); ++i) requests_[i].index = &indices[i];
  }
  void assign(const batch_tensors& tensors, const batch_step& step, std::span<const View> views)
    requires std::is_void_v<Index>
  {
    check(tensors, views);
    fill(tensors, step, views);
  }

  std::size_t size() const noexcept { return requests_.size(); }
  value_type* data() noexcept { return requests_.data(); }
  const value_type* data() const noexcept { return requests_.data(); }
  auto begin() noexcept { return requests_.begin(); }
  auto end() noexcept { return requests_.end(); }
  auto begin() const noexcept { return requests_.begin(); }
  auto end() const noexcept { return requests_.end(); }
  value_type& operator[](std::size_t number) noexcept { return requests_[number]; }

private:
  static void check(const batch_tensors& t, std::span<const View> views) {
    constexpr const char* where = "request_batch";
    require(t.batch >= 0 && t.query_heads >= 1 && t.kv_heads >= 1, where,
            "batch >= 0, query heads and KV heads >= 1", t.batch, t.query_heads, t.kv_heads);
    require(t.query_heads % t.kv_heads == 0, where,
            "query heads that the KV heads divide (query heads, KV heads)", t.query_heads,
            t.kv_heads);
    require(t.positions >= 1, where, "at least one position", t.positions);
    require(t.positions == 1 || (t.logits.visible_of == nullptr && t.logits.visible_rows < 0),
            where, "no other limit of visible rows beside positions", t.positions);
    require(static_cast<index_t>(views.size()) == index_t{t.batch} * t.kv_heads, where,
            "a view for each sequence and KV head (views, batch, KV heads)", views.size(), t.batch,
            t.kv_heads);
    for (const View& kv : views) {
      require(kv.key_dim() == t.dim && kv.value_dim() == t.value_dim, where,
              "views of the tensors' dimensions", kv.key_dim(), kv.value_dim(), t.dim, t.value_dim);
      require(t.positions == 1 || kv.rows() >= t.positions, where,
              "a row for each position (rows, positions)", kv.rows(), t.positions);
    }
  }

  void fill(const batch_tensors& t, const batch_step& step, std::span<const View> views) {
    const int g = t.query_heads / t.kv_heads * t.positions;
    requests_.clear();
    requests_.reserve(views.size());
    sees_.resize(t.positions == 1 ? 0 : views.size() * static_cast<std::size_t>(g));
    for (std::size_t i = 0; i < views.size(); ++i) {
      const auto sequence = i / static_cast<std::size_t>(t.kv_heads);
      const auto head = static_cast<int>(i % static_cast<std::size_t>(t.kv_heads));
      const auto first = static_cast<index_t>(i) * g;  // query of the batch
      const auto at = [=](auto* numbers, index_t each) {
        return numbers == nullptr ? nullptr : numbers + first * each;
      };
      query_group queries(at(t.queries, t.dim), g, t.dim, options_of(t, index_t{head} * g));
      if (t.positions > 1) queries.logits.visible_of = positions_of(t, views[i].rows(), g, first);
      requests_.push_back({.queries = queries,
                           .kv = views[i],
                           .key = key_of(step, sequence, head, views[i].rows()),
                           .output = at(t.output, t.value_dim),
                           .log_sum_exp = at(t.log_sum_exp, 1),
                           .log_sum_exp_error = at(t.log_sum_exp_error, 1),
                           .certificates = at(t.certificates, 1)});
    }
  }

  static draw_key key_of(const batch_step& step, std::size_t sequence, int head,
                         index_t rows) noexcept {
    return {.seed = step.seed,
            .sequence = step.sequences == nullptr ? sequence : step.sequences[sequence],
            .layer = step.layer,
            .head = static_cast<std::uint32_t>(head),
            .step = static_cast<std::uint64_t>(rows)};
  }
  /// Options from the query `first` of a sequence on.
  static logit_options options_of(const batch_tensors& t, index_t first) noexcept {
    logit_options options = t.logits;
    if (options.bias != nullptr) options.bias += first * options.bias_stride;
    if (options.sink_logits != nullptr) options.sink_logits += first;
    return options;
  }
  /// Rows that each of g queries sees, `first` of the batch the first of them.
  const index_t* positions_of(const batch_tensors& t, index_t rows, int g, index_t first) noexcept {
    index_t* sees = sees_.data() + first;
    for (int q = 0; q < g; ++q) sees[q] = rows - (t.positions - 1 - q % t.positions);
    return sees;
  }

  std::vector<value_type> requests_;
  std::vector<index_t> sees_;
};

}  // namespace vattn
