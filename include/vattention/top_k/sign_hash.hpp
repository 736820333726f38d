// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from packed signs of random projections.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/core/rotation.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/odd_rows.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn::top_k {

/// Signs of `bits` random projections of each centred key, packed into 64-bit words; 32 signs are half a
/// word, so that two keys share one.
class sign_hash_index {
public:
  sign_hash_index(int bits, index_t key_dim)
      : centre_(key_dim), dim_(key_dim), words_((bits + 63) / 64), bits_(bits) {
    for (index_t done = 0; done < bits; done += key_dim)
      turns_.emplace_back(key_dim, 1 + static_cast<std::uint64_t>(done));
  }

  /// Takes in the rows [rows(), kv.rows()). O(bits log d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or another dimension.
  template <cache_view View>
  void append(const View& kv) {
    require(kv.key_dim() == dim_, "sign_hash_index::append", "keys of the index's dimension",
            kv.key_dim());
    require(kv.rows() >= rows_, "sign_hash_index::append",
            "a view that has only grown (rows, indexed)", kv.rows(), rows_);
    std::vector<float> x(static_cast<std::size_t>(2 * dim_));
    odd_rows odd = rows_ < frozen_centre::rows ? odd_rows() : odd_;
    signatures_.resize(static_cast<std::size_t>(bytes_of(kv.rows()) / 8));
    if (rows_ < frozen_centre::rows) centre_.settle(kv);
    for (index_t row = rows_ < frozen_centre::rows ? 0 : rows_; row < kv.rows(); ++row) {
      centre_.load(kv, row, x.data());
      store(row, x.data());
      odd.add(row, std::span<const float>(x).first(static_cast<std::size_t>(dim_)));
    }
    odd_ = std::move(odd);
    rows_ = kv.rows();
  }

  /// Forgets the rows from `rows` on, all where that leaves fewer than settle the centre.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows < frozen_centre::rows ? 0 : rows;
    odd_.forget(rows_);
    signatures_.resize(static_cast<std::size_t>(bytes_of(rows_) / 8));
    if (halves() && rows_ % 2 != 0) signatures_.back() &= 0xFFFFFFFFU;
  }

  static constexpr const char* kind = "sign_hash";
  template <class File>
  void exchange(File& file) {
    file.same("bits", bits_);
    file.same("dimension", dim_);
    file.number(rows_);
    centre_.exchange(file);
    file.numbers(signatures_, bytes_of(rows_) / 8);
    odd_.exchange(file, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim_ == kv.key_dim();
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  index_t dim() const noexcept { return dim_; }
  /// Words of a signature of its own; two keys share one word if `halves()`, the even row its low half.
  int words() const noexcept { return words_; }
  bool halves() const noexcept { return bits_ == 32; }
  const std::uint64_t* signatures() const noexcept { return signatures_.data(); }
  /// Bytes of the signatures of the first `rows` rows.
  index_t bytes_of(index_t rows) const noexcept { return bytes_of(bits_, rows); }
  static index_t bytes_of(int bits, index_t rows) noexcept {
    return 8 * (bits == 32 ? (rows + 1) / 2 : rows * ((bits + 63) / 64));
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// Signs of the projections of `x` `[d]`, which is kept; `turned` is scratch `[d]`.
  void hash(const float* x, float* turned, std::uint64_t* signature) const noexcept {
    std::fill_n(signature, words_, 0);
    int bit = 0;
    for (const rotation& turn : turns_) {
      std::copy_n(x, dim_, turned);
      turn.apply(turned);
      for (index_t j = 0; j < dim_ && bit < bits_; ++j, ++bit)
        if (turned[j] > 0.0F) signature[bit / 64] |= std::uint64_t{1} << (bit % 64);
    }
  }

private:
  /// `x` is the centred key, with as much scratch behind it.
  void store(index_t row, float* x) noexcept {
    if (!halves()) return hash(x, x + dim_, signatures_.data() + row * words_);
    std::uint64_t signature;
    hash(x, x + dim_, &signature);
    std::uint64_t& word = signatures_[static_cast<std::size_t>(row / 2)];
    word = row % 2 == 0 ? signature : (word & 0xFFFFFFFFU) | signature << 32U;
  }

  std::vector<rotation> turns_;
  frozen_centre centre_;
  std::vector<std::uint64_t> signatures_;
  odd_rows odd_;
  index_t dim_, rows_ = 0;
  int words_, bits_;
};

/// Scores a key by the number of signs it shares with the query less those it does not, ties by row
/// number (Charikar, STOC 2002; the query is not centred, which keeps the ranking unbiased). The
/// score is no log-weight. Reads 4 bytes a key for 32 bits, else 8 for every 64 bits begun.
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
    for (int h = 0; h < call.heads(); ++h) {
      std::uint64_t signature[4];
      const float* query = call.queries.data + h * call.queries.stride;
      if (call.scale < 0.0F) {  // logits fall with q.k
        float* opposite = ws.rotated.data() + index.dim();
        for (index_t j = 0; j < index.dim(); ++j) opposite[j] = -query[j];
        query = opposite;
      }
      index.hash(query, ws.rotated.data(), signature);
      float* scores = seen.scores(h).data();
      ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open part) {
        match(call.kernels, index, part, signature, scores + part.first);
      });
      if (call.queries.logits.bias != nullptr || call.visible_to(h) < call.visible)
        mask(call, h, scores);
      index.odd().mark(0, call.visible, scores);
    }
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_top(call, k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return sign_hash_index::bytes_of(bits_, call.visible);
  }
  basis coverage() const noexcept { return basis::measured_on_average; }

private:
  static void match(const kernels::table& kernels, const sign_hash_index& index, half_open rows,
                    const std::uint64_t* query, float* out) noexcept {
    if (index.halves())
      return kernels.match_halves(index.signatures() + rows.first / 2, rows.size(),
                                  static_cast<std::uint32_t>(query[0]), out);
    kernels.match_signs(index.signatures() + rows.first * index.words(), rows.size(), index.words(),
                        query, out);
  }

  /// Rows that a head does not see score -inf; other biases cannot be weighed against signs.
  template <cache_view View>
  static void mask(const attention_call<View>& call, int h, float* scores) noexcept {
    for (index_t row = 0; row < call.visible; ++row)
      if (call.hides(h, row)) scores[row] = call.hidden;
  }

  int bits_;
  extent k_;
};
static_assert(top_k_policy<sign_hash>);

}  // namespace vattn::top_k
