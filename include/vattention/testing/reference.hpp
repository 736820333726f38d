// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention in plain double precision, by the formula: what every result is judged by.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/query_group.hpp"
#include "vattention/kernels/convert.hpp"

namespace vattn {

/// Exact attention of g queries. Everything in double, natural log units.
struct exact_attention {
  /// `[g x d_v]`; 0 where every row is masked.
  Eigen::MatrixXd output;
  /// log of (sum exp(l) + exp(sink)), -inf if there is nothing to sum.
  Eigen::VectorXd log_sum_exp;
  /// sum exp(l - max_logit) + exp(sink - max_logit), 0 if there is nothing to sum.
  Eigen::VectorXd denominator;
  /// Largest of the logits and the sink logit.
  Eigen::VectorXd max_logit;
  /// exp(H) / n with H the entropy of the weights (sink left out) and n the visible rows: the share
  /// of rows the weight is spread over, 1 for equal weights, 1 / n for a single key, 0 if all are
  /// masked.
  Eigen::VectorXd entropy_share;
};

namespace detail {

/// Row of `dim` elements as doubles (exact).
inline Eigen::VectorXd widen(const void* row, element type, index_t dim) {
  Eigen::VectorXf x(dim);
  kernels::load_row(type, row, dim, x.data());
  return x.cast<double>();
}

/// The value of a row as doubles (exact).
template <cache_view View>
Eigen::VectorXd widen_value(const View& kv, row_t row) {
  Eigen::VectorXf x(kv.value_dim());
  kernels::load_value(kv, row, x.data());
  return x.cast<double>();
}

}  // namespace detail

/// Logits of one query head, `[rows visible to it]`: scale, soft-cap, bias, as `logit_options` says.
///
/// A row whose bias is -inf is not looked at: its logit is -inf whatever the key holds. Row numbers
/// (bias, visible rows) are those of this view. O(n d) time, allocates.
/// @throws std::invalid_argument if head, query length or visible rows do not fit.
template <cache_view View>
Eigen::VectorXd logits(const query_group& queries, const View& kv, int head) {
  const logit_options& options = queries.logits;
  require(head >= 0 && head < queries.heads, "logits", "a head of the group", head);
  require(queries.dim == kv.key_dim(), "logits", "queries as long as the keys", queries.dim,
          kv.key_dim());
  const index_t n = options.visible_of != nullptr ? options.visible_of[head]
                    : options.visible_rows < 0    ? kv.rows()
                                                  : options.visible_rows;
  require(n >= 0 && n <= kv.rows(), "logits", "visible rows within the cache", n);
  const Eigen::VectorXd query =
      detail::widen(queries.data + head * queries.stride, element::f32, queries.dim);
  const double scale = options.scale != 0.0F ? static_cast<double>(options.scale)
                                             : 1.0 / std::sqrt(static_cast<double>(queries.dim));
  const double cap = static_cast<double>(options.softcap);
  Eigen::VectorXd out(n);
  for (index_t i = 0; i < n; ++i) {
    const double bias = options.bias == nullptr
                            ? 0.0
                            : static_cast<double>(options.bias[head * options.bias_stride + i]);
    out[i] = bias;
    if (bias == -std::numeric_limits<double>::infinity()) continue;
    const void* key = kv.key_row(static_cast<row_t>(i));
    double s = scale * detail::widen(key, kv.key_type(), kv.key_dim()).dot(query);
    if (cap > 0.0) s = cap * std::tanh(s / cap);
    out[i] += s;
  }
  return out;
}

/// Exact attention of one query head, as a group of one.
template <cache_view View>
exact_attention reference_of_head(const query_group& queries, const View& kv, int head) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const Eigen::VectorXd l = logits(queries, kv, head);
  const float* sinks = queries.logits.sink_logits;
  const double sink = sinks == nullptr ? -infinity : static_cast<double>(sinks[head]);
  double top = sink;
  for (const double x : l) top = std::isnan(x) || x > top ? x : top;  // a NaN stays
  double rows = 0.0;          // sum of w = exp(l - top) over the rows
  double weighted_log = 0.0;  // sum of w (l - top)
  Eigen::VectorXd numerator = Eigen::VectorXd::Zero(kv.value_dim());
  for (index_t i = 0; i < l.size(); ++i) {
    if (l[i] == -infinity) continue;
    const double w = std::exp(l[i] - top);
    rows += w;
    if (w != 0.0) weighted_log += w * (l[i] - top);
    numerator += w * detail::widen_value(kv, static_cast<row_t>(i));
  }
  const double total = rows + (sink == -infinity ? 0.0 : std::exp(sink - top));
  const bool nothing = top == -infinity;
  if (!nothing) numerator /= total;
  const auto one = [](double x) -> Eigen::VectorXd { return Eigen::VectorXd::Constant(1, x); };
  // H = log(rows) - sum w (l - top) / rows
  const double spread = std::exp(std::log(rows) - weighted_log / rows);
  return {numerator.transpose(), one(nothing ? -infinity : top + std::log(total)), one(total),
          one(top), one(rows == 0.0 ? 0.0 : spread / static_cast<double>(l.size()))};
}

/// Exact attention of every query of the group, all logit options included.
///
/// Error of the output below about (n + d) 1e-16 of the weighted values' absolute sum. A NaN logit,
/// or +inf, gives a NaN output; masked rows are not looked at. O(n g (d + d_v)) time, O(n) memory.
/// @throws std::invalid_argument if the query length or the visible rows do not fit.
template <cache_view View>
exact_attention reference(const query_group& queries, const View& kv) {
  const index_t g = queries.heads;
  exact_attention all{Eigen::MatrixXd(g, kv.value_dim()), Eigen::VectorXd(g), Eigen::VectorXd(g),
                      Eigen::VectorXd(g), Eigen::VectorXd(g)};
  for (int h = 0; h < queries.heads; ++h) {
    const exact_attention one = reference_of_head(queries, kv, h);
    all.output.row(h) = one.output.row(0);
    all.log_sum_exp[h] = one.log_sum_exp[0];
    all.denominator[h] = one.denominator[0];
    all.max_logit[h] = one.max_logit[0];
    all.entropy_share[h] = one.entropy_share[0];
  }
  return all;
}

/// Softmax weights of one query head, `[rows visible to it]`; they sum to 1 less the learned sink's
/// share, or to 0 if every row is masked. Cost and errors as `logits`.
template <cache_view View>
Eigen::VectorXd softmax_weights(const query_group& queries, const View& kv, int head) {
  const double lse = reference_of_head(queries, kv, head).log_sum_exp[0];
  Eigen::VectorXd l = logits(queries, kv, head);
  for (double& x : l) x = lse == -std::numeric_limits<double>::infinity() ? 0.0 : std::exp(x - lse);
  return l;
}

/// ||approximate - exact|| / ||exact|| of two vectors (or matrices, Frobenius) of any scalar type.
/// For an exact zero: 0 if the approximation is zero as well, else +inf. NaN if either holds one.
template <class A, class B>
double relative_error(const Eigen::DenseBase<A>& approximate, const Eigen::DenseBase<B>& exact) {
  const auto e = exact.derived().template cast<double>().reshaped().eval();
  const auto a = approximate.derived().template cast<double>().reshaped().eval();
  require(a.size() == e.size(), "relative_error", "as many numbers as the exact result", a.size(),
          e.size());
  const double error = (a - e).matrix().norm();
  return error == 0.0 ? 0.0 : error / e.matrix().norm();
}

}  // namespace vattn
