// SPDX-License-Identifier: Apache-2.0
/// @file
/// The sparse estimate of one query head from given (row, threshold) pairs, in plain double precision: one
/// obvious loop a quantity, textbook formulas. And the sparse pass of the library on the same pairs.
#pragma once

#include <array>

#include "support/random_cache.hpp"
#include "vattention/attention/finish.hpp"
#include "vattention/attention/weighted.hpp"
#include "vattention/testing/reference.hpp"

namespace vattn::test {

/// Rows read exactly, and rows drawn with their thresholds.
struct chosen_rows {
  std::vector<row_t> exact;
  std::vector<row_t> drawn;
  std::vector<threshold_t> thresholds;

  /// Those of [first, first + count), counted from `first`.
  chosen_rows in(index_t first, index_t count) const {
    const auto inside = [&](row_t row) {
      return static_cast<index_t>(row) >= first && static_cast<index_t>(row) < first + count;
    };
    chosen_rows part;
    for (const row_t row : exact)
      if (inside(row)) part.exact.push_back(row - static_cast<row_t>(first));
    for (std::size_t i = 0; i < drawn.size(); ++i)
      if (inside(drawn[i])) {
        part.drawn.push_back(drawn[i] - static_cast<row_t>(first));
        part.thresholds.push_back(thresholds[i]);
      }
    return part;
  }
};

/// What `partial_view` keeps, and logarithms, all relative to `max_logit`.
struct estimate {
  double max_logit = -std::numeric_limits<double>::infinity();
  double denominator = 0, denominator_variance = 0, numerator_variance = 0, uncertain = 0;
  Eigen::VectorXd numerator;
  Eigen::VectorXd a = Eigen::VectorXd::Zero(variance_groups), a_vv = a, s = a;
  Eigen::MatrixXd a_v, s_v;  // [32 x d_v]

