// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from packed signs of random projections.
#pragma once

#include "vattention/core/rotation.hpp"
#include "vattention/top_k/signature_index.hpp"

namespace vattn::top_k {

/// The directions of seeded rotations, as many coordinates of one after the other as there are bits.
class random_directions {
public:
  static constexpr const char* appending = "sign_hash_index::append";

  random_directions(int bits, index_t key_dim) : dim_(key_dim), bits_(bits) {
    for (index_t done = 0; done < bits; done += key_dim)
      turns_.emplace_back(key_dim, 1 + static_cast<std::uint64_t>(done));
  }

  int bits() const noexcept { return bits_; }
  index_t dim() const noexcept { return dim_; }

  /// O(bits log d).
  void hash(const float* x, float* turned, std::uint64_t* signature) const noexcept {
    std::fill_n(signature, (bits_ + 63) / 64, 0);
    int bit = 0;
    for (const rotation& turn : turns_) {
      std::copy_n(x, dim_, turned);
      turn.apply(turned);
      for (index_t j = 0; j < dim_ && bit < bits_; ++j, ++bit)
        if (turned[j] > 0.0F) signature[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
  }

  template <class File>
  void exchange(File& file) {
    file.same("bits", bits_);
    file.same("dimension", dim_);
  }

private:
  std::vector<rotation> turns_;
  index_t dim_;
  int bits_;
};

/// Signs of `bits` random projections of each centred key, see `signature_index`.
class sign_hash_index : public signature_index<random_directions> {
public:
  static constexpr const char* kind = "sign_hash";
  sign_hash_index(int bits, index_t key_dim) : signature_index({bits, key_dim}) {}
};

/// Ranks keys by the number of signs they share with the query, ties by row
/// number (Charikar, STOC 2002; the query is not centred, which keeps the ranking unbiased). The
/// count is no log-weight. Reads 4 bytes a key for 32 bits, else 8 for every 64 bits begun.
///
/// A weak predictor: on captured heads 64 bits leave 13 to 50 % of the mass to the sample where 4-bit codes leave .7 to
/// 29. With it uniform sampling's certificates hold on average only: errors of up to 97 % at epsilon 5 % were seen.
class sign_hash {
public:
  using role = vattn::role::top_k;
  using index_type = sign_hash_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  /// 32 to 256 bits, a multiple of 32; k as rows, or as a share of the visible rows.
  /// @throws std::invalid_argument for another number of bits.
  sign_hash(int bits, extent k) : bits_(bits), k_(k) {
    require(bits >= 32 && bits <= 256 && bits % 32 == 0, "sign_hash", "32, 64, ... 256 bits", bits);
  }

  sign_hash_index make_index(index_t key_dim) const { return {bits_, key_dim}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const sign_hash_index& index, predictions& seen,
               workspace& ws) const noexcept {
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
  basis coverage() const noexcept { return basis::measured_on_average; }

private:
  int bits_;
  extent k_;
};
static_assert(top_k_policy<sign_hash>);

}  // namespace vattn::top_k
