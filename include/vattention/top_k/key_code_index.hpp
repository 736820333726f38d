// SPDX-License-Identifier: Apache-2.0
/// @file
/// Packed low-bit codes of rotated, centred keys: the index behind `key_code`.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "vattention/core/rotation.hpp"
#include "vattention/kernels/prefetch.hpp"
#include "vattention/top_k/coded_key.hpp"
#include "vattention/top_k/error_mean.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/long_values.hpp"

namespace vattn::top_k {

/// A key k is kept as codes of x = R (k - centre), a factor f and an error norm e, such that
/// q.k ~ q.centre + f (Rq).level, with ||x - f level|| <= e. Factor and norm are fp16, the norm rounded
/// up (to a byte for 1 and 2 bits), see `coded_key`; the centre is a `frozen_centre`.
///
/// Memory a key: d bits / 8 + 6 bytes, or 5 up to 2 bits (d padded to a multiple of 32 / bits), e.g. 38
/// bytes for 4 bits at d = 64; 2 of them are for going back (`milestones`) and not read by a call.
class key_code_index {
public:
  static constexpr std::uint64_t rotation_seed = 0x9E3779B97F4A7C15ULL;

  key_code_index(int bits, index_t key_dim)
      : book_(bits),
        rotation_((require(key_dim >= 1 && key_dim <= rows_view::max_dim, "key_code",
                           "1 <= key dimension <= 4096", key_dim),
                   key_dim),
                  rotation_seed),
        centre_(key_dim) {}

  /// Takes in the rows [rows(), kv.rows()). O(d log d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    append(kv, [](index_t, const float*, const std::uint8_t*, const coded_key&) {});
  }
  /// The same, and shows each key that it codes to `also(row, x, codes, key)`: x `[d]` is rotated and
  /// centred, `codes` `[d]` and `key` are what it was coded as.
  template <cache_view View, class Also>
  void append(const View& kv, Also also) {
    require_growth("key_code_index::append", kv, dim(), rows_);
    type_.require_of("key_code_index::append", kv, rows_);
    reserve(kv.rows());
    std::vector<float> x(static_cast<std::size_t>(dim()));
    std::vector<std::uint8_t> codes(x.size());
    index_t row = rows_;
    const bool settled = rows_ >= frozen_centre::rows;
    frozen_centre centre(settled ? 0 : dim());
    if (!settled) centre.settle(kv);
    long_values_.append(kv);
    // From here on nothing throws.
    if (!settled) {
      centre_ = std::move(centre);
      for (std::vector<std::uint8_t>& plane : codes_) std::fill(plane.begin(), plane.end(), 0);
      mean_error_.clear();
      row = 0;
    }
    for (; row < kv.rows(); ++row) {
      centre_.load(kv, row, x.data());
      rotation_.apply(x.data());
      also(row, x.data(), codes.data(), encode(row, x.data(), codes.data()));
    }
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on and up to 15 before them, or all where that leaves fewer than settle the centre.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    const index_t kept = rows / 16 * 16 < frozen_centre::rows ? 0 : rows / 16 * 16;
    for (int plane = 0; plane < book_.planes(); ++plane) {
      std::vector<std::uint8_t>& codes = codes_[static_cast<std::size_t>(plane)];
      std::fill(codes.begin() + kept / 16 * 64 * book_.words(plane, dim()), codes.end(),
                std::uint8_t{0});
    }
    mean_error_.forget(kept);
    long_values_.forget(kept);
    rows_ = kept;
  }

  static constexpr const char* kind = "key_code";
  template <class File>
  void exchange(File& file) {
    file.same("bits", book_.bits());
    file.same("dimension", dim());
    file.number(rows_);
    type_.exchange(file);
    centre_.exchange(file);
    long_values_.exchange(file);
    mean_error_.exchange(file);
    for (int plane = 0; plane < book_.planes(); ++plane)
      file.numbers(codes_[static_cast<std::size_t>(plane)],
                   (rows_ + 15) / 16 * 64 * book_.words(plane, dim()));
    file.numbers(factors_, rows_);
    file.numbers(errors_, coarse() ? 0 : rows_);
    file.numbers(coarse_errors_, coarse() ? rows_ : 0);
  }

