// SPDX-License-Identifier: Apache-2.0
/// @file
/// Tables of random sign bits of centred keys, and their comparison with those of a query.
#pragma once

#include <algorithm>
#include <memory>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/lsh_planes.hpp"
#include "vattention/top_k/odd_rows.hpp"

namespace vattn::top_k {

/// Signatures of centred keys by `lsh_planes`, one row after the other in 64-bit words; bits [K t, K (t + 1)) are table
/// t's. The centre is a `frozen_centre`.
///
/// Memory: L K / 8 bytes a key, and the planes, which copies share. Shards of a cache, and heads whose errors are to be
/// independent, want seeds of their own.
class lsh_index {
public:
  lsh_index(int tables, int bits, index_t key_dim, std::uint64_t seed)
      : planes_(std::make_shared<const lsh_planes>(tables * bits, key_dim, seed)),
        centre_(key_dim),
        seed_(seed),
        bits_(bits) {}

  /// Takes in the rows [rows(), kv.rows()). O(L K d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("lsh_index::append", kv, dim(), rows_);
    type_.require_of("lsh_index::append", kv, rows_);
    const bool settled = rows_ >= frozen_centre::rows;
    const index_t first = settled ? rows_ : 0;
    frozen_centre centre(settled ? 0 : dim());
    if (!settled) centre.settle(kv);
    const frozen_centre& about = settled ? centre_ : centre;
    const auto dim_size = static_cast<std::size_t>(dim());
    std::vector<float> x(dim_size), room(dim_size);
    std::vector<std::uint64_t> fresh(static_cast<std::size_t>(words() * (kv.rows() - first)));
    odd_rows odd = settled ? odd_ : odd_rows();
    for (index_t row = first; row < kv.rows(); ++row) {
      about.load(kv, row, x.data());
      planes_->turn(x.data());
      odd.add(row, x);
      planes_->hash(x.data(), lsh_planes::pattern_of(row), room.data(),
                    fresh.data() + words() * (row - first));
    }
    reserve_ahead(signatures_, words() * kv.rows());
    // From here on nothing throws.
    signatures_.resize(static_cast<std::size_t>(words() * first));
    signatures_.insert(signatures_.end(), fresh.begin(), fresh.end());
    odd_ = std::move(odd);
    if (!settled) centre_ = std::move(centre);
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on, all where that leaves fewer than settle the centre.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows < frozen_centre::rows ? 0 : rows;
    odd_.forget(rows_);
    signatures_.resize(static_cast<std::size_t>(words() * rows_));
  }

  static constexpr const char* kind = "lsh";
  template <class File>
  void exchange(File& file) {
    file.same("tables", tables());
    file.same("bits a table", bits_);
    file.same("dimension", dim());
    file.same("seed", static_cast<std::int64_t>(seed_));
    file.number(rows_);
    type_.exchange(file);
    centre_.exchange(file);
    file.numbers(signatures_, words() * rows_);
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

  index_t dim() const noexcept { return planes_->dim(); }
  int tables() const noexcept { return planes_->bits() / bits_; }
  int bits() const noexcept { return bits_; }
  index_t words() const noexcept { return planes_->words(); }
  const lsh_planes& planes() const noexcept { return *planes_; }
  const std::uint64_t* signature(index_t row) const noexcept {
    return signatures_.data() + row * words();
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// The centred and turned key of a row, to `x` `[d]`: what is hashed, the row's pattern aside.
  template <cache_view View>
  void load(const View& kv, index_t row, float* x) const noexcept {
    centre_.load(kv, row, x);
    planes_->turn(x);
  }

  /// Signatures of a vector `x` `[d]` under every pattern, `[patterns x words]`; turns x; `room` is
  /// scratch `[8 d]`.
  void hash_query(float* x, float* room, std::uint64_t* signatures) const noexcept {
    planes_->turn(x);
    planes_->hash_all(x, room, signatures);
  }

  /// In how many of the tables [first, last) each of some rows agrees with the query of these signatures: marks as of
  /// `collision_counts`, to `out`.
  void count(const std::uint64_t* query, half_open rows, int first, int last,
             std::uint16_t* out) const noexcept {
    const int per = 64 / bits_;
    const int first_word = first / per;
    std::uint64_t counted[most_bits / 64];
    int used = 0;
    for (int word = first_word; word * per < last; ++word)
      counted[used++] =
          tables_of(std::max(0, first - word * per), std::min(per, last - word * per));
    for (index_t row = rows.first; row < rows.last; ++row) {
      const std::uint64_t* key = signature(row) + first_word;
      const int pattern = lsh_planes::pattern_of(row);
      const std::uint64_t* asked = query + pattern * words() + first_word;
      int agree = 0;
      for (int word = 0; word < used; ++word) {
        std::uint64_t apart = key[word] ^ asked[word];
        for (int step = 1; step < bits_; step *= 2) apart |= apart >> static_cast<unsigned>(step);
        agree += ones(~apart & counted[word]);
      }
      out[row - rows.first] = collision_counts::mark(agree, lsh_planes::half_of(pattern));
    }
  }

  /// Bits of the longest signature.
  static constexpr int most_bits = 64 * lsh_planes::most_words;
  static_assert(most_bits == collision_counts::most_tables);

private:
  /// Lowest bits of tables [first, last) of a word.
  std::uint64_t tables_of(int first, int last) const noexcept {
    const std::uint64_t lowest = ~std::uint64_t{0} / ((std::uint64_t{1} << bits_) - 1);
    const auto below = [&](int table) {
      return table * bits_ >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << (table * bits_)) - 1;
    };
    return lowest & below(last) & ~below(first);
  }
  /// Bits set, without an instruction that not every machine has.
  static int ones(std::uint64_t x) noexcept {
    x -= x >> 1U & 0x5555555555555555U;
    x = (x & 0x3333333333333333U) + (x >> 2U & 0x3333333333333333U);
    x = (x + (x >> 4U)) & 0x0F0F0F0F0F0F0F0FU;
    return static_cast<int>(x * 0x0101010101010101U >> 56U);
  }

  std::shared_ptr<const lsh_planes> planes_;
  frozen_centre centre_;
  std::vector<std::uint64_t> signatures_;
  odd_rows odd_;
  std::uint64_t seed_;
  index_t rows_ = 0;
  indexed_type type_;
  int bits_;
};

}  // namespace vattn::top_k
