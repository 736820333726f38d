// SPDX-License-Identifier: Apache-2.0
/// @file
/// The caches of a decoding step, and queries whose attention is as concentrated as on captured heads.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <string>

#include "page_store.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/kernels/kernels.hpp"
#include "workers.hpp"

namespace vattn_bench {

using vattn::element;
using vattn::index_t;

inline const char* name_of(element type) noexcept {
  return type == element::f32 ? "f32" : type == element::bf16 ? "bf16" : "f16";
}

inline element element_of_name(const std::string& name) noexcept {
  return name == "f32" ? element::f32 : name == "bf16" ? element::bf16 : element::f16;
}

/// Shape of all caches of a step; they lie behind each other, `[heads x rows x dim]`.
struct decode_shape {
  index_t rows = 32768, dim = 128;
  int heads = 1, group = 4;
  element type = element::bf16;

  index_t head_elements() const noexcept { return rows * dim; }
  index_t queries() const noexcept { return index_t{heads} * group; }
  /// Keys and values of all heads.
  std::int64_t bytes() const noexcept { return 2 * heads * head_elements() * vattn::size_of(type); }
};

/// Share of the keys that the weight is spread over, exp(entropy) / n, below which a share `quantile` of the
/// rows lies: of 1,080 (head, query) rows of SmolLM2-135M at 8,000 tokens, linear in between and beyond.
inline double captured_entropy_share(double quantile) {
  constexpr std::array<double, 5> at{.05, .25, .5, .75, .95};
  constexpr std::array<double, 5> percent{.03, .10, .38, .96, 5.1};
  std::size_t i = 1;
  while (i + 1 < at.size() && quantile > at[i]) ++i;
  const double between = (quantile - at[i - 1]) / (at[i] - at[i - 1]);
  return 0.01 * std::exp(std::log(percent[i - 1]) +
                         between * (std::log(percent[i]) - std::log(percent[i - 1])));
}

namespace detail {

/// Cheap numbers of mean 0 and variance 1: sums of four uniform ones (xorshift64*).
class rough_normals {
public:
  explicit rough_normals(std::uint64_t seed) : state_(seed * 0x9E3779B97F4A7C15U + 0x1234567) {}
  std::uint64_t bits() noexcept {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    return state_ * 0x2545F4914F6CDD1DULL;
  }
  float next() noexcept {
    const std::uint64_t x = bits();
    const auto sum = static_cast<std::int32_t>((x & 0xFFFFU) + ((x >> 16U) & 0xFFFFU) +
                                               ((x >> 32U) & 0xFFFFU) + (x >> 48U));
    return static_cast<float>(sum - 131070) * (1.7320508F / 65536.0F);
  }

private:
  std::uint64_t state_;
};

/// log of the sum of exp(f l) less f times their weighted mean of l: the entropy of softmax(f l) [nats].
inline double entropy_of(const Eigen::ArrayXf& logits, double factor, Eigen::ArrayXf& scratch,
                         const vattn::kernels::table& kernels) {
  scratch = logits * static_cast<float>(factor);
  const float top = kernels.max_of(scratch.data(), scratch.size());
  const double sum = kernels.exp_shifted(scratch.data(), scratch.size(), top, scratch.data());
  const double mean = static_cast<double>((scratch * logits).sum()) / sum;
  return std::log(sum) + static_cast<double>(top) - factor * mean;
}

/// The factor f > 0 at which softmax(f l) is spread over a share of the keys; bisection of log f.
inline double factor_for(const Eigen::ArrayXf& logits, double share, Eigen::ArrayXf& scratch,
                         const vattn::kernels::table& kernels) {
  const auto n = static_cast<double>(logits.size());
  const double wanted = std::log(std::max(share * n, 1.0 + 1e-3));
  double low = std::log(1.0 / 64.0);
  double high = std::log(64.0);
  for (int step = 0; step < 16; ++step) {
    const double middle = 0.5 * (low + high);
    (entropy_of(logits, std::exp(middle), scratch, kernels) > wanted ? low : high) = middle;
  }
  return std::exp(0.5 * (low + high));
}

}  // namespace detail

/// Keys and values of many KV heads, and fresh queries for every step; the same for the same seed.
///
/// Keys of a head are N(0, 1) about one of 64 cluster centres and a common mean; a query is N(0, 1) about the
/// centre of one cluster, whose keys so score 2.8 standard deviations above the others, times a factor found
/// by bisection on all its logits: what its softmax weights are spread over has the quantiles of captured
/// heads over the queries of a step, shifted from step to step. Query heads of a group look at clusters of
/// their own, which real ones need not: a group's sample has to serve all. There is no sink and no
/// recency, so all mass is left to the predictor and the sampler. Values are N(0, 1) about +-.3 a coordinate,
/// with which the verified default reads as many rows as of the captured heads that the quantiles are from:
/// 3.9 / 2.9 / 2.4 % at epsilon .05 / .1 / .2 (8,192 keys, d = 64, single queries) where these take
/// 3.8 / 2.8 / 2.3 %.
class decode_data {
public:
  static constexpr int clusters = 64;

