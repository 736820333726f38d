// SPDX-License-Identifier: Apache-2.0
/// @file
/// Centroids of the parts of a key, and their fit by k-means.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "vattention/core/kv_view.hpp"
#include "vattention/core/rng.hpp"

namespace vattn::top_k {

/// Centroids of the parts of a key: part p is coordinates [first(p), first(p + 1)), and 2^bits vectors stand for it.
/// Memory: 4 d 2^bits bytes, e.g. 128 KiB for 8 bits at d = 128.
class part_centroids {
public:
  /// Rounds of Lloyd's algorithm, at most.
  static constexpr int rounds = 10;

  /// All 0, to be fitted. 1 part or more, at most as many as there are coordinates (more stand for that many); 4 to 8
  /// bits.
  /// @throws std::invalid_argument for other parts or bits, or a dimension outside [1, 4096].
  part_centroids(index_t parts, int bits, index_t dim)
      : parts_((require(parts >= 1, "product_code", "1 part or more", parts),
                require(bits >= 4 && bits <= 8, "product_code", "4 to 8 bits", bits),
                require(dim >= 1 && dim <= rows_view::max_dim, "product_code",
                        "1 <= key dimension <= 4096", dim),
                std::min(parts, dim))),
        dim_(dim),
        bits_(bits),
        all_(static_cast<std::size_t>(dim << bits)) {}

  /// Centroids that are known, `centroids` `[d 2^bits]`: part by part a row-major matrix `[2^bits x width]`.
  /// @throws std::invalid_argument as above, or for a number that is not finite.
  part_centroids(const float* centroids, index_t parts, int bits, index_t dim)
      : part_centroids(parts, bits, dim) {
    for (index_t part = 0; part < parts_; ++part)
      for (index_t c = 0; c < count(); ++c, centroids += width(part)) {
        for (index_t j = 0; j < width(part); ++j)
          require(std::isfinite(centroids[j]), "part_centroids",
                  "finite centroids (part, centroid, number)", part, c, centroids[j]);
        place(part, c, centroids);
      }
  }

  index_t parts() const noexcept { return parts_; }
  index_t dim() const noexcept { return dim_; }
  int bits() const noexcept { return bits_; }
  /// Centroids of a part.
  index_t count() const noexcept { return index_t{1} << bits_; }
  index_t first(index_t part) const noexcept { return part * dim_ / parts_; }
  index_t width(index_t part) const noexcept { return first(part + 1) - first(part); }
  /// Centroids of a part `[width x count]`: coordinate j of centroid c at j count() + c.
  const float* of(index_t part) const noexcept { return all_.data() + first(part) * count(); }

  /// All 0, as before the first fit.
  void clear() noexcept { std::fill(all_.begin(), all_.end(), 0.0F); }
  /// Fits them to `points` `[m x d]`, all finite: k-means++ (Arthur and Vassilvitskii, SODA 2007) from a fixed seed,
  /// then Lloyd's algorithm until nothing moves; a centroid that has no point stays where it is. If there are no
  /// more points than centroids, the points themselves, and the first one for those left. The same points give the
  /// same centroids. O(m d 2^bits rounds); allocates.
  void fit(const std::vector<float>& points) {
    const index_t m = static_cast<index_t>(points.size()) / dim_;
    clear();
    std::vector<double> room(static_cast<std::size_t>(std::max(m, count() * (dim_ + 1))));
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(m));
    for (index_t part = 0; part < parts_ && m > 0; ++part) {
      const float* const at = points.data() + first(part);
      if (m <= count()) {
        for (index_t c = 0; c < count(); ++c) place(part, c, at + (c < m ? c : 0) * dim_);
        continue;
      }
      seed(part, at, m, room.data());
      for (int round = 0; round < rounds && assign(part, at, codes, round == 0); ++round)
        move(part, at, codes, room.data());
    }
  }

