// SPDX-License-Identifier: Apache-2.0
/// @file
/// How predicted log-weights of a call become proposals, and scales the rates at which rows are reached.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"

namespace vattn {

/// The scale c_h of each head of a call, the sums that make proposals g_hi of its log-weights, and the histogram that
/// tells at which scale how many rows are expected. Kept in draws.scales and draws.histograms; not owning.
template <class Drawing>
class proposal_scales {
public:
  explicit proposal_scales(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  static constexpr int levels =
      std::remove_cvref_t<decltype(std::declval<Drawing>().predictor)>::levels;
  static_assert(levels == 1 || levels == 2);
  /// The first search looks for the rows of a scale so many times the one that the pilot guesses, and later ones
  /// for those of so many times the one at hand: most samples never outgrow it.
  static constexpr double foresight = 12.0;

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  const kernels::table& kernels() const noexcept { return d_.call.kernels; }
  poisson_scale& kept(int h) const noexcept { return state_.scales[h]; }
  share_histogram sizes(int h) const noexcept {
    return share_histogram(state_.histograms.data() + std::ptrdiff_t{share_histogram::buckets} * h);
  }
  reached_rows& waiting() const noexcept { return state_.waiting; }
  reached_rows& settled() const noexcept { return state_.settled; }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }

  /// The scale at which a head's sample has `size` rows; never below the one it has.
  double scale_for(int h, double size) const noexcept {
    if (size >= static_cast<double>(d_.rest.size())) return infinite;
    return std::max(kept(h).scale, sizes(h).scale_for(size));
  }
  void set_size(int h, double size) noexcept {
    kept(h).scale = scale_for(h, size);
    kept(h).size = std::min(size, static_cast<double>(d_.rest.size()));
  }

  /// How a level's log-weights become logarithms of proposals.
  kernels::proposal_terms terms_of(int h, int level) const noexcept {
    const double offset = std::log(kept(h).per_sum[level]) - kept(h).largest[level];
    return {static_cast<float>(offset), static_cast<float>(std::log(even(level))),
            level == 0 ? kept(h).reach : 0.0F};
  }
  /// Rates of the first level at a scale.
  reach_rates rates_at(int h, double scale) const noexcept {
    const double per_sum = kept(h).per_sum[0];
    const double log_scale = std::log(scale);
    return {per_sum > 0.0 ? log_scale + std::log(per_sum) - kept(h).largest[0] : -infinite,
            log_scale + std::log(even(0))};
  }
  /// True if the rates reach what the scales at hand do.
  bool covers(reach_rates poisson_scale::*rates) const noexcept {
    for (int h = 0; h < heads(); ++h)
      if (!(kept(h).*rates).cover(rates_at(h, kept(h).scale))) return false;
    return true;
  }
  /// The rates of all heads as the kernel wants them.
  void reach_of(reach_rates poisson_scale::*rates, kernels::reach_terms* by) const noexcept {
    constexpr auto log2_e = std::numbers::log2e;
    for (int h = 0; h < heads(); ++h) {
      const reach_rates& at = kept(h).*rates;
      by[h] = {static_cast<float>(kept(h).largest[0]),
               static_cast<float>(log2_e * (at.weight + kept(h).largest[0])),
               static_cast<float>(log2_e * at.even), kernels::log2_e * kept(h).reach};
    }
  }

protected:
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr double infinite = std::numeric_limits<double>::infinity();
  static constexpr index_t block = workspace::block;

  /// The numbers at listed places.
  template <class T>
  static void gather(const T* from, std::span<const row_t> list, T* out) noexcept {
    for (const row_t row : list) *out++ = from[row];
  }
  /// Every row's equal part of a level's floor.
  double even(int level) const noexcept {
    return d_.predictor.level(level).floor / static_cast<double>(d_.rest.size());
  }

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
