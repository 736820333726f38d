// SPDX-License-Identifier: Apache-2.0
/// @file
/// Matrices of hashes as matrices of numbers, and vectors to fit them to.
#pragma once

#include <Eigen/Core>

#include <algorithm>

#include "vattention/testing/heads.hpp"
#include "vattention/top_k/hash_rotation.hpp"

namespace vattn::test {

/// Normal vectors whose channel j has deviation 1 / (1 + j / 8).
inline synthetic_head::matrix uneven(index_t rows, index_t dim, std::uint64_t seed) {
  vattn::detail::head_source source(seed, 11);
  synthetic_head::matrix m(rows, dim);
  for (index_t i = 0; i < rows; ++i)
    for (index_t j = 0; j < dim; ++j)
      m(i, j) = static_cast<float>(source.normal() / (1.0 + static_cast<double>(j) / 8.0));
  return m;
}

/// The directions, `[bits x d]`.
inline Eigen::MatrixXd rows_of(const top_k::hash_rotation& by) {
  return Eigen::MatrixXd::NullaryExpr(by.bits(), by.dim(), [&](index_t bit, index_t j) {
    return static_cast<double>(by.at(static_cast<int>(bit), j));
  });
}

/// The same numbers.
inline bool same(const top_k::hash_rotation& a, const top_k::hash_rotation& b) {
  return a.bits() == b.bits() && a.dim() == b.dim() && rows_of(a) == rows_of(b);
}

/// Largest difference from 0 and 1 of the products of directions of one group.
inline double orthonormal_to(const top_k::hash_rotation& by) {
  const Eigen::MatrixXd rows = rows_of(by);
  double off = 0.0;
  for (index_t first = 0; first < by.bits(); first += by.dim()) {
    const index_t count = std::min<index_t>(by.dim(), by.bits() - first);
    const Eigen::MatrixXd group = rows.middleRows(first, count);
    off = std::max(off, (group * group.transpose() - Eigen::MatrixXd::Identity(count, count))
                            .cwiseAbs()
                            .maxCoeff());
  }
  return off;
}

}  // namespace vattn::test
