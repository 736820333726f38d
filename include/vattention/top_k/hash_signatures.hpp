// SPDX-License-Identifier: Apache-2.0
/// @file
/// Signatures of keys, packed row after row, and their comparison with that of a query.
#pragma once

#include <cstdint>
#include <vector>

#include "vattention/core/row_chunks.hpp"
#include "vattention/kernels/kernels.hpp"
#include "vattention/top_k/index_growth.hpp"

namespace vattn::top_k {

/// Signatures of 32, 64, ... 256 bits in 64-bit words, as many a row as are begun; 32 bits are half a word, so that two
/// rows share one, the even row its low half. Bits of a word that are not used are 0.
///
/// Memory a row: 4 bytes for 32 bits, else 8 for every 64 bits begun.
class hash_signatures {
public:
  /// Words of the longest signature.
  static constexpr int most_words = 4;

  explicit hash_signatures(int bits) noexcept : bits_(bits) {}

  int bits() const noexcept { return bits_; }
  /// Words of a signature on its own.
  int words() const noexcept { return (bits_ + 63) / 64; }
  bool halves() const noexcept { return bits_ == 32; }
  const std::uint64_t* data() const noexcept { return words_.data(); }
  /// Bytes of the signatures of `rows` rows.
  static index_t bytes_of(int bits, index_t rows) noexcept {
    return 8 * (bits == 32 ? (rows + 1) / 2 : rows * ((bits + 63) / 64));
  }
  /// The largest count of `count` for signatures of as many bits.
  static int most(int bits) noexcept { return bits == 32 ? 33 : 1 + 64 * ((bits + 63) / 64); }

  /// Allocates room for `rows` rows, and ahead.
  void reserve(index_t rows) { reserve_ahead(words_, bytes_of(bits_, rows) / 8); }
  /// Takes room that was reserved; new rows are to be set.
  void grow(index_t rows) noexcept {
    words_.resize(static_cast<std::size_t>(bytes_of(bits_, rows) / 8));
  }
  /// Forgets the rows from `rows` on.
  void forget(index_t rows) noexcept {
    grow(rows);
    if (halves() && rows % 2 != 0) words_.back() &= 0xFFFFFFFFU;
  }
  /// Sets row `row`, of which `signature` holds the words that are begun. Halves are set in the order of their rows.
  void set(index_t row, const std::uint64_t* signature) noexcept {
    if (!halves()) {
      std::uint64_t* const to = words_.data() + row * words();
      for (int i = 0; i < words(); ++i) to[i] = signature[i];
      return;
    }
    std::uint64_t& word = words_[static_cast<std::size_t>(row / 2)];
    const std::uint64_t half = signature[0] & 0xFFFFFFFFU;
    word = row % 2 == 0 ? half : (word & 0xFFFFFFFFU) | half << 32U;
  }
  template <class File>
  void exchange(File& file, index_t rows) {
    file.numbers(words_, bytes_of(bits_, rows) / 8);
  }

  /// 1 + the equal bits of `query` and of each of the rows, bits of a word that are not used counting as equal;
  /// `rows` is a chunk of `row_chunks`, so that its first row is even. A whole chunk is read as eight streams, a
  /// block of each in turn.
  void count(const kernels::table& kernels, half_open rows, const std::uint64_t* query,
             std::uint16_t* out) const noexcept {
    constexpr index_t streams = 8, block = 128, stream = row_chunks::size / streams;
    if (rows.size() < row_chunks::size) return count_some(kernels, rows, query, out);
    for (index_t at = 0; at < stream; at += block)
      for (index_t first = at; first < row_chunks::size; first += stream)
        count_some(kernels, {rows.first + first, rows.first + first + block}, query, out + first);
  }

private:
  void count_some(const kernels::table& kernels, half_open rows, const std::uint64_t* query,
                  std::uint16_t* out) const noexcept {
    if (halves())
      return kernels.match_halves(data() + rows.first / 2, rows.size(),
                                  static_cast<std::uint32_t>(query[0]), out);
    kernels.match_signs(data() + rows.first * words(), rows.size(), words(), query, out);
  }

  std::vector<std::uint64_t> words_;
  int bits_;
};

}  // namespace vattn::top_k
