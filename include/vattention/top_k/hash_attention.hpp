// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from packed signs of what learned networks make of queries and keys.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/count_selection.hpp"
#include "vattention/top_k/hash_signatures.hpp"
#include "vattention/top_k/hash_weights.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/odd_rows.hpp"

namespace vattn::top_k {

/// A signature of each key by every network of keys that its `hash_weights` have, see `hash_signatures`. Keys are
/// hashed as the cache holds them, hence behind the rotary embedding, and not centred: a bias of the first layer does
/// that. A copy shares the weights.
///
/// Memory a key: for every network of keys 4 bytes for 32 bits, else 8 for every 64 bits begun; beside the weights.
class hash_attention_index {
public:
  explicit hash_attention_index(hash_weights weights)
      : weights_(std::move(weights)),
        signatures_(static_cast<std::size_t>(weights_.key_hashes()),
                    hash_signatures(weights_.bits())) {}

  /// Takes in the rows [rows(), kv.rows()): an evaluation of every network of keys for each of them; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("hash_attention_index::append", kv, dim(), rows_);
    type_.require_of("hash_attention_index::append", kv, rows_);
    const index_t together = std::min(block, kv.rows() - rows_);
    std::vector<float> keys(static_cast<std::size_t>(std::max<index_t>(together, 1) * dim()));
    std::vector<float> scratch(hash_mlp::most_scratch);
    odd_rows odd = odd_;
    for (index_t row = rows_; row < kv.rows(); ++row) {
      load(kv, row, keys.data());
      odd.add(row, std::span<const float>(keys).first(static_cast<std::size_t>(dim())));
    }
    for (hash_signatures& of_hash : signatures_) of_hash.reserve(kv.rows());
    // From here on nothing throws.
    for (hash_signatures& of_hash : signatures_) of_hash.grow(kv.rows());
    odd_ = std::move(odd);
    type_.took(kv);
    while (rows_ < kv.rows()) {
      const index_t last = std::min(kv.rows(), rows_ + together);
      for (index_t row = rows_; row < last; ++row)
        load(kv, row, keys.data() + (row - rows_) * dim());
      for (int hash = 0; hash < weights_.key_hashes(); ++hash)
        for (index_t row = rows_; row < last; ++row) {
          std::uint64_t signature[hash_signatures::most_words];
          weights_.keys(hash).hash(kernels::active(), keys.data() + (row - rows_) * dim(),
                                   scratch.data(), signature);
          signatures_[static_cast<std::size_t>(hash)].set(row, signature);
        }
      rows_ = last;
    }
  }

  /// Forgets the rows from `rows` on.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows;
    odd_.forget(rows_);
    for (hash_signatures& of_hash : signatures_) of_hash.forget(rows_);
  }

  static constexpr const char* kind = "hash_attention";
  /// The weights stay out of the file, which holds their checksum: it is read into an index of the same weights.
  template <class File>
  void exchange(File& file) {
    file.same("bits", bits());
    file.same("dimension", dim());
    file.same("query heads", heads());
    file.same("weights of checksum", static_cast<std::int64_t>(weights_.checksum()));
    file.number(rows_);
    type_.exchange(file);
    for (hash_signatures& of_hash : signatures_) of_hash.exchange(file, rows_);
    odd_.exchange(file, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim() == kv.key_dim() && type_.admits(kv, rows_);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  const hash_weights& weights() const noexcept { return weights_; }
  index_t dim() const noexcept { return weights_.dim(); }
  int bits() const noexcept { return weights_.bits(); }
  /// Query heads that queries are hashed for.
  int heads() const noexcept { return weights_.heads(); }
  /// A call has as many queries of each of them, see `knows_heads`.
  bool serves(int queries) const noexcept { return queries % heads() == 0; }
  /// Whose hash query `query` of a call of `queries` goes by: queries come query head by query head.
  int head_of(int query, int queries) const noexcept {
    return static_cast<int>(index_t{query} * heads() / queries);
  }
  /// By number of the network of keys.
  const hash_signatures& signatures(int key_hash) const noexcept {
    return signatures_[static_cast<std::size_t>(key_hash)];
  }
  /// Bytes of all signatures of the first `rows` rows.
  index_t bytes_of(index_t rows) const noexcept {
    return weights_.key_hashes() * hash_signatures::bytes_of(bits(), rows);
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// Counts the equal signs of every visible row for every query, shared by the workers of the call. The opposite of
  /// a query is hashed if logits fall with q.k. A bias counts only where it hides a row. An evaluation of a network a
  /// query.
  template <cache_view View>
  void count(const attention_call<View>& call, predictions& seen, workspace& ws) const noexcept {
    constexpr int most_words = hash_signatures::most_words;
    std::uint64_t signature[most_words * workspace::most_heads];
    hash_queries(call, signature, ws.rotated.data());
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      for (int q = 0; q < call.heads(); ++q) {
        std::uint16_t* const counts = seen.counts(q).data() + rows.first;
        signatures(weights_.key_hash_of(head_of(q, call.heads())))
            .count(call.kernels, rows, signature + most_words * q, counts);
        hide_counts(call, q, rows, counts);
        odd_.mark(rows.first, rows.last, counts);
      }
    });
  }

private:
  /// Keys that one network after the other hashes, so that its matrices stay near.
  static constexpr index_t block = 32;

  template <cache_view View>
  void load(const View& kv, index_t row, float* key) const noexcept {
    kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim(), key);
  }

  /// `x` is scratch `[d]`.
  template <cache_view View>
  void hash_queries(const attention_call<View>& call, std::uint64_t* signature,
                    float* x) const noexcept {
    float scratch[hash_mlp::most_scratch];
    for (int q = 0; q < call.heads(); ++q, signature += hash_signatures::most_words) {
      call.rising_query(q, x);
      weights_.queries(head_of(q, call.heads())).hash(call.kernels, x, scratch, signature);
    }
  }

  hash_weights weights_;
  std::vector<hash_signatures> signatures_;
  odd_rows odd_;
  index_t rows_ = 0;
  indexed_type type_;
};
static_assert(knows_heads<hash_attention_index>);

