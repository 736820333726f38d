// SPDX-License-Identifier: Apache-2.0
/// @file
/// Measures the constants of a cost model on this machine. Nothing in the library calls it; include it by name.
#pragma once

#include <array>
#include <chrono>
#include <cstring>
#include <vector>

#include "vattention/attention/dense.hpp"
#include "vattention/cost/fit.hpp"
#include "vattention/cost/forecast.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/presets.hpp"

namespace vattn {

/// For which calls prices are wanted, and how much effort they are worth.
struct calibration {
  index_t key_dim = 128, value_dim = 128;
  /// Query heads that share a KV head.
  int group = 4;
  element type = element::bf16;
  /// Memory for keys and values [bytes], of 32,768 rows at least: more than the processor's caches hold, for a
  /// decoder finds its rows in memory. Raise it where the last level is larger.
  index_t bytes = index_t{64} << 20;
  /// Rounds; each price rests on medians of them.
  int repeats = 5;
};

namespace detail {

/// Cheap numbers of mean 0 and variance 1: sums of four uniform ones (xorshift64*).
class rough_normals {
public:
  explicit rough_normals(std::uint64_t seed) noexcept : state_(seed) {}
  float next() noexcept {
    state_ ^= state_ >> 12U;
    state_ ^= state_ << 25U;
    state_ ^= state_ >> 27U;
    const std::uint64_t x = state_ * 0x2545F4914F6CDD1DULL;
    const auto sum = static_cast<std::int32_t>((x & 0xFFFFU) + ((x >> 16U) & 0xFFFFU) +
                                               ((x >> 32U) & 0xFFFFU) + (x >> 48U));
    return static_cast<float>(sum - 131070) * (1.7320508F / 65536.0F);
  }

private:
  std::uint64_t state_;
};

/// Rows of made-up numbers about a mean, in the element type asked for.
inline std::vector<std::byte> made_up_rows(index_t rows, index_t dim, element type, float mean,
                                           rough_normals& source) {
  const index_t size = row_bytes(type, dim);
  std::vector<std::byte> all(static_cast<std::size_t>(rows * size));
  std::vector<float> row(static_cast<std::size_t>(dim));
  for (index_t i = 0; i < rows; ++i) {
    std::byte* out = all.data() + i * size;
    for (float& x : row) x = mean + source.next();
    switch (type) {
      case element::f32: std::memcpy(out, row.data(), static_cast<std::size_t>(size)); break;
      case element::bf16:
        for (const float x : row) {
          const Eigen::bfloat16 narrow(x);
          std::memcpy(out, &narrow, sizeof narrow);
          out += sizeof narrow;
        }
        break;
      case element::f16:
        for (const float x : row) {
          const Eigen::half narrow(x);
          std::memcpy(out, &narrow, sizeof narrow);
          out += sizeof narrow;
        }
        break;
      case element::q8_0: kernels::quantise_q8_0(row.data(), dim, out); break;
    }
  }
  return all;
}

/// Heads of a length, one behind the other in memory, with their indices.
struct calibration_heads {
  std::vector<kv_view> views;
  std::vector<top_k::cascade_index> indices;
};

/// Counts and times of one kind of call, a sum over heads and a number a round.
struct calibration_series {
  std::vector<double> times;
  /// Means over calls.
  call_prospect call;
  sample_outcome sample;
  double calls = 0.0;
  bool dense = false, usable = true;

  double median() {
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::nth_element(times.begin(), middle, times.end());
    return *middle;
  }
};

/// The measurements behind `calibrate`, for one kind of cache.
class calibration_run {
public:
  explicit calibration_run(const calibration& of)
      : of_(of), source_(0x9E3779B97F4A7C15U), index_model_(2, 4) {
    const index_t row = row_bytes(of.type, of.key_dim) + row_bytes(of.type, of.value_dim);
    const index_t half = std::max(of.bytes / row / 2, longest);
    keys_ = made_up_rows(2 * half, of.key_dim, of.type, 0.0F, source_);
    values_ = made_up_rows(2 * half, of.value_dim, of.type, 0.5F, source_);
    const kv_view all{
        {keys_.data(), of.type, 2 * half, of.key_dim, row_bytes(of.type, of.key_dim)},
        {values_.data(), of.type, 2 * half, of.value_dim, row_bytes(of.type, of.value_dim)}};
    divide(all.shard(0, half), lengths[0], heads_[0]);
    divide(all.shard(half, half), lengths[1], heads_[1]);
    // Logits of deviation 2, as concentrated as a middling head.
    queries_.resize(static_cast<std::size_t>(of.group * of.key_dim));
    for (float& x : queries_) x = 2.0F * source_.next();
  }

  /// Appends what each kind of call did and its median time.
  void measure(std::vector<measured_call>& out) {
    std::vector<calibration_series> all(kinds);
    for (int round = -1; round < of_.repeats; ++round)  // the first one does not count
      for (std::size_t kind = 0; kind < kinds; ++kind) run(kind, round, all[kind]);
    for (calibration_series& series : all)
      if (series.usable)
        out.push_back(
            {series.dense ? dense_work(series.call) : sparse_work(series.call, series.sample),
             series.median()});
  }

private:
  static constexpr index_t longest = 16384;
  static constexpr std::array<index_t, 2> lengths{1024, longest};
  static constexpr std::array<double, 3> epsilons{0.5, 0.1, 0.03};
  /// Of each length, for one query and for the group: dense, and sparse at each epsilon.
  static constexpr std::size_t of_a_group = 1 + epsilons.size();
  static constexpr std::size_t kinds = 2 * lengths.size() * of_a_group;