  /// The centroid nearest to part `part` of a key, `x` `[width]`; of equally near ones the first.
  int nearest(index_t part, const float* x) const noexcept {
    constexpr index_t lanes = 16;
    const index_t size = width(part), all = count();
    const float* const centroids = of(part);
    float least = std::numeric_limits<float>::infinity();
    index_t best = 0;
    for (index_t c = 0; c < all; c += lanes) {
      float distance[lanes] = {};
      for (index_t j = 0; j < size; ++j) {
        const float* const coordinate = centroids + j * all + c;
        for (index_t l = 0; l < lanes; ++l)
          distance[l] += (x[j] - coordinate[l]) * (x[j] - coordinate[l]);
      }
      for (index_t l = 0; l < lanes; ++l)
        if (distance[l] < least) {
          least = distance[l];
          best = c + l;
        }
    }
    return static_cast<int>(best);
  }

  template <class File>
  void exchange(File& file) {
    file.numbers(all_, dim_ << bits_);
  }

private:
  float* at(index_t part) noexcept { return all_.data() + first(part) * count(); }
  void place(index_t part, index_t c, const float* x) noexcept {
    for (index_t j = 0; j < width(part); ++j) at(part)[j * count() + c] = x[j];
  }

  /// Places each centroid on a point drawn in proportion to its squared distance from those placed; `nearby` is
  /// scratch `[m]`. Points are `dim_` floats apart.
  void seed(index_t part, const float* points, index_t m, double* nearby) noexcept {
    const random_stream random({.seed = 0x70715F6B6D65616EULL}, static_cast<std::uint32_t>(part));
    const index_t size = width(part);
    std::fill_n(nearby, m, std::numeric_limits<double>::infinity());
    auto chosen = static_cast<index_t>(random.below(0, static_cast<std::uint64_t>(m)));
    for (index_t c = 0;;) {
      const float* const x = points + chosen * dim_;
      place(part, c, x);
      if (++c == count()) return;
      double total = 0.0;
      for (index_t i = 0; i < m; ++i) {
        double distance = 0.0;
        for (index_t j = 0; j < size; ++j) {
          const double off = static_cast<double>(points[i * dim_ + j]) - static_cast<double>(x[j]);
          distance += off * off;
        }
        nearby[i] = std::min(nearby[i], distance);
        total += nearby[i];
      }
      double left =
          static_cast<double>(random.u64(static_cast<std::uint64_t>(c)) >> 11U) * 0x1p-53 * total;
      for (index_t i = 0; i < m; ++i) {
        if (nearby[i] > 0.0) chosen = i;
        left -= nearby[i];
        if (left < 0.0) break;
      }
    }
  }

  /// Codes all points; returns whether a code has changed, or true at first.
  bool assign(index_t part, const float* points, std::vector<std::uint8_t>& codes,
              bool changed) const noexcept {
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const auto code =
          static_cast<std::uint8_t>(nearest(part, points + static_cast<index_t>(i) * dim_));
      changed = changed || code != codes[i];
      codes[i] = code;
    }
    return changed;
  }

  /// Moves each centroid to the mean of its points; `sums` is scratch `[count (width + 1)]`.
  void move(index_t part, const float* points, const std::vector<std::uint8_t>& codes,
            double* sums) noexcept {
    const index_t size = width(part) + 1;
    std::fill_n(sums, count() * size, 0.0);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      double* const sum = sums + codes[i] * size;
      for (index_t j = 0; j + 1 < size; ++j)
        sum[j] += static_cast<double>(points[static_cast<index_t>(i) * dim_ + j]);
      sum[size - 1] += 1.0;
    }
    for (index_t c = 0; c < count(); ++c, sums += size)
      for (index_t j = 0; j + 1 < size && sums[size - 1] > 0.0; ++j)
        at(part)[j * count() + c] = static_cast<float>(sums[j] / sums[size - 1]);
  }

  index_t parts_, dim_;
  int bits_;
  std::vector<float> all_;
};

}  // namespace vattn::top_k