  index_t rows() const noexcept { return rows_; }
  index_t dim() const noexcept { return rotation_.dim(); }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim() == kv.key_dim() && type_.admits(kv, rows_);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }
  /// Bytes a scan of `count` keys reads.
  index_t scanned_bytes(index_t count) const noexcept {
    index_t bytes = 2 * count;
    for (int plane = 0; plane < book_.planes(); ++plane)
      bytes += (count + 15) / 16 * 64 * book_.words(plane, dim());
    return bytes;
  }

  /// Rows to be read whatever their keys say.
  const long_values& values() const noexcept { return long_values_; }
  /// Mean of ||v||^2 over the rows.
  double mean_value_square() const noexcept { return long_values_.mean_square(); }
  /// Mean square of the error norms.
  double error_square() const noexcept { return mean_error_.square(); }
  const code_book& book() const noexcept { return book_; }
  const vattn::rotation& rotated() const noexcept { return rotation_; }
  const float* centre() const noexcept { return centre_.data(); }
  /// Packed codes of a plane from the block of 16 keys on that begins with key `first`.
  const std::uint8_t* codes(int plane, index_t first) const noexcept {
    return codes_[static_cast<std::size_t>(plane)].data() +
           first / kernels::code_block * 64 * book_.words(plane, dim());
  }
  /// Asks the memory for what a scan of `count` keys reads.
  void prefetch(index_t first, index_t count) const noexcept {
    const index_t blocks = (count + kernels::code_block - 1) / kernels::code_block;
    for (int plane = 0; plane < book_.planes(); ++plane)
      kernels::prefetch_lines(codes(plane, first), blocks * 64 * book_.words(plane, dim()), false);
    kernels::prefetch_lines(factors_.data() + first, 2 * count, false);
    if (coarse())
      kernels::prefetch_lines(coarse_errors_.data() + first, count, false);
    else
      kernels::prefetch_lines(errors_.data() + first, 2 * count, false);
  }
  /// All factors, as fp16.
  const std::uint16_t* factors() const noexcept { return factors_.data(); }
  /// f of a key; NaN for a key that is not finite or too large to code.
  float factor(index_t row) const noexcept {
    return kernels::f16_to_float(factors_[static_cast<std::size_t>(row)]);
  }
  /// Upper bound of ||x - f level||; +inf where it exceeds fp16, and where the factor is NaN.
  float error_norm(index_t row) const noexcept {
    const auto at = static_cast<std::size_t>(row);
    return coarse() ? error_byte::decode(coarse_errors_[at]) : kernels::f16_to_float(errors_[at]);
  }
  /// Error norms of `count` keys, at most 256.
  void error_norms(index_t first, index_t count, float* out) const noexcept {
    const kernels::table& kernels = kernels::active();
    if (coarse()) return kernels.byte_norms(coarse_errors_.data() + first, count, out);
    constexpr std::int32_t unused[256] = {};
    kernels.scale_sums(unused, errors_.data() + first, count, 0, 1, 1.0F, 0.0F, out);
  }

  /// Error norms of listed keys, at most 256.
  void error_norms(std::span<const row_t> rows, float* out) const noexcept {
    const kernels::table& kernels = kernels::active();
    const auto count = static_cast<index_t>(rows.size());
    std::uint8_t bytes[256];
    if (!coarse()) {
      for (std::size_t i = 0; i < rows.size(); ++i) out[i] = error_norm(rows[i]);
      return;
    }
    for (std::size_t i = 0; i < rows.size(); ++i) bytes[i] = coarse_errors_[rows[i]];
    kernels.byte_norms(bytes, count, out);
  }

private:
  /// 1- and 2-bit codes keep their error norm in a byte.
  bool coarse() const noexcept { return book_.bits() <= 2; }

  void reserve(index_t rows) {
    const auto blocks = static_cast<std::size_t>((rows + 15) / 16);
    for (int plane = 0; plane < book_.planes(); ++plane)
      grow(codes_[static_cast<std::size_t>(plane)],
           blocks * 64 * static_cast<std::size_t>(book_.words(plane, dim())));
    grow(factors_, static_cast<std::size_t>(rows));
    mean_error_.reserve(rows);
    if (coarse())
      grow(coarse_errors_, static_cast<std::size_t>(rows));
    else
      grow(errors_, static_cast<std::size_t>(rows));
  }
  template <class T>
  static void grow(std::vector<T>& v, std::size_t size) {
    reserve_ahead(v, static_cast<index_t>(size));
    if (size > v.size()) v.resize(size);
  }

  coded_key encode(index_t row, const float* x, std::uint8_t* codes) {
    const coded_key key = code_key(book_, x, dim(), codes);
    const auto at = static_cast<std::size_t>(row);
    factors_[at] = key.factor;
    mean_error_.add(row, kernels::f16_to_float(key.error));
    if (coarse())
      coarse_errors_[at] = error_byte::up(kernels::f16_to_float(key.error));
    else
      errors_[at] = key.error;
    if (key.factor != coded_key::not_a_number)
      for (int plane = 0; plane < book_.planes(); ++plane) pack(row, plane, codes);
    return key;
  }

  void pack(index_t row, int plane, const std::uint8_t* codes) noexcept {
    const int bits = book_.plane_bits(plane);
    const int shift = plane == 0 ? 0 : book_.plane_bits(0);
    const int mask = (1 << bits) - 1;
    const index_t words = book_.words(plane, dim());
    std::uint8_t* key =
        codes_[static_cast<std::size_t>(plane)].data() + row / 16 * 64 * words + row % 16 * 4;
    for (index_t word = 0, j = 0; word < words; ++word, key += 64)
      for (int field = 0; field < 8 / bits; ++field)
        for (int b = 0; b < 4 && j < dim(); ++b, ++j)
          key[b] |= static_cast<std::uint8_t>((codes[j] >> shift & mask) << (bits * field));
  }

  code_book book_;
  vattn::rotation rotation_;
  frozen_centre centre_;
  long_values long_values_;
  error_mean mean_error_;
  std::array<std::vector<std::uint8_t>, 2> codes_;
  std::vector<std::uint16_t> factors_, errors_;
  std::vector<std::uint8_t> coarse_errors_;
  index_t rows_ = 0;
  indexed_type type_;
};

}  // namespace vattn::top_k
