// SPDX-License-Identifier: Apache-2.0
/// @file
/// Codes of rotated keys kept key by key, for reading a few of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "vattention/kernels/prefetch.hpp"
#include "vattention/top_k/coded_key.hpp"

namespace vattn::top_k {

/// Codes as in `key_code_index`, but one record a key: d bits / 8 bytes of codes, factor and error norm
/// (fp16), so that a listed key costs one or two cache lines instead of a line a word. `gather` brings
/// records into the layout of `kernels::table::scan_codes`. Codes of one plane (1, 2, 4, 8 bits).
class code_records {
public:
  /// `dim` is the key dimension, checked by the index beside this one.
  code_records(int bits, index_t dim) : book_(bits), dim_(dim) {
    require(book_.planes() == 1, "code_records", "1, 2, 4 or 8 bits", bits);
  }

  /// Makes room for `rows` records; allocates.
  void reserve(index_t rows) {
    const auto bytes = static_cast<std::size_t>(rows * bytes_each());
    if (bytes > records_.capacity()) records_.reserve(bytes + bytes / 2);
    if (bytes > records_.size()) records_.resize(bytes);
  }
  /// Codes x `[dim]` as record `row`; `codes` is scratch `[dim]`.
  void store(index_t row, const float* x, std::uint8_t* codes) noexcept {
    const coded_key key = code_key(book_, x, dim_, codes);
    std::uint8_t* record = records_.data() + row * bytes_each();
    std::fill_n(record, bytes_each(), std::uint8_t{0});
    std::memcpy(record + code_bytes(), &key.factor, 2);
    std::memcpy(record + code_bytes() + 2, &key.error, 2);
    if (key.factor == coded_key::not_a_number) return;
    const index_t per = 32 / book_.bits();
    for (index_t j = 0; j < dim_; ++j) {
      const auto bits = static_cast<unsigned>(codes[j]) << (book_.bits() * (j % per / 4));
      record[j / per * 4 + j % 4] |= static_cast<std::uint8_t>(bits);
    }
  }

  const code_book& book() const noexcept { return book_; }
  index_t words() const noexcept { return book_.words(0, dim_); }
  index_t bytes_each() const noexcept { return code_bytes() + 4; }

  /// Up to 16 keys as one block `[words x 64]` of `scan_codes`, with their factors and error norms. Places
  /// behind the last key keep what they hold.
  void gather(std::span<const row_t> rows, std::uint8_t* block, std::uint16_t* factors,
              std::uint16_t* errors) const noexcept {
    for (std::size_t k = 0; k < rows.size(); ++k) {
      const std::uint8_t* record = records_.data() + static_cast<index_t>(rows[k]) * bytes_each();
      for (index_t word = 0; word < words(); ++word)
        std::memcpy(block + 64 * word + 4 * static_cast<index_t>(k), record + 4 * word, 4);
      std::memcpy(factors + k, record + code_bytes(), 2);
      std::memcpy(errors + k, record + code_bytes() + 2, 2);
    }
  }
  /// Asks for a record that is read soon.
  void prefetch(row_t row) const noexcept {
    kernels::prefetch_lines(records_.data() + static_cast<index_t>(row) * bytes_each(),
                            bytes_each(), true);
  }

private:
  index_t code_bytes() const noexcept { return 4 * words(); }

  code_book book_;
  std::vector<std::uint8_t> records_;
  index_t dim_;
};

}  // namespace vattn::top_k
