// SPDX-License-Identifier: Apache-2.0
/// @file
/// An index of the signs of projections of centred keys.
#pragma once

#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/top_k/count_selection.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/hash_signatures.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/odd_rows.hpp"

namespace vattn::top_k {

/// Signs of the products of each centred key with some directions, packed, see `hash_signatures`.
///
/// `Directions` is a value that offers bits(), dim(), `hash(x, turned, signature)` (signs of `x` `[d]`, which is kept,
/// to the words that are begun, with scratch `turned` `[d]`), exchange(file), and `appending`, what an append of its
/// index is called in an error.
///
/// Memory a key: 4 bytes for 32 bits, else 8 for every 64 bits begun.
template <class Directions>
class signature_index {
public:
  explicit signature_index(Directions by)
      : by_(std::move(by)), centre_(by_.dim()), signatures_(by_.bits()) {}

  /// Takes in the rows [rows(), kv.rows()): a hash a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth(Directions::appending, kv, dim(), rows_);
    type_.require_of(Directions::appending, kv, rows_);
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
    signatures_.reserve(kv.rows());
    // From here on nothing throws.
    signatures_.grow(kv.rows());
    if (!settled) centre_ = std::move(centre);
    odd_ = std::move(odd);
    for (index_t row = first; row < kv.rows(); ++row) {
      centre_.load(kv, row, x.data());
      std::uint64_t signature[hash_signatures::most_words];
      hash(x.data(), x.data() + dim(), signature);
      signatures_.set(row, signature);
    }
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on, all where that leaves fewer than settle the centre.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows < frozen_centre::rows ? 0 : rows;
    odd_.forget(rows_);
    signatures_.forget(rows_);
  }

  template <class File>
  void exchange(File& file) {
    by_.exchange(file);
    file.number(rows_);
    type_.exchange(file);
    centre_.exchange(file);
    signatures_.exchange(file, rows_);
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

  index_t dim() const noexcept { return by_.dim(); }
  const Directions& directions() const noexcept { return by_; }
  const hash_signatures& signatures() const noexcept { return signatures_; }
  /// Bytes of the signatures of the first `rows` rows.
  index_t bytes_of(index_t rows) const noexcept {
    return hash_signatures::bytes_of(by_.bits(), rows);
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// Signs of the projections of `x` `[d]`, which is kept; `turned` is scratch `[d]`.
  void hash(const float* x, float* turned, std::uint64_t* signature) const noexcept {
    by_.hash(x, turned, signature);
  }

  /// Counts the equal signs of every visible row for every head, shared by the workers of the call. The query is not
  /// centred; its opposite is hashed if logits fall with q.k. A bias counts only where it hides a row.
  template <cache_view View>
  void count(const attention_call<View>& call, predictions& seen, workspace& ws) const noexcept {
    constexpr int most_words = hash_signatures::most_words;
    std::uint64_t signature[most_words * workspace::most_heads];
    float* const x = ws.rotated.data();
    for (int h = 0; h < call.heads(); ++h) {
      call.rising_query(h, x);
      hash(x, x + dim(), signature + most_words * h);
    }
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      for (int h = 0; h < call.heads(); ++h) {
        std::uint16_t* const counts = seen.counts(h).data() + rows.first;
        signatures_.count(call.kernels, rows, signature + most_words * h, counts);
        hide_counts(call, h, rows, counts);
        odd_.mark(rows.first, rows.last, counts);
      }
    });
  }

private:
  Directions by_;
  frozen_centre centre_;
  hash_signatures signatures_;
  odd_rows odd_;
  index_t rows_ = 0;
  indexed_type type_;
};

}  // namespace vattn::top_k
