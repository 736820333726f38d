// SPDX-License-Identifier: Apache-2.0
/// @file
/// How large a sample in proportion to shares is expected to be, without sorting the shares.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <limits>
#include <span>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// Counts of shares g in buckets of an eighth of an octave from 2^-31 to 2, for the expected size
/// sum min(1, c g) of a Poisson sample. A share counts as the middle of its bucket, so a size is off by
/// up to 6 %; inclusion probabilities are formed from the shares themselves and are not. Not owning.
class share_histogram {
public:
  static constexpr int buckets = 256;

  explicit share_histogram(double* counts) noexcept : counts_(counts) {}

  void clear() noexcept { std::fill_n(counts_, buckets, 0.0); }
  /// A row of share g > 0 that stands for `weight` rows.
  void add(float share, double weight) noexcept { counts_[bucket(share)] += weight; }

  /// Counts an array, but for shares below 2^-31, 0 among them. O(count).
  void add_all(std::span<const float> shares) noexcept;

  /// The scale c at which `size` rows are expected: Newton's method on the set of certain rows, a bucket a
  /// step. +inf if there are not that many.
  double scale_for(double size) const noexcept {
    double below[buckets + 1];
    below[0] = 0.0;
    for (int k = 0; k < buckets; ++k) below[k + 1] = below[k] + counts_[k] * middle(k);
    for (int k = buckets - 1; k >= 0; --k) {
      if (counts_[k] == 0.0) continue;
      const double scale = size / below[k + 1];
      if (scale * middle(k) <= 1.0) return scale;
      size -= counts_[k];
    }
    return std::numeric_limits<double>::infinity();
  }

  /// Rows expected at a scale.
  double size_at(double scale) const noexcept {
    double size = 0.0;
    for (int k = 0; k < buckets; ++k)
      if (counts_[k] > 0.0) size += counts_[k] * std::min(1.0, scale * middle(k));
    return size;
  }

  /// sum g^2 (1 - p) / p at a scale, p = min(1, c g).
  double variance_at(double scale) const noexcept {
    double sum = 0.0;
    for (int k = 0; k < buckets; ++k)
      if (counts_[k] > 0.0 && scale * middle(k) < 1.0)
        sum += counts_[k] * middle(k) * (1.0 / scale - middle(k));
    return sum;
  }

private:
  template <class Count>
  friend class share_counts;
  static constexpr int first_key = (127 - 31) * 8;

  /// Bucket 0 takes what is below 2^-31, 0 among it, and is as good as empty.
  static int bucket(float share) noexcept {
    const int key = static_cast<int>(std::bit_cast<std::uint32_t>(share) >> 20U) - first_key;
    return std::clamp(key, 0, buckets - 1);
  }
  static constexpr std::array<double, buckets> middles() noexcept {
    std::array<double, buckets> all{};
    double octave = 0x1p-31;
    for (std::size_t k = 0; k < all.size(); ++k) {
      all[k] = octave * (1.0 + (static_cast<double>(k % 8) + 0.5) / 8.0);
      if (k % 8 == 7) octave *= 2.0;
    }
    return all;
  }
  static double middle(int k) noexcept {
    static constexpr std::array<double, buckets> all = middles();
    return all[static_cast<std::size_t>(k)];
  }
  double* counts_;
};

/// Counts shares for a histogram, an array after the other; `Count` is double for rows that stand for different
/// numbers of rows, an integer where all stand for as many. Four counters a bucket, so that equal shares do not wait
/// for each other.
template <class Count = std::uint32_t>
class share_counts {
public:
  void add(std::span<const float> shares) noexcept {
    count_all(shares, [](std::size_t /*i*/) { return Count{1}; });
  }
  void add(std::span<const float> shares, const float* weights) noexcept {
    count_all(shares, [=](std::size_t i) { return static_cast<Count>(weights[i]); });
  }
  /// Adds all but the shares below 2^-31 to a histogram, each count as `each` rows.
  void add_to(share_histogram histogram, double each) const noexcept {
    for (std::size_t k = 1; k < share_histogram::buckets; ++k)
      histogram.counts_[k] +=
          each * ((static_cast<double>(counts_[0][k]) + static_cast<double>(counts_[1][k])) +
                  (static_cast<double>(counts_[2][k]) + static_cast<double>(counts_[3][k])));
  }

private:
  template <class Weight>
  void count_all(std::span<const float> shares, Weight weight) noexcept {
    const auto count = [&](std::size_t part, std::size_t i) {
      counts_[part][share_histogram::bucket(shares[i])] += weight(i);
    };
    const std::size_t whole = shares.size() / 4 * 4;
    for (std::size_t i = 0; i < whole; i += 4)
      for (std::size_t part = 0; part < 4; ++part) count(part, i + part);
    for (std::size_t i = whole; i < shares.size(); ++i) count(0, i);
  }

  Count counts_[4][share_histogram::buckets] = {};
};

inline void share_histogram::add_all(std::span<const float> shares) noexcept {
  share_counts counts;
  counts.add(shares);
  counts.add_to(*this, 1.0);
}

}  // namespace vattn
