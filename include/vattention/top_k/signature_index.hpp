// SPDX-License-Identifier: Apache-2.0
/// @file
/// Packed signs of projections of centred keys, and their comparison with those of a query.
#pragma once

#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/top_k/count_selection.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/odd_rows.hpp"

namespace vattn::top_k {

/// Bits of the longest signature.
inline constexpr int most_signature_bits = 256;

/// Signs of the products of each centred key with some directions, packed into 64-bit words; 32 signs are half a
/// word, so that two keys share one.
///
/// `Directions` is a value that offers bits(), dim(), `hash(x, turned, signature)` (signs of `x` `[d]`, which is kept,
/// to the words that are begun, with scratch `turned` `[d]`), exchange(file), and `appending`, what an append of its
/// index is called in an error.
///
/// Memory a key: 4 bytes for 32 bits, else 8 for every 64 bits begun.
template <class Directions>
class signature_index {
public:
  explicit signature_index(Directions by) : by_(std::move(by)), centre_(by_.dim()) {}

  /// Takes in the rows [rows(), kv.rows()): a hash a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or another dimension.
  template <cache_view View>
  void append(const View& kv) {
    require_growth(Directions::appending, kv, dim(), rows_);
    const bool settled = rows_ >= frozen_centre::rows;
    const index_t first = settled ? rows_ : 0;
    frozen_centre centre(settled ? 0 : dim());
    if (!settled) centre.settle(kv);
    const frozen_centre& about = settled ? centre_ : centre;
    std::vector<float> x(static_cast<std::size_t>(2 * dim()));
    odd_rows odd = settled ? odd_ : odd_rows();
    for (index_t row = first; row < kv.rows(); ++row) {
      about.load(kv, row, x.data());
      odd.add(row, std::span<const float>(x).first(static_cast<std::size_t>(dim())));
    }
    reserve_ahead(signatures_, bytes_of(kv.rows()) / 8);
    // From here on nothing throws.
    signatures_.resize(static_cast<std::size_t>(bytes_of(kv.rows()) / 8));
    if (!settled) centre_ = std::move(centre);
    odd_ = std::move(odd);
    for (index_t row = first; row < kv.rows(); ++row) {
      centre_.load(kv, row, x.data());
      store(row, x.data());
    }
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

  template <class File>
  void exchange(File& file) {
    by_.exchange(file);
    file.number(rows_);
    centre_.exchange(file);
    file.numbers(signatures_, bytes_of(rows_) / 8);
    odd_.exchange(file, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim() == kv.key_dim();
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  index_t dim() const noexcept { return by_.dim(); }
  const Directions& directions() const noexcept { return by_; }
  /// Words of a signature of its own; two keys share one word if `halves()`, the even row its low half.
  int words() const noexcept { return (by_.bits() + 63) / 64; }
  bool halves() const noexcept { return by_.bits() == 32; }
  const std::uint64_t* signatures() const noexcept { return signatures_.data(); }
  /// Bytes of the signatures of the first `rows` rows.
  index_t bytes_of(index_t rows) const noexcept { return bytes_of(by_.bits(), rows); }
  static index_t bytes_of(int bits, index_t rows) noexcept {
    return 8 * (bits == 32 ? (rows + 1) / 2 : rows * ((bits + 63) / 64));
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// Signs of the projections of `x` `[d]`, which is kept; `turned` is scratch `[d]`.
  void hash(const float* x, float* turned, std::uint64_t* signature) const noexcept {
    by_.hash(x, turned, signature);
  }

  /// 1 + the equal signs of `query` and of the rows [first, last), bits of a word that are not used counting as equal;
  /// the first row is even if `halves()`.
  void match(const kernels::table& kernels, half_open rows, const std::uint64_t* query,
             std::uint16_t* out) const noexcept {
    if (halves())
      return kernels.match_halves(signatures() + rows.first / 2, rows.size(),
                                  static_cast<std::uint32_t>(query[0]), out);
    kernels.match_signs(signatures() + rows.first * words(), rows.size(), words(), query, out);
  }
  /// The largest count of `match` for signatures of as many bits.
  static int most(int bits) noexcept { return bits == 32 ? 33 : 1 + 64 * ((bits + 63) / 64); }

  /// Counts the equal signs of every visible row for every head, shared by the workers of the call. The query is not
  /// centred; its opposite is hashed if logits fall with q.k. A bias counts only where it hides a row.
  template <cache_view View>
  void count(const attention_call<View>& call, predictions& seen, workspace& ws) const noexcept {
    constexpr int most_words = most_signature_bits / 64;
    std::uint64_t signature[most_words * workspace::most_heads];
    float* const x = ws.rotated.data();
    const float sign = call.scale < 0.0F ? -1.0F : 1.0F;
    for (int h = 0; h < call.heads(); ++h) {
      const float* query = call.queries.data + h * call.queries.stride;
      for (index_t j = 0; j < dim(); ++j) x[j] = sign * query[j];
      hash(x, x + dim(), signature + most_words * h);
    }
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      for (int h = 0; h < call.heads(); ++h) {
        std::uint16_t* const counts = seen.counts(h).data() + rows.first;
        match_chunk(call.kernels, rows, signature + most_words * h, counts);
        hide_counts(call, h, rows, counts);
        odd_.mark(rows.first, rows.last, counts);
      }
    });
  }

private:
  /// `match`; of a whole chunk as eight streams, a block of each in turn: one alone is read at half the speed of memory.
  void match_chunk(const kernels::table& kernels, half_open rows, const std::uint64_t* query,
                   std::uint16_t* out) const noexcept {
    constexpr index_t streams = 8, block = 128, stream = row_chunks::size / streams;
    if (rows.size() < row_chunks::size) return match(kernels, rows, query, out);
    for (index_t at = 0; at < stream; at += block)
      for (index_t first = at; first < row_chunks::size; first += stream)
        match(kernels, {rows.first + first, rows.first + first + block}, query, out + first);
  }

  /// `x` is the centred key, with as much scratch behind it.
  void store(index_t row, float* x) noexcept {
    if (!halves()) return hash(x, x + dim(), signatures_.data() + row * words());
    std::uint64_t signature;
    hash(x, x + dim(), &signature);
    std::uint64_t& word = signatures_[static_cast<std::size_t>(row / 2)];
    word = row % 2 == 0 ? signature : (word & 0xFFFFFFFFU) | signature << 32U;
  }

  Directions by_;
  frozen_centre centre_;
  std::vector<std::uint64_t> signatures_;
  odd_rows odd_;
  index_t rows_ = 0;
};

}  // namespace vattn::top_k
