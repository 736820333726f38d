// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bound on the output's relative error: one vector sum, its effective rank, and a guard.
#pragma once

#include <cmath>

#include "vattention/certify/error_scale.hpp"
#include "vattention/stats/rank_quantile.hpp"

namespace vattn {

namespace detail {

/// x.y in double, in eight chains.
template <class T, class U>
double dot(const T* x, const U* y, index_t count) noexcept {
  double chain[8] = {};
  index_t j = 0;
  for (; j + 8 <= count; j += 8)
    for (index_t c = 0; c < 8; ++c)
      chain[c] += static_cast<double>(x[j + c]) * static_cast<double>(y[j + c]);
  for (; j < count; ++j) chain[0] += static_cast<double>(x[j]) * static_cast<double>(y[j]);
  return ((chain[0] + chain[4]) + (chain[1] + chain[5])) +
         ((chain[2] + chain[6]) + (chain[3] + chain[7]));
}

}  // namespace detail

/// Estimated variance of ||N^ - D^ o|| and its spread over the 32 groups, at the estimate's own output.
struct output_variance {
  double total = 0.0;
  /// 1 + 1.5 sqrt((32/31) sum (V_g - V/32)^2 / V^2).
  double inflation = 1.0;
};

/// Evaluates the groups' quadratics at o^. A floor of 2^-18 sum a |v|^2 stands in for what float sums of
/// nearly equal values cannot resolve.
inline output_variance variance_at_output(const partial_view& state) noexcept {
  const double inverse = 1.0 / state.denominator();
  const double norm = detail::dot(state.numerator(), state.numerator(), state.value_dim());
  double of_group[variance_groups];
  output_variance v;
  for (int group = 0; group < variance_groups; ++group) {
    const double along = detail::dot(state.numerator(), state.a_v(group), state.value_dim());
    const double square =
        state.a_vv(group) - 2.0 * along * inverse + norm * inverse * inverse * state.a(group);
    of_group[group] = std::max(square, 0x1p-18 * state.a_vv(group));
    v.total += of_group[group];
  }
  double spread = 0.0;
  for (const double x : of_group) {
    const double off = x - v.total / variance_groups;
    spread += off * off;
  }
  constexpr double groups = variance_groups;
  if (v.total > 0.0)
    v.inflation = 1.0 + 1.5 * std::sqrt(groups / (groups - 1.0) * spread) / v.total;
  return v;
}

namespace detail {

/// Subtracts the mean row from 32 rows `[32 x d_v]`.
inline void centre_rows(float* x, index_t value_dim) noexcept {
  constexpr index_t slice = 64;
  for (index_t j = 0; j < value_dim; j += slice) {
    const index_t count = std::min(slice, value_dim - j);
    float mean[slice] = {};
    for (int g = 0; g < variance_groups; ++g)
      for (index_t i = 0; i < count; ++i) mean[i] += x[g * value_dim + j + i];
    for (index_t i = 0; i < count; ++i) mean[i] *= 1.0F / variance_groups;
    for (int g = 0; g < variance_groups; ++g)
      for (index_t i = 0; i < count; ++i) x[g * value_dim + j + i] -= mean[i];
  }
}

/// Trace and squared Frobenius norm of a Gram matrix.
struct gram_sums {
  double trace = 0.0, squares = 0.0;
};

/// Of 32 rows `[32 x d_v]`; `gram` is scratch `[8 x 32]`. By symmetry 5/8 of the products are formed.
inline gram_sums sum_gram(const float* x, index_t value_dim, float* gram) noexcept {
  constexpr int block = 8;
  const void* rows[variance_groups];
  for (int g = 0; g < variance_groups; ++g) rows[g] = x + g * value_dim;
  gram_sums sums;
  for (int first = 0; first < variance_groups; first += block) {
    const int count = variance_groups - first;
    kernels::active().dot_rows(element::f32, rows + first, count, 0, value_dim,
                               x + first * value_dim, value_dim, block, gram, variance_groups);
    for (int i = 0; i < block; ++i) {
      const float* row = gram + i * variance_groups;
      sums.trace += static_cast<double>(row[i]);
      sums.squares += 2.0 * dot(row, row, count) - dot(row, row, block);
    }
  }
  return sums;
}

}  // namespace detail

/// Effective rank of the error's covariance, from the Gram matrix of the 32 centred group sums of
/// s (v - o^): (tr)^2 over the unbiased ||.||_F^2, within [1, d_v]. About 20 x 32 d_v multiplications.
inline double effective_rank(const partial_view& state, workspace& ws) noexcept {
  const index_t value_dim = state.value_dim();
  double scale = 0.0;
  for (int g = 0; g < variance_groups; ++g) scale += state.a_vv(g);
  scale = scale > 0.0 ? 1.0 / std::sqrt(scale) : 0.0;
  float* x = ws.gram.data();
  float* numerator = x + variance_groups * value_dim;
  float* gram = numerator + value_dim;
  for (index_t j = 0; j < value_dim; ++j)
    numerator[j] = static_cast<float>(state.numerator()[j] / state.denominator());
  for (int g = 0; g < variance_groups; ++g) {
    const float* s_v = state.s_v(g);
    const auto s = static_cast<float>(scale * state.s(g));
    float* centred = x + g * value_dim;
    for (index_t j = 0; j < value_dim; ++j)
      centred[j] = static_cast<float>(scale) * s_v[j] - s * numerator[j];
  }
  detail::centre_rows(x, value_dim);
  const detail::gram_sums sums = detail::sum_gram(x, value_dim, gram);
  constexpr double free = variance_groups - 1;
  const double t1 = sums.trace / free;
  const double t2 = sums.squares / (free * free);
  const double a2 = free * free / ((free - 1.0) * (free + 2.0)) * (t2 - t1 * t1 / free);
  const auto most = static_cast<double>(value_dim);
  return a2 > 0.0 ? std::min(most, std::max(1.0, t1 * t1 / a2)) : most;
}

/// The output certificate: with V the estimated variance of ||N^ - D^ o|| and r the effective rank, ||o^ - o||
/// is at most sqrt(Q(max(1, .8 r)) inflation V) / D^, since o^ - o = (1 / D^) sum (I/p - 1) w (v - o) exactly.
/// Stated in units of `Scale`, see `in_units`, and never below the sample's resolution. Two-sided in the sense
/// of a norm. Rests on the chi-square form of ||sum||^2 and on V^; a heavy row that is neither predicted nor
/// drawn is unknown to both. The constants .8 and 1.5 are measured (README), not proved.
template <error_scale Scale = error_scale::output>
judgement bound_output(const partial_view& state, double delta, workspace& ws) noexcept {
  judgement judged;
  const output_variance v = variance_at_output(state);
  const double rank = std::max(1.0, 0.8 * effective_rank(state, ws));
  judged.factor = rank_quantile(rank, delta) * v.inflation;
  judged.inflation = v.inflation;
  judged.enough = state.uncertain() >= fewest_uncertain_rows;
  judged.least = state.resolution() * numerator_norm(state) / state.denominator();
  const double error = std::sqrt(judged.factor * v.total) / state.denominator();
  judged.epsilon = in_units<Scale>(state, error < judged.least ? judged.least : error);
  if (std::isfinite(judged.epsilon)) judged.bound = bound_kind::rank_quantile;
  return judged;
}

}  // namespace vattn