  decode_data(const decode_shape& shape, std::uint64_t seed, bool huge_pages, workers& pool)
      : shape_(shape),
        seed_(seed),
        huge_pages_(huge_pages),
        keys_(half_bytes(), huge_pages),
        values_(half_bytes(), huge_pages) {
    centres_.resize(static_cast<std::size_t>(shape.heads * clusters * shape.dim));
    queries_.resize(static_cast<std::size_t>(shape.queries() * shape.dim));
    shares_.resize(static_cast<std::size_t>(shape.queries()));
    pool.for_each(static_cast<std::size_t>(shape.heads), [&](int, std::size_t head) {
      switch (shape_.type) {
        case element::f32: return fill<float>(static_cast<index_t>(head));
        case element::bf16: return fill<Eigen::bfloat16>(static_cast<index_t>(head));
        case element::f16: return fill<Eigen::half>(static_cast<index_t>(head));
        default: break;
      }
    });
  }

  const decode_shape& shape() const noexcept { return shape_; }
  bool huge_pages() const noexcept { return huge_pages_; }
  const void* keys() const noexcept { return keys_.data(); }
  const void* values() const noexcept { return values_.data(); }
  /// Bytes of the keys of all heads, and as many of values.
  std::size_t half_bytes() const noexcept { return static_cast<std::size_t>(shape_.bytes() / 2); }

  vattn::kv_view cache(index_t head) const {
    const index_t size = vattn::size_of(shape_.type);
    const index_t skip = head * shape_.head_elements() * size;
    return {{keys_.data() + skip, shape_.type, shape_.rows, shape_.dim, shape_.dim * size},
            {values_.data() + skip, shape_.type, shape_.rows, shape_.dim, shape_.dim * size}};
  }
  vattn::query_group queries(index_t head) const {
    return {queries_.data() + head * shape_.group * shape_.dim, shape_.group, shape_.dim};
  }
  const std::vector<float>& all_queries() const noexcept { return queries_; }
  vattn::draw_key key(index_t head) const noexcept {
    return {.seed = seed_, .head = static_cast<std::uint32_t>(head), .step = step_};
  }
  /// exp(entropy) / n of each query of this step, as it came out.
  const std::vector<double>& entropy_shares() const noexcept { return shares_; }

  /// Fresh queries and a fresh draw.
  void new_step(workers& pool) {
    ++step_;
    pool.for_each(static_cast<std::size_t>(shape_.queries()),
                  [&](int, std::size_t query) { aim(static_cast<index_t>(query)); });
  }

private:
  /// Distance of a centre from the mean, so that a cluster stands out of all dimensions alike.
  float spread() const noexcept {
    return static_cast<float>(std::sqrt(2.8 / std::sqrt(static_cast<double>(shape_.dim))));
  }
  std::uint64_t seed_of(std::uint64_t part, std::uint64_t number) const noexcept {
    return seed_ * 1'000'003U + part * 10'007U + number * 101U;
  }