/// Ranks keys by the signs that their signatures share with the query's, ties by row number. The signatures are those
/// of networks trained so that a query shares most signs with its best keys, see `hash_weights`;
/// examples/hash_attention trains them and describes files of them. A count of signs is no log-weight: of biases it
/// knows only those that hide a row. Reads, for each signature of a key, 4 bytes a key for 32 bits, else 8 for every
/// 64 bits begun.
/// Source: HashAttention, arXiv 2412.14468, where every query head has a network of keys of its own. A network of keys
/// that the query heads of a group share finds nearly as much (52 of 54 %, below) with one signature of a key for all.
///
/// An index of trained weights is made by `make_index(weights)`. `make_index(d)`, which a functor's `make_index`
/// calls, has random directions instead: signs of keys that are not centred, which find about as much as those of
/// `sign_hash`.
///
/// As good as its weights are for the text at hand. On captured heads, at positions of the text that was trained on
/// but that were held out, 64 bits found 52 % of the best 2 % of the rows, where `sign_hash` found 24 and 2-bit key
/// codes, of twice the memory, 64; on another text 43 to 45 %, and of one KV head of three fewer than `sign_hash`, 23
/// of 31 %.
///
/// Where its certificates end: beside it uniform sampling's hold on average only. At epsilon and delta 5 %, 1 to 3 %
/// of the outputs were off by more than epsilon, of single query heads up to 20 %, by up to 102 %.
class hash_attention {
public:
  using role = vattn::role::top_k;
  using index_type = hash_attention_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  /// 32 to 256 bits, a multiple of 32; k as rows, or as a share of the visible rows; `key_hashes` signatures of each
  /// key: 1 where one network of keys serves the group, as many as query heads where each has its own.
  /// @throws std::invalid_argument for another number of bits, or not 1 to 64 signatures.
  hash_attention(int bits, extent k, int key_hashes = 1)
      : bits_(bits), key_hashes_(key_hashes), k_(k) {
    detail::require_hash_bits("hash_attention", bits);
    require(key_hashes >= 1 && key_hashes <= workspace::most_heads, "hash_attention",
            "1 to 64 signatures of a key", key_hashes);
  }

  /// With random directions, one hash for all query heads, or one for each of as many query heads as there are
  /// signatures; see `hash_weights::random`.
  hash_attention_index make_index(index_t key_dim) const {
    return hash_attention_index(hash_weights::random(bits_, key_dim, key_hashes_));
  }
  /// With weights of one's own.
  /// @throws std::invalid_argument for other bits, or another number of networks of keys, than the policy's.
  hash_attention_index make_index(hash_weights weights) const {
    require(weights.bits() == bits_, "hash_attention::make_index",
            "weights of the policy's bits (their bits, the policy's)", weights.bits(), bits_);
    require(weights.key_hashes() == key_hashes_, "hash_attention::make_index",
            "weights of the policy's signatures of a key (their networks of keys, the policy's)",
            weights.key_hashes(), key_hashes_);
    return hash_attention_index(std::move(weights));
  }

  template <cache_view View>
  void predict(const attention_call<View>& call, const hash_attention_index& index,
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
    return key_hashes_ * hash_signatures::bytes_of(bits_, call.visible);
  }
  basis coverage() const noexcept { return basis::measured_on_average; }

private:
  int bits_, key_hashes_;
  extent k_;
};
static_assert(top_k_policy<hash_attention>);

}  // namespace vattn::top_k
