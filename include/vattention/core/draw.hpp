// SPDX-License-Identifier: Apache-2.0
/// @file
/// A draw: rows with the probabilities they were drawn with. The estimator knows nothing else of it.
#pragma once

#include <span>
#include <vector>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"

namespace vattn {

/// How the inclusions of a draw depend on each other.
enum class design : std::uint8_t {
  independent,  ///< Poisson sampling: every row for itself
  fixed_size,   ///< simple random sampling without replacement: size given, probabilities all equal
};

/// An inclusion probability as the integer it was drawn with: a row is in the draw if a uniform number
/// of 0..2^32 - 1 is at most the threshold, so the probability is (threshold + 1) / 2^32 exactly.
using threshold_t = std::uint32_t;
inline constexpr threshold_t certain = 0xFFFFFFFFU;

constexpr double probability(threshold_t threshold) noexcept {
  return (static_cast<double>(threshold) + 1.0) * 0x1p-32;
}
/// The threshold next to a probability in (0, 1]; at least 2^-32.
constexpr threshold_t threshold_of(double probability) noexcept {
  const double scaled = probability * 0x1p32;
  if (scaled >= 0x1p32 - 0.5) return certain;
  return scaled <= 1.0 ? 0 : static_cast<threshold_t>(scaled + 0.5) - 1;
}

/// The least threshold whose probability is not below `probability`, in (0, 1].
constexpr threshold_t threshold_above(double probability) noexcept {
  const double scaled = probability * 0x1p32;
  if (scaled >= 0x1p32 - 1.0) return certain;
  const auto whole = static_cast<threshold_t>(scaled);
  return static_cast<double>(whole) < scaled || whole == 0 ? whole : whole - 1;
}

/// Sampled rows, in the order they were drawn in; each growth appends. They are read in this order, which is
/// fastest where it ascends.
class sample {
public:
  /// Empties the draw and makes room for `capacity` rows. Allocates only if it never was as large.
  void reset(index_t capacity) {
    if (static_cast<std::size_t>(capacity) > rows_.size()) {
      rows_.resize(static_cast<std::size_t>(capacity + capacity / 2));
      thresholds_.resize(rows_.size());
    }
    size_ = fresh_ = 0;
  }

  /// Begins a growth: rows appended from here on are `fresh`.
  void begin_growth() noexcept { fresh_ = size_; }
  void append(row_t row, threshold_t threshold) noexcept {
    VATTN_ASSERT(static_cast<std::size_t>(size_) < rows_.size());
    rows_[static_cast<std::size_t>(size_)] = row;
    thresholds_[static_cast<std::size_t>(size_++)] = threshold;
  }
  /// Appends rows that are given their probability later (`set_all`); returns their places in the draw.
  std::span<row_t> append(std::span<const row_t> rows) noexcept {
    VATTN_ASSERT(static_cast<std::size_t>(size_) + rows.size() <= rows_.size());
    const std::span<row_t> places(rows_.data() + size_, rows.size());
    std::copy(rows.begin(), rows.end(), places.begin());
    size_ += static_cast<index_t>(rows.size());
    return places;
  }
  /// Gives every row of the draw the same probability.
  void set_all(threshold_t threshold) noexcept {
    std::fill_n(thresholds_.begin(), size_, threshold);
  }

  index_t size() const noexcept { return size_; }
  /// Position of the first row of the last growth.
  index_t fresh() const noexcept { return fresh_; }
  std::span<const row_t> rows() const noexcept {
    return {rows_.data(), static_cast<std::size_t>(size_)};
  }
  /// For samplers: the rows from a position on, to be set.
  std::span<row_t> rows_from(index_t first) noexcept {
    return {rows_.data() + first, static_cast<std::size_t>(size_ - first)};
  }
  /// For samplers: the thresholds, to be set anew when a growth changed them.
  std::span<threshold_t> thresholds() noexcept {
    return {thresholds_.data(), static_cast<std::size_t>(size_)};
  }
  std::span<const threshold_t> thresholds() const noexcept {
    return {thresholds_.data(), static_cast<std::size_t>(size_)};
  }

private:
  std::vector<row_t> rows_;
  std::vector<threshold_t> thresholds_;
  index_t size_ = 0, fresh_ = 0;
};

}  // namespace vattn