  template <class T>
  void fill(index_t head) {
    detail::rough_normals source(seed_of(1, static_cast<std::uint64_t>(head)));
    const auto dim = static_cast<std::size_t>(shape_.dim);
    std::vector<float> mean(dim), value_mean(dim);
    for (float& x : mean) x = source.next();
    for (float& x : value_mean) x = source.next() < 0.0F ? -0.3F : 0.3F;
    float* centre = centres_.data() + head * clusters * shape_.dim;
    for (index_t i = 0; i < clusters * shape_.dim; ++i) centre[i] = spread() * source.next();
    T* key = keys_.as<T>() + head * shape_.head_elements();
    T* value = values_.as<T>() + head * shape_.head_elements();
    for (index_t row = 0; row < shape_.rows; ++row) {
      const float* mine = centre + static_cast<index_t>(source.bits() >> 58U) * shape_.dim;
      for (std::size_t j = 0; j < dim; ++j) *key++ = T(mean[j] + mine[j] + source.next());
      for (std::size_t j = 0; j < dim; ++j) *value++ = T(value_mean[j] + source.next());
    }
  }

  /// Logits of a query against all keys of its head.
  void score(index_t query, Eigen::ArrayXf& logits) const {
    constexpr index_t block = 256;
    const vattn::kv_view kv = cache(query / shape_.group);
    const vattn::kernels::table& kernels = vattn::kernels::active();
    const void* rows[block];
    logits.resize(shape_.rows);
    for (index_t row = 0; row < shape_.rows; row += block) {
      const index_t count = std::min(block, shape_.rows - row);
      for (index_t i = 0; i < count; ++i) rows[i] = kv.key_row(static_cast<vattn::row_t>(row + i));
      kernels.dot_rows(shape_.type, rows, count, 0, shape_.dim, query_of(query), shape_.dim, 1,
                       logits.data() + row, 0);
    }
    logits *= 1.0F / std::sqrt(static_cast<float>(shape_.dim));
  }

  const float* query_of(index_t query) const noexcept {
    return queries_.data() + query * shape_.dim;
  }

  /// A fresh query of the step, in numbers that bf16 can hold, so that every contender gets the same.
  void aim(index_t query) {
    detail::rough_normals source(seed_of(2 + step_, static_cast<std::uint64_t>(query)));
    float* x = queries_.data() + query * shape_.dim;
    const index_t cluster =
        query / shape_.group * clusters + static_cast<index_t>(source.bits() >> 58U);
    const float* centre = centres_.data() + cluster * shape_.dim;
    for (index_t j = 0; j < shape_.dim; ++j) x[j] = centre[j] + source.next();
    Eigen::ArrayXf logits, scratch;
    score(query, logits);
    const vattn::kernels::table& kernels = vattn::kernels::active();
    const double factor =
        detail::factor_for(logits, captured_entropy_share(quantile(query)), scratch, kernels);
    for (index_t j = 0; j < shape_.dim; ++j)
      x[j] = static_cast<float>(Eigen::bfloat16(static_cast<float>(factor) * x[j]));
    shares_[static_cast<std::size_t>(query)] =
        std::exp(detail::entropy_of(logits, factor, scratch, kernels)) /
        static_cast<double>(shape_.rows);
  }

  /// Where a query stands among all of a step: each has an equal part of [0, 1), mixed over the heads, and
  /// all move on by the golden section a step.
  double quantile(index_t query) const noexcept {
    const index_t count = shape_.queries();
    index_t stride = static_cast<index_t>(0.618 * static_cast<double>(count)) | 1;
    while (std::gcd(stride, count) != 1) stride += 2;
    const double place = (static_cast<double>(query * stride % count) + 0.5 +
                          0.6180339887 * static_cast<double>(step_)) /
                         static_cast<double>(count);
    return place - std::floor(place);
  }

  decode_shape shape_;
  std::uint64_t seed_, step_ = 0;
  bool huge_pages_;
  page_store keys_, values_;
  std::vector<float> centres_, queries_;
  std::vector<double> shares_;
};

}  // namespace vattn_bench
