// SPDX-License-Identifier: Apache-2.0
/// @file
/// One call of a batch: what it takes, and where its results go.
#pragma once

#include <algorithm>
#include <charconv>
#include <concepts>
#include <ranges>

#include "vattention/attention/result.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn {

/// A query group of one (sequence, layer, KV head). The memory is the caller's; no two requests of a batch
/// write to the same. Dense attention looks at neither `index` nor `key`.
template <cache_view View = kv_view, class Index = void>
struct request {
  using view_type = View;
  using index_type = Index;

  query_group queries;
  View kv;
  /// The predictor's index of `kv`.
  const Index* index = nullptr;
  draw_key key{};

  /// `[g x d_v]`, from one query's output to the next `output_stride` elements; 0: d_v.
  float* output = nullptr;
  index_t output_stride = 0;
  /// `[g]` each; null: not wanted.
  double* log_sum_exp = nullptr;
  double* log_sum_exp_error = nullptr;
  certificate* certificates = nullptr;
};

/// Requests one after the other in memory: a vector, an array, a span, a `request_batch`.
template <class R>
concept request_range =
    std::ranges::contiguous_range<const R> && std::ranges::sized_range<const R> &&
    requires {
      typename std::ranges::range_value_t<R>::view_type;
      typename std::ranges::range_value_t<R>::index_type;
    } &&
    std::same_as<std::ranges::range_value_t<R>,
                 request<typename std::ranges::range_value_t<R>::view_type,
                         typename std::ranges::range_value_t<R>::index_type>>;

/// Bytes of the keys and values that a request's queries see.
template <class Request>
index_t visible_bytes(const Request& r) noexcept {
  return visible_rows(r.queries, r.kv) * (key_bytes(r.kv) + value_bytes(r.kv));
}

namespace detail {

/// `<where>: request <number>`, for messages; no allocation.
class request_name {
public:
  request_name(const char* where, index_t number) noexcept {
    char* end = text_;
    const auto put = [&](const char* from) {
      while (*from != '\0' && end < text_ + 24) *end++ = *from++;
    };
    put(where);
    put(": request ");
    *std::to_chars(end, text_ + sizeof text_ - 1, number).ptr = '\0';
  }
  const char* text() const noexcept { return text_; }

private:
  char text_[48] = {};
};

/// Checks where the results go. @throws std::invalid_argument naming `where`.
template <class Request>
void require_destination(const char* where, const Request& r) {
  require(r.output != nullptr, where, "memory for the output", "null");
  require(r.output_stride == 0 || r.output_stride >= r.kv.value_dim(), where,
          "output stride 0, or of at least one value", r.output_stride, r.kv.value_dim());
}

/// Copies a result to where its request wants it.
template <class Request>
void deliver(const Request& r, const result& got) noexcept {
  const auto g = static_cast<std::size_t>(r.queries.heads);
  const index_t value_dim = r.kv.value_dim();
  const index_t stride = r.output_stride == 0 ? value_dim : r.output_stride;
  for (index_t h = 0; h < r.queries.heads; ++h)
    std::copy_n(got.output.data() + h * value_dim, value_dim, r.output + h * stride);
  if (r.log_sum_exp != nullptr) std::copy_n(got.log_sum_exp.data(), g, r.log_sum_exp);
  if (r.log_sum_exp_error != nullptr)
    std::copy_n(got.log_sum_exp_error.data(), g, r.log_sum_exp_error);
  if (r.certificates != nullptr) std::copy_n(got.certificates.data(), g, r.certificates);
}

}  // namespace detail

}  // namespace vattn