  void divide(const kv_view& all, index_t length, calibration_heads& out) const {
    for (index_t at = 0; at + length <= all.rows(); at += length) {
      out.views.push_back(all.shard(at, length));
      out.indices.push_back(index_model_.make_index(of_.key_dim));
      out.indices.back().append(out.views.back());
    }
  }

  void run(std::size_t kind, int round, calibration_series& series) {
    const calibration_heads& heads = heads_[kind % lengths.size()];
    const std::size_t rest = kind / lengths.size();
    const int group = rest % 2 == 0 ? 1 : of_.group;
    const std::size_t which = rest / 2;
    const query_group queries(queries_.data(), group, of_.key_dim);
    const double calls = static_cast<double>(heads.views.size());
    series.dense = which == 0;
    series.call = prospect_of(heads, group);
    const auto start = std::chrono::steady_clock::now();
    if (series.dense)
      for (const kv_view& kv : heads.views) static_cast<void>(dense(queries, kv, ws_));
    else
      attend(heads, queries, epsilons[which - 1], round, series);
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    if (round >= 0) series.times.push_back(took.count() / calls);
  }

  void attend(const calibration_heads& heads, const query_group& queries, double asked, int round,
              calibration_series& series) {
    const auto functor = presets::standard(epsilon{asked}, delta{0.1});
    sample_outcome sum;
    sum.looks = 0.0;
    for (std::size_t h = 0; h < heads.views.size(); ++h) {
      const draw_key key{.head = static_cast<std::uint32_t>(h),
                         .step = static_cast<std::uint64_t>(round + 1)};
      const certificate c =
          functor(queries, heads.views[h], heads.indices[h], key, ws_).certificates[0];
      series.usable = series.usable && c.status != status::exact;
      const auto drawn = static_cast<double>(c.rows_sampled);
      sum.rows += drawn;
      sum.records += static_cast<double>(ws_.draws.refined);
      sum.looks += c.looks;
      // Earlier looks had less: about half as much at the first one, nearly all from the second on.
      sum.summed += drawn * (c.looks == 1 ? 1.0 : 0.75 * c.looks);
    }
    if (round >= 0) add(sum, static_cast<double>(heads.views.size()), series);
  }

  /// Takes a round into the mean of all of them.
  static void add(const sample_outcome& sum, double calls, calibration_series& series) noexcept {
    const auto mean = [&](double& so_far, double more) {
      so_far = (so_far * series.calls + more) / (series.calls + calls);
    };
    mean(series.sample.rows, sum.rows);
    mean(series.sample.records, sum.records);
    mean(series.sample.looks, sum.looks);
    mean(series.sample.summed, sum.summed);
    series.calls += calls;
  }

  call_prospect prospect_of(const calibration_heads& heads, int group) const noexcept {
    const kv_view& kv = heads.views[0];
    const query_group queries(queries_.data(), group, of_.key_dim);
    return {.heads = group,
            .rows = kv.rows(),
            .key_dim = of_.key_dim,
            .value_dim = of_.value_dim,
            .row_bytes = key_bytes(kv) + value_bytes(kv),
            .scanned_bytes = index_model_.bytes_proposed(attention_call(queries, kv, {}), 0),
            .levels = 2,
            .exact = 32 + 64};  // sinks and window of the preset
  }

  calibration of_;
  rough_normals source_;
  top_k::cascade index_model_;
  std::vector<std::byte> keys_, values_;
  std::array<calibration_heads, 2> heads_;
  std::vector<float> queries_;
  workspace ws_;
};

}  // namespace detail

/// Measures dense and sparse calls of every kind of cache named, for one query and for its group, 1,024 and
/// 16,384 keys, and returns the prices that explain their times best. About a second and `bytes` of memory for
/// each; prices that these calls cannot tell apart keep the proportions of the defaults.
///
/// Take the prices once and pass them on, `cost::model(calibrate())`: they differ a little from call to call,
/// and with them a decision that is a close one. They are those of one thread on an otherwise idle machine; where
/// all threads share the memory's bandwidth call it on all of them at once and take one of the profiles.
/// @throws std::invalid_argument for dimensions, group, bytes or repeats below 1, more than 64 heads, or rows of
/// q8_0 that are not of whole blocks.
inline cost_profile calibrate(std::span<const calibration> all) {
  require(!all.empty(), "calibrate", "a kind of cache", all.size());
  for (const calibration& of : all) {
    require(of.key_dim >= 1 && of.value_dim >= 1, "calibrate", "dimensions >= 1", of.key_dim,
            of.value_dim);
    require(of.key_dim % block_values(of.type) == 0 && of.value_dim % block_values(of.type) == 0,
            "calibrate", "rows of whole blocks (keys, values)", of.key_dim, of.value_dim);
    require(of.group >= 1 && of.group <= workspace::most_heads, "calibrate", "1 to 64 query heads",
            of.group);
    require(of.bytes >= 1, "calibrate", "bytes >= 1", of.bytes);
    require(of.repeats >= 1, "calibrate", "repeats >= 1", of.repeats);
  }
  std::vector<measured_call> measured;
  for (const calibration& of : all) detail::calibration_run(of).measure(measured);
  return fit_prices(measured);
}
inline cost_profile calibrate(const calibration& of = {}) {
  return calibrate(std::span<const calibration>(&of, 1));
}

}  // namespace vattn
