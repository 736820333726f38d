// SPDX-License-Identifier: Apache-2.0
/// @file
/// Codes of rotated keys kept key by key, for reading a few of them.
#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "vattention/top_k/coded_key.hpp"
#include "vattention/top_k/error_mean.hpp"
#include "vattention/top_k/index_growth.hpp"

namespace vattn::top_k {

/// Codes as in `key_code_index`, but one record a key: d bits / 8 bytes of codes, factor and error norm
/// (fp16), so that a listed key costs one or two cache lines instead of a line a word; see
/// `kernels::table::dot_codes`. Codes of one plane (1, 2, 4, 8 bits).
class code_records {
public:
  /// `dim` is the key dimension, checked by the index beside this one.
  code_records(int bits, index_t dim) : book_(bits), dim_(dim) {
    require(book_.planes() == 1, "code_records", "1, 2, 4 or 8 bits", bits);
  }

  /// Forgets the records from `rows` on, a multiple of 16.
  void forget(index_t rows) noexcept { mean_error_.forget(rows); }
  /// Makes room for `rows` records; allocates.
  void reserve(index_t rows) {
    const auto bytes = static_cast<std::size_t>(rows * bytes_each());
    reserve_ahead(records_, rows * bytes_each());
    if (bytes > records_.size()) records_.resize(bytes);
    mean_error_.reserve(rows);
  }
  /// Codes x `[dim]` as record `row`; `codes` is scratch `[dim]`.
  void store(index_t row, const float* x, std::uint8_t* codes) {
    const coded_key key = code_key(book_, x, dim_, codes);
    mean_error_.add(row, kernels::f16_to_float(key.error));
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

  /// `rows` records.
  template <class File>
  void exchange(File& file, index_t rows) {
    file.same("bits of a record", book_.bits());
    mean_error_.exchange(file);
    file.numbers(records_, rows * bytes_each());
  }

  /// Mean square of the error norms.
  double error_square() const noexcept { return mean_error_.square(); }
  const code_book& book() const noexcept { return book_; }
  index_t words() const noexcept { return book_.words(0, dim_); }
  index_t bytes_each() const noexcept { return code_bytes() + 4; }

  /// Where a key keeps its `words()` words of codes, for `kernels::table::dot_codes`.
  const void* record(row_t row) const noexcept { return at(row); }
  /// Factor and error norm of a key, fp16.
  std::uint16_t factor(row_t row) const noexcept { return half(at(row) + code_bytes()); }
  std::uint16_t error(row_t row) const noexcept { return half(at(row) + code_bytes() + 2); }

private:
  index_t code_bytes() const noexcept { return 4 * words(); }
  const std::uint8_t* at(row_t row) const noexcept {
    return records_.data() + static_cast<index_t>(row) * bytes_each();
  }
  static std::uint16_t half(const std::uint8_t* from) noexcept {
    std::uint16_t bits;
    std::memcpy(&bits, from, sizeof bits);
    return bits;
  }

  code_book book_;
  std::vector<std::uint8_t> records_;
  error_mean mean_error_;
  index_t dim_;
};

}  // namespace vattn::top_k
