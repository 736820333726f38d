// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from packed signs of projections that are fitted to sampled queries and keys.
#pragma once

#include <Eigen/Core>
#include <Eigen/SVD>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>
#include <vector>

#include "vattention/core/rotation.hpp"
#include "vattention/top_k/signature_index.hpp"

namespace vattn::top_k {

namespace detail {

inline void require_hash_bits(const char* where, int bits) {
  require(bits >= 32 && bits <= 256 && bits % 32 == 0, where, "32, 64, ... 256 bits", bits);
}
inline void require_hash_dim(const char* where, index_t dim) {
  require(dim >= 1 && dim <= rows_view::max_dim, where, "1 <= key dimension <= 4096", dim);
}
inline void require_finite(const char* where, const char* want, const float* x, index_t count) {
  const float* const odd = std::find_if(x, x + count, [](float c) { return !std::isfinite(c); });
  require(odd == x + count, where, want, odd == x + count ? 0.0F : *odd);
}

}  // namespace detail

/// The matrix of a hash: `bits` directions in `key_dim` coordinates. The bit of a vector is the sign of its product
/// with a direction. A value; memory 4 bits d bytes, once an index.
class hash_rotation {
public:
  static constexpr int most_bits = most_signature_bits;
  static constexpr const char* appending = "rotation_hash_index::append";

  /// A matrix of one's own, `[bits x key_dim]`, row-major, which is copied.
  /// @throws std::invalid_argument for bits that are not 32, 64, ... 256, a dimension outside [1, 4096], or a number
  /// that is not finite.
  hash_rotation(const float* rows, int bits, index_t key_dim) : hash_rotation(bits, key_dim) {
    detail::require_finite("hash_rotation", "a finite matrix", rows, bits * key_dim);
    for (int bit = 0; bit < bits; ++bit)
      for (index_t j = 0; j < key_dim; ++j)
        columns_[static_cast<std::size_t>(j * bits + bit)] = rows[bit * key_dim + j];
  }

  /// Random directions, orthonormal in groups of `key_dim` (the last group is smaller, if need be): those of
  /// `rotation`s, as `sign_hash` has them. The same for the same arguments. O(bits d log d); allocates.
  /// @throws std::invalid_argument as above.
  static hash_rotation random(int bits, index_t key_dim, std::uint64_t seed) {
    hash_rotation made(bits, key_dim);
    std::vector<float> turned(static_cast<std::size_t>(key_dim));
    for (index_t first = 0; first < bits; first += key_dim) {
      const rotation turn(key_dim, seed + static_cast<std::uint64_t>(first));
      for (index_t j = 0; j < key_dim; ++j) {
        std::fill(turned.begin(), turned.end(), 0.0F);
        turned[static_cast<std::size_t>(j)] = 1.0F;
        turn.apply(turned.data());
        for (index_t bit = first; bit < std::min<index_t>(bits, first + key_dim); ++bit)
          made.columns_[static_cast<std::size_t>(j * bits + bit)] =
              turned[static_cast<std::size_t>(bit - first)];
      }
    }
    return made;
  }

  int bits() const noexcept { return bits_; }
  index_t dim() const noexcept { return dim_; }
  float at(int bit, index_t j) const noexcept {
    return columns_[static_cast<std::size_t>(j * bits_ + bit)];
  }

  /// Packs the signs of the products with `x` `[d]` into 64-bit words, as many as are begun; 1 is positive. O(bits d).
  /// Products of floats are exact in double and summed in the order of coordinates, so every machine finds the same
  /// signs.
  void hash(const float* x, std::uint64_t* signature) const noexcept {
    double sums[most_bits] = {};
    const float* column = columns_.data();
    for (index_t j = 0; j < dim_; ++j, column += bits_) {
      const auto by = static_cast<double>(x[j]);
      for (int bit = 0; bit < bits_; ++bit) sums[bit] += by * static_cast<double>(column[bit]);
    }
    std::fill_n(signature, (bits_ + 63) / 64, 0);
    for (int bit = 0; bit < bits_; ++bit)
      signature[bit / 64] |= std::uint64_t{sums[bit] > 0.0} << (bit % 64);
  }

  /// The same; needs no scratch.
  void hash(const float* x, float* /*turned*/, std::uint64_t* signature) const noexcept {
    hash(x, signature);
  }

  template <class File>
  void exchange(File& file) {
    file.same("bits", bits_);
    file.same("dimension", dim_);
    file.numbers(columns_, bits_ * dim_);
  }

private:
  hash_rotation(int bits, index_t key_dim) : dim_(key_dim), bits_(bits) {
    detail::require_hash_bits("hash_rotation", bits);
    detail::require_hash_dim("hash_rotation", key_dim);
    columns_.resize(static_cast<std::size_t>(bits * key_dim));
  }

  /// `[d x bits]`: what one coordinate of a vector adds to all products lies side by side.
  std::vector<float> columns_;
  index_t dim_;
  int bits_;
};

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

/// Signs of the products of each centred key with the directions of a `hash_rotation`, see `signature_index`. The
/// matrix is fixed when the index is made and stored in its file.
class rotation_hash_index : public signature_index<hash_rotation> {
public:
  static constexpr const char* kind = "rotation_hash";
  /// @throws std::invalid_argument if the matrix is for another dimension.
  rotation_hash_index(hash_rotation by, index_t key_dim)
      : signature_index((require(by.dim() == key_dim, "rotation_hash_index",
                                 "a matrix of the keys' dimension (its dimension, the keys')",
                                 by.dim(), key_dim),
                         std::move(by))) {}

  const hash_rotation& matrix() const noexcept { return directions(); }
};

/// Ranks keys as `sign_hash` does, by the number of signs they share with the query, ties by
/// row number; the signs are those of fitted directions, see `fit_hash_rotation`. The count is no log-weight: of biases
/// it knows only those that hide a row. Reads 4 bytes a key for 32 bits, else 8 for every 64 bits begun.
/// Source: iterative quantisation, Gong and Lazebnik, CVPR 2011.
///
/// Where its certificates end: beside it a uniform sample made errors of up to 10 % at epsilon 5 % on captured heads.
class rotation_hash {
public:
  using role = vattn::role::top_k;
  using index_type = rotation_hash_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  /// 32 to 256 bits, a multiple of 32; k as rows, or as a share of the visible rows.
  /// @throws std::invalid_argument for another number of bits.
  rotation_hash(int bits, extent k) : bits_(bits), k_(k) {
    detail::require_hash_bits("rotation_hash", bits);
  }

  /// With random directions, which are not fitted to anything.
  rotation_hash_index make_index(index_t key_dim) const {
    return {hash_rotation::random(bits_, key_dim, 1), key_dim};
  }
  /// With fitted directions.
  /// @throws std::invalid_argument for another number of bits than the policy's.
  rotation_hash_index make_index(hash_rotation fitted) const {
    require(fitted.bits() == bits_, "rotation_hash::make_index",
            "a matrix of the policy's bits (its bits, the policy's)", fitted.bits(), bits_);
    const index_t dim = fitted.dim();
    return {std::move(fitted), dim};
  }

  template <cache_view View>
  void predict(const attention_call<View>& call, const rotation_hash_index& index,
               predictions& seen, workspace& ws) const noexcept {
    index.count(call, seen, ws);
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_most(call, rotation_hash_index::most(bits_), k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return rotation_hash_index::bytes_of(bits_, call.visible);
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  int bits_;
  extent k_;
};
static_assert(top_k_policy<rotation_hash>);

}  // namespace vattn::top_k