  Eigen::VectorXd output() const { return numerator / denominator; }
  /// sum (1 - p) / p^2 w^2 |v - o|^2 of a group, or of all.
  double output_variance(int group, const Eigen::VectorXd& o) const {
    return a_vv[group] - 2.0 * a_v.row(group).dot(o) + o.squaredNorm() * a[group];
  }
};

/// For `design::fixed_size` the variances are n^2 (1/b - 1/n) S^2 with S^2 from two passes.
template <class View>
estimate estimate_of(const query_group& queries, const View& kv, int head,
                     const chosen_rows& chosen, design scheme, index_t residual) {
  const Eigen::VectorXd l = logits(queries, kv, head);
  const float* sinks = queries.logits.sink_logits;
  estimate e;
  e.numerator.setZero(kv.value_dim());
  e.a_v.setZero(variance_groups, kv.value_dim());
  e.s_v = e.a_v;
  if (sinks != nullptr) e.max_logit = static_cast<double>(sinks[head]);
  for (const row_t row : chosen.exact) e.max_logit = std::max(e.max_logit, l[row]);
  for (const row_t row : chosen.drawn) e.max_logit = std::max(e.max_logit, l[row]);
  if (sinks != nullptr) e.denominator += std::exp(static_cast<double>(sinks[head]) - e.max_logit);
  const auto value = [&](row_t row) {
    return vattn::detail::widen(kv.value_row(row), kv.value_type(), kv.value_dim());
  };
  for (const row_t row : chosen.exact) {
    const double w = std::exp(l[row] - e.max_logit);
    e.denominator += w;
    e.numerator += w * value(row);
  }
  const auto b = static_cast<double>(chosen.drawn.size());
  double mean = 0;
  Eigen::VectorXd mean_v = Eigen::VectorXd::Zero(kv.value_dim());
  for (std::size_t i = 0; i < chosen.drawn.size(); ++i) {
    const row_t row = chosen.drawn[i];
    const double p = (static_cast<double>(chosen.thresholds[i]) + 1.0) / 4294967296.0;
    const double w = std::exp(l[row] - e.max_logit);
    const Eigen::VectorXd v = value(row);
    const int group = variance_group(kv.first_row() + row);
    e.denominator += w / p;
    e.numerator += w / p * v;
    e.a[group] += w * w * (1 - p) / (p * p);
    e.a_vv[group] += w * w * (1 - p) / (p * p) * v.squaredNorm();
    e.a_v.row(group) += w * w * (1 - p) / (p * p) * v.transpose();
    e.s[group] += w * std::sqrt(1 - p) / p;
    e.s_v.row(group) += w * std::sqrt(1 - p) / p * v.transpose();
    e.uncertain += p < 1.0 && l[row] > -std::numeric_limits<double>::infinity() ? 1.0 : 0.0;
    mean += w / b;
    mean_v += w / b * v;
  }
  if (scheme == design::independent) {
    e.denominator_variance = e.a.sum();
    e.numerator_variance = e.a_vv.sum();
    return e;
  }
  const auto n = static_cast<double>(residual);
  for (const row_t row : chosen.drawn) {
    const double w = std::exp(l[row] - e.max_logit);
    e.denominator_variance += (w - mean) * (w - mean) / (b - 1) * n * n * (1 / b - 1 / n);
    e.numerator_variance +=
        (w * value(row) - mean_v).squaredNorm() / (b - 1) * n * n * (1 / b - 1 / n);
  }
  return e;
}

/// Runs the library's sparse pass on rows chosen by hand; the partial results are then in `ws`, with the
/// counts that the functor would enter.
inline void run_pass(const query_group& queries, const kv_view& kv, const chosen_rows& chosen,
                     design scheme, index_t residual, workspace& ws) {
  ws.reserve(queries.heads, kv.rows(), kv.key_dim(), kv.value_dim(), false);
  for (const row_t row : chosen.exact) ws.exact.add(row);
  ws.exact.list();
  ws.drawn.begin_growth();
  for (std::size_t i = 0; i < chosen.drawn.size(); ++i)
    ws.drawn.append(chosen.drawn[i], chosen.thresholds[i]);
  const attention_call<kv_view> call(queries, kv, {});
  weighted_attention<kv_view> pass(call, ws);
  pass.read_fresh();
  pass.estimate(scheme, residual);
  for (int h = 0; h < queries.heads; ++h) {
    const partial_view state = ws.head(h);
    state.rows_total() = static_cast<double>(kv.rows());
    state.rows_exact() = static_cast<double>(chosen.exact.size());
    state.rows_sampled() = static_cast<double>(chosen.drawn.size());
    state.bytes_touched() = 100.0 * static_cast<double>(chosen.drawn.size());
    state.looks() = 1.0;
  }
}

/// Rows [0, n): about one of `every` exact, about `share` of the others drawn, the thresholds random (or
/// all that of b / n for draws of fixed size).
inline chosen_rows choose_rows(index_t n, index_t every, double share, design scheme,
                               std::uint64_t seed) {
  const random_stream stream({.seed = seed}, 0x63686F6FU);
  chosen_rows chosen;
  for (index_t row = 0; row < n; ++row) {
    const auto at = static_cast<std::uint64_t>(row);
    if (every > 0 && stream.below(2 * at, static_cast<std::uint64_t>(every)) == 0) {
      chosen.exact.push_back(static_cast<row_t>(row));
    } else if (static_cast<double>(stream.u32(4 * at + 2)) < share * 0x1p32) {
      chosen.drawn.push_back(static_cast<row_t>(row));
      // from .05 to 1; every 16th row certain
      const threshold_t some = 0x0CCCCCCCU + stream.u32(4 * at + 3) / 16 * 15;
      chosen.thresholds.push_back(row % 16 == 0 ? certain : some);
    }
  }
  if (scheme == design::fixed_size) {
    const auto b = static_cast<double>(chosen.drawn.size());
    const auto rest = static_cast<double>(n - static_cast<index_t>(chosen.exact.size()));
    for (threshold_t& t : chosen.thresholds) t = threshold_of(b / rest);
  }
  return chosen;
}

}  // namespace vattn::test
