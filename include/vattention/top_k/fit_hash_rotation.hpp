// SPDX-License-Identifier: Apache-2.0
/// @file
/// Directions of a hash that are fitted to sampled queries and keys.
#pragma once

#include <Eigen/Core>
#include <Eigen/QR>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "vattention/core/drawing.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/top_k/hash_rotation.hpp"

namespace vattn::top_k {

namespace detail {

/// Templates, so that a program that fits nothing does not compile the decompositions.
template <class Real>
using matrix_of = Eigen::Matrix<Real, Eigen::Dynamic, Eigen::Dynamic>;

/// `count` orthonormal columns of `dim` coordinates in random directions; count <= dim.
template <class Real>
matrix_of<Real> random_directions(index_t dim, index_t count, std::uint64_t seed, index_t group) {
  const random_stream stream({.seed = seed, .sequence = static_cast<std::uint64_t>(group)},
                             static_cast<std::uint32_t>(purpose::projection));
  matrix_of<Real> normals(dim, count);
  std::uint64_t next = 0;
  for (Real& x : normals.reshaped()) {
    const double u = (static_cast<double>(stream.u64(next++) >> 11U) + 1.0) * 0x1p-53;  // (0, 1]
    const double turn = static_cast<double>(stream.u64(next++) >> 11U) * 0x1p-53;
    x = std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * turn);
  }
  return normals.householderQr().householderQ() * matrix_of<Real>::Identity(dim, count);
}

/// Keys less their mean, then queries as they are, `[n x d]`: rows of norm 1, or 0 where a vector is 0.
template <class Real>
matrix_of<Real> sampled_directions(const float* queries, index_t query_count, const float* keys,
                                   index_t key_count, index_t dim) {
  using rows = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  matrix_of<Real> x(key_count + query_count, dim);
  x.topRows(key_count) = Eigen::Map<const rows>(keys, key_count, dim).template cast<Real>();
  x.bottomRows(query_count) =
      Eigen::Map<const rows>(queries, query_count, dim).template cast<Real>();
  const Eigen::Matrix<Real, 1, Eigen::Dynamic> mean = x.topRows(key_count).colwise().mean();
  x.topRows(key_count).rowwise() -= mean;
  for (index_t i = 0; i < x.rows(); ++i) x.row(i).normalize();
  return x;
}

/// The orthogonal matrix nearest to a square one.
template <class Real>
matrix_of<Real> polar_factor(const matrix_of<Real>& m) {
  const Eigen::BDCSVD<matrix_of<Real>> svd(m, Eigen::ComputeFullU | Eigen::ComputeFullV);
  return svd.matrixU() * svd.matrixV().transpose();
}

/// The leading `count` principal directions of rows about 0, as columns.
template <class Real>
matrix_of<Real> leading_directions(const matrix_of<Real>& x, index_t count) {
  const matrix_of<Real> moments = x.transpose() * x;
  return Eigen::BDCSVD<matrix_of<Real>>(moments, Eigen::ComputeFullU).matrixU().leftCols(count);
}

/// Turns `r` `[b x b]` so that the signs of x r, x `[n x b]`, come near x r itself. Ends early where no sign changes.
template <class Real>
matrix_of<Real> quantising_rotation(const matrix_of<Real>& x, matrix_of<Real> r, int iterations) {
  matrix_of<Real> signs, before;
  for (int i = 0; i < iterations; ++i) {
    signs = (x * r).unaryExpr([](Real c) { return c > 0.0 ? 1.0 : -1.0; });
    if (i > 0 && signs == before) break;
    r = polar_factor<Real>(x.transpose() * signs);
    before.swap(signs);
  }
  return r;
}

}  // namespace detail

/// Fits the directions of a hash to sampled queries and keys of one head by iterative quantisation (Gong and Lazebnik,
/// CVPR 2011): an orthogonal R from a random start, then in turn B = sign(X R) and R = the polar factor of X^T B, which
/// lowers ||B - X R||^2.
///
/// The rows of X are keys, less their mean as an index codes them, and queries as they are, each scaled to norm 1: a
/// sign does not see a length, so neither should the fit. Both are in it, for a score compares the signs of a query
/// with those of a key. Every vector counts alike, so sample about as many of either, and some times more than bits: a
/// fit to few fits those alone. Where fewer bits than d are left to fit, X is first projected on as many of its leading
/// principal directions; more bits are several fits of d bits, each from a start of its own.
///
/// Most of the gain is that projection. With channels of deviation 1 / (1 + j / 8) at d = 128, of the true 64 best of
/// 8,192 keys 64 signs find 27 %, with the start turned or not, random directions 19 %; 128 signs 36 and 33 %.
/// On channels of equal variance nothing is gained.
///
/// `queries` `[query_count x dim]` and `keys` `[key_count x dim]` are row-major. With no iterations the random start
/// itself comes out. The same for the same arguments and build. O(iterations n d bits) and about
/// 8 n (d + 4 min(bits, d)) bytes, n the number of vectors: seconds for 8,192 x 128; at the time of fitting only.
/// @throws std::invalid_argument for bits that are not 32, 64, ... 256, a dimension outside [1, 4096], no query, fewer
/// keys than min(bits, dim), a number that is not finite, or iterations below 0.
template <class Real = double>
hash_rotation fit_hash_rotation(const float* queries, index_t query_count, const float* keys,
                                index_t key_count, index_t dim, int bits, int iterations = 50,
                                std::uint64_t seed = 1) {
  constexpr const char* where = "fit_hash_rotation";
  detail::require_hash_bits(where, bits);
  detail::require_hash_dim(where, dim);
  require(query_count >= 1, where, "one query or more", query_count);
  require(key_count >= std::min<index_t>(bits, dim), where,
          "as many keys as bits or dimensions, whichever are fewer (keys, bits, dimensions)",
          key_count, bits, dim);
  require(iterations >= 0, where, "iterations >= 0", iterations);
  detail::require_finite(where, "finite queries", queries, query_count * dim);
  detail::require_finite(where, "finite keys", keys, key_count * dim);
  const auto x = detail::sampled_directions<Real>(queries, query_count, keys, key_count, dim);
  std::vector<float> rows(static_cast<std::size_t>(bits * dim));
  for (index_t first = 0; first < bits; first += dim) {
    const index_t count = std::min(dim, bits - first);
    auto directions = detail::random_directions<Real>(count, count, seed, first / dim);
    if (count == dim) {
      directions = detail::quantising_rotation<Real>(x, directions, iterations);
    } else {
      const auto leading = detail::leading_directions<Real>(x, count);
      directions = leading * detail::quantising_rotation<Real>(x * leading, directions, iterations);
    }
    for (index_t bit = 0; bit < count; ++bit)
      for (index_t j = 0; j < dim; ++j)
        rows[static_cast<std::size_t>((first + bit) * dim + j)] =
            static_cast<float>(directions(j, bit));
  }
  return {rows.data(), bits, dim};
}

}  // namespace vattn::top_k
