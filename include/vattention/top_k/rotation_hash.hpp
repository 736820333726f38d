// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from packed signs of projections that are fitted to sampled queries and keys.
#pragma once

#include <utility>

#include "vattention/core/concepts.hpp"
#include "vattention/top_k/hash_rotation.hpp"
#include "vattention/top_k/signature_index.hpp"

namespace vattn::top_k {

static_assert(hash_rotation::most_bits <= 64 * hash_signatures::most_words);

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
    select_most(call, hash_signatures::most(bits_), k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return hash_signatures::bytes_of(bits_, call.visible);
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  int bits_;
  extent k_;
};
static_assert(top_k_policy<rotation_hash>);

}  // namespace vattn::top_k
