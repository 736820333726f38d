// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far a product q.k can be from what a key's code says, rounding included.
///
/// With c the centre, y = k - c, R the exact rotation, f and l the key's factor and levels, e its
/// error norm (||Ry - f l|| <= e), and q^ the query that the scan works with,
///   q.k - (q.c + f q^.l) = Rq.(Ry - f l) + (Rq - q^).(f l),
/// hence at most ||q|| e + f max|l| ||Rq - q^||_1 off, in exact arithmetic. Rounding adds:
///  - The rotation in float. Each of its up to four transforms is log2(p) <= 12 stages of sums, whose
///    rounding is at most u = 2^-24 of the vector's length a stage, one rounded product, and a factor
///    that is off by 2 u: below 57 u of the length in all (p < 4096 where there are four). The index
///    counts 64 u for a key, the difference k - c among them; 2^-18 ||q|| covers the query, times
///    sqrt(d) as a sum of magnitudes.
///  - The dot product of the kernels: (d + 2) u sum |q_j k_j|, and sum |q_j k_j| <= sum |q_j c_j| +
///    ||q|| ||y|| with ||y|| <= f max|l| sqrt(d) + e. Two more u cover the sums in double here.
///  - What lies below 2^-126: 2^-149 a product, and four times that a coordinate of a rotation.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/top_k/key_code_index.hpp"

namespace vattn::top_k {

/// A range of real numbers; everything if nothing is known.
struct real_range {
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
};

/// A rotated query as two int8 digits a coordinate, coarse and fine (1/254 of it), and what they
/// leave.
///
/// About 16 bits, so that the radius of an 8-bit code stays near the code's own error: with one
/// digit the query's rounding would be as large.
class two_digit_query {
public:
  /// Rotates `query` `[d]` into `rotated` `[d]` and writes the digits `[2 x stride]`, 0 behind d.
  /// O(d log d).
  two_digit_query(const float* query, const key_code_index& index, float* rotated,
                  std::int8_t* digits, index_t stride) noexcept
      : dim_(static_cast<double>(index.dim())) {
    for (int code = 0; code < 1 << index.book().bits(); ++code)
      largest_level_ = std::max(largest_level_, static_cast<double>(index.book().level(code)));
    double square = 0.0;
    for (index_t j = 0; j < index.dim(); ++j) {
      const auto q = static_cast<double>(query[j]);
      const double product = q * static_cast<double>(index.centre()[j]);
      square += q * q;
      centre_ += product;
      centre_size_ += std::fabs(product);
    }
    norm_ = std::sqrt(square) * (1.0 + 0x1p-20);
    std::copy_n(query, index.dim(), rotated);
    index.rotated().apply(rotated);
    write_digits(rotated, index.dim(), digits, stride);
    rest_ += 0x1p-18 * std::sqrt(dim_) * norm_ + 0x1p-146 * dim_;
    // The integer sums, with the levels that stand behind the bytes.
    const code_book& book = index.book();
    times_ = book.level_times();
    for (std::size_t digit = 0; digit < 2; ++digit)
      for (index_t j = 0; j < index.dim(); ++j)
        plus_[digit] += book.level_plus() * digits[static_cast<index_t>(digit) * stride + j];
  }

  /// Range of q.k, and of the kernels' float of it, for a key with factor f, error norm e and the
  /// scan's two sums. Everything if the key has no code, or if the float might overflow.
  real_range product(float factor, float error_norm, std::int32_t coarse,
                     std::int32_t fine) const noexcept {
    const auto f = static_cast<double>(factor);
    const double e = static_cast<double>(error_norm) * (1.0 + 0x1p-20) + 0x1p-146 * dim_;
    const double middle = centre_ + f * (steps_[0] * (times_ * coarse + plus_[0]) +
                                         steps_[1] * (times_ * fine + plus_[1]));
    const double level = f * largest_level_;
    const double size = centre_size_ + norm_ * (level * std::sqrt(dim_) + e);
    const double radius =
        norm_ * e + level * rest_ + (dim_ + 4.0) * 0x1p-24 * size + 0x1p-146 * dim_;
    return size < 0x1p126 ? real_range{middle - radius, middle + radius} : real_range{};
  }

private:
  void write_digits(const float* x, index_t dim, std::int8_t* digits, index_t stride) noexcept {
    double largest = 0.0;
    bool finite = true;
    for (index_t j = 0; j < dim; ++j) {
      largest = std::max(largest, std::fabs(static_cast<double>(x[j])));
      finite = finite && std::isfinite(x[j]);
    }
    std::fill_n(digits, 2 * stride, std::int8_t{0});
    if (!finite) norm_ = std::numeric_limits<double>::quiet_NaN();
    if (!finite || largest == 0.0) return;
    steps_[0] = largest / 127.0;
    steps_[1] = steps_[0] / 254.0;
    for (index_t j = 0; j < dim; ++j) {
      auto left = static_cast<double>(x[j]);
      for (std::size_t digit = 0; digit < 2; ++digit) {
        const double rounded = std::nearbyint(std::clamp(left / steps_[digit], -127.0, 127.0));
        digits[static_cast<index_t>(digit) * stride + j] = static_cast<std::int8_t>(rounded);
        left -= steps_[digit] * rounded;
      }
      rest_ += std::fabs(left);
    }
  }

  double dim_;
  double largest_level_ = 0.0;
  /// Upper bounds of ||q||, sum |q_j c_j| and ||Rq - q^||_1; NaN for a query that is not finite.
  double norm_ = 0.0, centre_size_ = 0.0, rest_ = 0.0;
  double centre_ = 0.0;
  double steps_[2] = {};
  double times_ = 1.0;
  double plus_[2] = {};
};

}  // namespace vattn::top_k
