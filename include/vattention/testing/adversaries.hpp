// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention heads made to mislead a predictor or a variance estimate, reproducible from a seed.
#pragma once

#include <limits>

#include "vattention/testing/heads.hpp"

namespace vattn {

/// What is wrong with the head. Where one key is heavy it holds 10 % of the mass of every query head.
enum class adversary : std::uint8_t {
  /// The heavy key has norm 60, nearly all of it where no query sees it: its code is poor.
  long_key,
  /// The heavy key is like any other but for its logits.
  needle,
  /// 20 keys of norm 40, of which one is heavy.
  twenty_long_keys,
  /// The key next to the heavy one is its negative about the mean key: their mean is that of all.
  opposite_keys,
  /// Keys occur 50 times each, and so does the heavy one, which holds 10 % with all its copies.
  duplicated_keys,
  /// All keys are equal.
  equal_keys,
  /// Every tenth value, at random, is 100 times as long as the others.
  long_values,
};

inline constexpr adversary all_adversaries[] = {
    adversary::long_key,      adversary::needle,          adversary::twenty_long_keys,
    adversary::opposite_keys, adversary::duplicated_keys, adversary::equal_keys,
    adversary::long_values};

namespace detail {

/// How many keys differ from all before them.
inline index_t different_keys(adversary kind, index_t n) {
  return kind == adversary::equal_keys ? 1 : kind == adversary::duplicated_keys ? (n + 49) / 50 : n;
}

/// A vector of a given norm that no query sees.
inline Eigen::VectorXd unseen(double norm, const Eigen::MatrixXd& basis, head_source& source) {
  return norm * orthogonal_part(source.normals(basis.rows()), basis).normalized();
}

/// Keys less their part along the queries, `[d x n]`, and which row is heavy.
struct adverse_keys {
  Eigen::MatrixXd across;
  index_t heavy = 0;
};
inline adverse_keys keys_of(adversary kind, index_t n, const Eigen::MatrixXd& basis,
                            head_source& source) {
  adverse_keys keys{Eigen::MatrixXd(basis.rows(), n), source.below(different_keys(kind, n))};
  for (index_t i = 0; i < n; ++i)
    keys.across.col(i) = orthogonal_part(source.normals(basis.rows()), basis);
  if (kind == adversary::long_key) keys.across.col(keys.heavy) = unseen(60.0, basis, source);
  if (kind == adversary::twenty_long_keys) {
    for (int i = 0; i < 19; ++i) keys.across.col(source.below(n)) = unseen(40.0, basis, source);
    keys.across.col(keys.heavy) = unseen(40.0, basis, source);
  }
  return keys;
}

/// Logits N(0, .5^2); of the different keys the heavy one holds 10 % of the mass, where there is one.
inline Eigen::VectorXd adverse_logits(adversary kind, index_t n, index_t heavy,
                                      head_source& source) {
  Eigen::VectorXd l = source.normals(n, 0.5);
  const index_t different = different_keys(kind, n);
  if (kind == adversary::long_values || different == 1) return l;
  l[heavy] = -std::numeric_limits<double>::infinity();
  l[heavy] = std::log(l.head(different).array().exp().sum() / 9.0);
  return l;
}

/// Makes later rows copies of the different ones, or the heavy row's neighbour its opposite.
inline void repeat_keys(adversary kind, adverse_keys& keys, Eigen::MatrixXd& l) {
  const index_t n = l.rows();
  if (kind == adversary::opposite_keys && n > 1) {
    const index_t next = keys.heavy + 1 < n ? keys.heavy + 1 : keys.heavy - 1;
    keys.across.col(next) = -keys.across.col(keys.heavy);
    l.row(next) = -l.row(keys.heavy);
  }
  const index_t different = different_keys(kind, n);
  for (index_t i = different; i < n; ++i) {
    keys.across.col(i) = keys.across.col(i % different);
    l.row(i) = l.row(i % different);
  }
}

}  // namespace detail

/// A head of `n` keys and `g` queries that is hard in the way `kind` says.
///
/// Queries, the mean key, the noise across the queries and values are those of `make_head`; logits
/// are N(0, .5^2) but for the heavy row's. With duplicated keys the copies of a key are (n + 49) / 50
/// rows apart. Same arguments, same head, up to the platform's log and cos. Allocates.
/// @throws std::invalid_argument unless n, d_v >= 1 and 1 <= g < d.
inline synthetic_head make_adversary(adversary kind, index_t n, index_t d, index_t d_v, int g,
                                     std::uint64_t seed) {
  require(n >= 1 && d_v >= 1, "make_adversary", "n >= 1 and d_v >= 1", n, d_v);
  require(g >= 1 && g < d, "make_adversary", "1 <= g < d", g, d);
  constexpr double query_scale = 3.0;
  detail::head_source geometry(seed, 0), noise(seed, 1), scores(seed, 2), contents(seed, 3);
  const Eigen::MatrixXd basis = detail::directions(d, g, geometry);
  const Eigen::VectorXd mean_key = geometry.normals(d);
  detail::adverse_keys keys = detail::keys_of(kind, n, basis, noise);
  Eigen::MatrixXd l(n, g);
  for (int h = 0; h < g; ++h) l.col(h) = detail::adverse_logits(kind, n, keys.heavy, scores);
  detail::repeat_keys(kind, keys, l);

  synthetic_head head;
  head.queries =
      (query_scale * std::sqrt(static_cast<double>(d)) * basis.transpose()).cast<float>();
  head.keys = ((keys.across + basis * l.transpose() / query_scale).colwise() + mean_key)
                  .transpose()
                  .cast<float>();
  head.values.resize(n, d_v);
  const Eigen::VectorXd mean_value = contents.normals(d_v).array().sign() * 0.5;
  for (index_t i = 0; i < n; ++i) {
    const double size = kind == adversary::long_values && contents.below(10) == 0 ? 100.0 : 1.0;
    head.values.row(i) = (size * (mean_value + contents.normals(d_v))).transpose().cast<float>();
  }
  return head;
}

}  // namespace vattn
