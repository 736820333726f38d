// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling in proportion to predicted weight, with permanent random numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"

namespace vattn {

/// Row i is drawn if its own random number u_i, the same for the whole call and for all heads of a group,
/// is at most p_i = min(1, max_h c_h g_hi): g_hi is its proposal for head h, c_h the head's scale. Scales
/// only grow, so draws are nested, and each row is read once and counts for every head. Proposals are
/// known for every row that can be drawn: a predictor of two levels is asked for the second one of the
/// rows with u_i <= c_h a_hi g1_hi alone, a its reach, and g_hi = min(a_hi g1_hi, g2_hi).
///
/// The sum that scales the second level is estimated from the rows refined at the first look and kept: it
/// depends on u, which biases the estimates by less than the certificate's stopping does (.1 % measured).
/// Not owning; O(n) a head at the first draw, a scan of n floats a head and growth after it.
template <class Drawing>
class poisson_sample {
public:
  explicit poisson_sample(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  /// The first draw: `size` rows expected for every head. Of two levels the first one sets out with its own
  /// scale for that size, which is too small for what the second one makes of it.
  void begin(index_t size) noexcept {
    d_.predictor.temper(d_.call, d_.index, d_.ws);
    d_.ws.seen.exclude(d_.ws.exact.rows());
    number_rows();
    state_.ranks.reset(rows());
    state_.refined.reset(rows());
    for (int h = 0; h < heads(); ++h) {
      propose(h);
      set_size(h, static_cast<double>(size));
      if constexpr (levels > 1) extend(h);
      key_rows(h);
    }
    collect();
    if constexpr (levels > 1) {
      refine_first();
      for (int h = 0; h < heads(); ++h) set_size(h, static_cast<double>(size));
      collect();
      refine_more();
    }
    draw();
  }

  /// Raises the scales of the heads that ask for more than they have.
  void grow(std::span<const index_t> wanted) noexcept {
    for (int h = 0; h < heads(); ++h) {
      const auto size = static_cast<double>(wanted[static_cast<std::size_t>(h)]);
      if (size > kept(h).size) set_size(h, size);
    }
    collect();
    if constexpr (levels > 1) refine_more();
    draw();
  }

  /// Rows a head's own sample is expected to have.
  index_t size(int h) const noexcept { return static_cast<index_t>(kept(h).size); }

  /// sum over the draw of y^2 (1 - p') / (p' p), with p' the probability at the head's other size.
  double variance_at(int h, const contributions& y, index_t size,
                     correction finite) const noexcept {
    const double scale = scale_for(h, static_cast<double>(size));
    const float* shares = shares_of(h);
    const std::span<const threshold_t> thresholds = d_.drawn.thresholds();
    double sum = 0.0;
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      const double p = probability(thresholds[i]);
      const double then = std::max(p, probability_at(scale, shares[i]));
      const double missing = finite == correction::none ? 1.0 : 1.0 - then;
      sum += static_cast<double>(y.squares[i]) * missing / (then * p);
    }
    return sum;
  }

private:
  static constexpr int levels =
      std::remove_cvref_t<decltype(std::declval<Drawing>().predictor)>::levels;
  static_assert(levels == 1 || levels == 2);
  /// A share that is certain at any scale, for rows that could not be predicted.
  static constexpr float certain_share = 1e30F;

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  float* proposals(int h) const noexcept { return d_.ws.seen.scores(h).data(); }
  float* keys(int h) const noexcept { return state_.keys.data() + h * rows(); }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }
  poisson_scale& kept(int h) const noexcept { return state_.scales[h]; }
  share_histogram sizes(int h) const noexcept {
    return share_histogram(state_.histograms.data() + std::ptrdiff_t{share_histogram::buckets} * h);
  }

  double scale_for(int h, double size) const noexcept {
    if (size >= static_cast<double>(d_.rest.size())) return std::numeric_limits<double>::infinity();
    return std::max(kept(h).scale, sizes(h).scale_for(size));
  }
  void set_size(int h, double size) noexcept {
    kept(h).scale = scale_for(h, size);
    kept(h).size = std::min(size, static_cast<double>(d_.rest.size()));
  }
  /// min(1, c g), and 0 for g = 0 whatever c.
  static double probability_at(double scale, float share) noexcept {
    return share > 0.0F ? std::min(1.0, scale * static_cast<double>(share)) : 0.0;
  }

  /// The call's random numbers, one a row, by the row's number in the whole cache.
  void number_rows() noexcept {
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    const auto first = static_cast<std::uint64_t>(d_.call.kv.first_row());
    std::uint64_t blocks[2 * 64 + 2];
    std::uint32_t* out = state_.numbers.data();
    for (index_t at = 0; at < rows(); at += 256) {
      const index_t count = std::min<index_t>(256, rows() - at);
      const std::uint64_t from = first + static_cast<std::uint64_t>(at);
      const std::uint64_t ahead = from % 4;
      d_.call.kernels.random_blocks(stream.state().data(), from / 4,
                                    (static_cast<index_t>(ahead) + count + 3) / 4, blocks);
      for (index_t i = 0; i < count; ++i) {
        const std::uint64_t word = ahead + static_cast<std::uint64_t>(i);
        out[at + i] = static_cast<std::uint32_t>(blocks[word / 2] >> (32 * (word % 2)));
      }
    }
  }

  /// 1 / u of a row, never too small.
  float inverse_number(index_t row) const noexcept {
    const auto half = static_cast<std::int32_t>(state_.numbers[row] >> 1U);
    return 0x1p32F / (2.0F * static_cast<float>(half) + 0.5F);
  }

  /// Proposals of the first level, and a head's histogram of them.
  void propose(int h) noexcept {
    constexpr float infinity = std::numeric_limits<float>::infinity();
    const proposal_level level = d_.predictor.level(0);
    const kernels::table& kernels = d_.call.kernels;
    const index_t n = rows();
    float* share = proposals(h);
    float* key = keys(h);
    row_t* odd = d_.ws.picks.data();
    const index_t odd_rows = kernels.not_below(share, n, infinity, odd);
    for (index_t i = 0; i < odd_rows; ++i) share[odd[i]] = -infinity;
    const float largest = kernels.max_of(share, n);
    const double sum = largest > -infinity ? kernels.exp_shifted(share, n, largest, key) : 0.0;
    const double shaped = 1.0 - level.floor;
    const auto per_sum = static_cast<float>(sum > 0.0 ? shaped / sum : 0.0);
    const float even = evenly(level);
    for (index_t i = 0; i < n; ++i)
      share[i] = share[i] == -infinity ? 0.0F : key[i] * per_sum + even;
    for (index_t i = 0; i < odd_rows; ++i) share[odd[i]] = certain_share;
    sizes(h).clear();
    sizes(h).add_all({share, static_cast<std::size_t>(n)});
    kept(h) = {};
  }
  float evenly(const proposal_level& level) const noexcept {
    return static_cast<float>(level.floor / static_cast<double>(d_.rest.size()));
  }

  /// From proposals of the first level to what the second one can make of them at most.
  void extend(int h) noexcept {
    float reach[workspace::block];
    for (index_t at = 0; at < rows(); at += workspace::block) {
      const index_t count = std::min(workspace::block, rows() - at);
      d_.predictor.reach(d_.call, d_.index, h, at, count, reach);
      d_.call.kernels.exp_shifted(reach, count, 0.0F, reach);
      float* share = proposals(h) + at;
      for (index_t i = 0; i < count; ++i) {
        const float most = share[i] * reach[i];  // NaN where a reach is: certain
        share[i] = share[i] > 0.0F ? (most < certain_share ? most : certain_share) : 0.0F;
      }
    }
  }

  void key_rows(int h) noexcept {
    const float* share = proposals(h);
    float* key = keys(h);
    for (index_t i = 0; i < rows(); ++i) key[i] = share[i] * inverse_number(i);
  }

  /// Rows within reach of some head's scale that are not drawn yet, into state.fresh. Takes a hair too
  /// many; `draw` decides.
  void collect() noexcept {
    state_.fresh.reset(rows());
    for (int h = 0; h < heads(); ++h) {
      const auto least = static_cast<float>((1.0 - 0x1p-18) / kept(h).scale);
      const index_t count = d_.call.kernels.not_below(
          keys(h), rows(), std::max(least, std::numeric_limits<float>::min()), d_.ws.picks.data());
      for (const row_t row : d_.ws.picks.first(count))
        if (!state_.ranks.contains(row)) state_.fresh.add(row);
    }
    state_.fresh.list();
  }

  /// Collected rows that were not refined before, into ws.picks; returns their number.
  index_t take_unrefined() noexcept {
    index_t count = 0;
    for (const row_t row : state_.fresh.rows()) {
      if (state_.refined.contains(row)) continue;
      state_.refined.add(row);
      d_.ws.picks[count++] = row;
    }
    return count;
  }

  /// Second level of the first rows: its sum over all rows is estimated from them, with the probabilities
  /// they were reached with, and so are the sizes.
  void refine_first() noexcept {
    const index_t count = take_unrefined();
    const std::span<const row_t> list = d_.ws.picks.first(count);
    float* inverse = d_.ws.squares.data();
    for (index_t i = 0; i < count; ++i)
      inverse[i] =
          static_cast<float>(1.0 / std::max(chance_of(list[static_cast<std::size_t>(i)]), 0x1p-32));
    d_.predictor.refine(d_.call, d_.index, list, shares_of(0), rows(), d_.ws);
    const double shaped = 1.0 - d_.predictor.level(1).floor;
    for (int h = 0; h < heads(); ++h) {
      float* weight = shares_of(h);
      // A code that may be off by anything says nothing: the row stays certain, as level 0 had it.
      for (index_t i = 0; i < count; ++i)
        if (weight[i] > std::numeric_limits<float>::max())
          weight[i] = std::numeric_limits<float>::quiet_NaN();
      const float largest = d_.call.kernels.max_of(weight, count);
      if (!std::isfinite(largest)) continue;
      d_.call.kernels.exp_shifted(weight, count, largest, weight);
      double sum = 0.0;
      for (index_t i = 0; i < count; ++i)
        if (weight[i] >= 0.0F)
          sum += static_cast<double>(weight[i]) * static_cast<double>(inverse[i]);
      kept(h).largest = static_cast<double>(largest);
      kept(h).per_sum = shaped / sum;
      settle(h, list, weight);
      sizes(h).clear();
      for (index_t i = 0; i < count; ++i)
        if (const float share = proposals(h)[list[static_cast<std::size_t>(i)]]; share > 0.0F)
          sizes(h).add(share, static_cast<double>(inverse[i]));
    }
  }

  /// Second level of further rows, at the sums of the first look.
  void refine_more() noexcept {
    const index_t count = take_unrefined();
    for (index_t at = 0; at < count; at += workspace::block) {
      const index_t size = std::min(workspace::block, count - at);
      const std::span<const row_t> list(d_.ws.picks.data() + at, static_cast<std::size_t>(size));
      float* weights = d_.ws.weights.data();
      d_.predictor.refine(d_.call, d_.index, list, weights, workspace::block, d_.ws);
      for (int h = 0; h < heads(); ++h) {
        if (kept(h).per_sum == 0.0) continue;
        float* weight = weights + h * workspace::block;
        d_.call.kernels.exp_shifted(weight, size, static_cast<float>(kept(h).largest), weight);
        settle(h, list, weight);
      }
    }
  }

  /// Lowers the proposals of refined rows to what the second level makes of them. A row that it cannot
  /// predict keeps what the first one said.
  void settle(int h, std::span<const row_t> list, const float* weight) noexcept {
    const auto per_sum = static_cast<float>(kept(h).per_sum);
    const float even = evenly(d_.predictor.level(1));
    for (std::size_t i = 0; i < list.size(); ++i) {
      float& share = proposals(h)[list[i]];
      const float refined = weight[i] * per_sum + even;
      if (refined < share) share = refined;
      keys(h)[list[i]] = share * inverse_number(list[i]);
    }
  }

  /// max_h min(1, c_h g_h) of a row.
  double chance_of(row_t row) const noexcept {
    double chance = 0.0;
    for (int h = 0; h < heads(); ++h)
      chance = std::max(chance, probability_at(kept(h).scale, proposals(h)[row]));
    return chance;
  }

  /// Takes the collected rows whose number says so into the draw, and raises the probabilities of those
  /// drawn before.
  void draw() noexcept {
    d_.drawn.begin_growth();
    for (const row_t row : state_.fresh.rows()) {
      const double chance = chance_of(row);
      if (chance == 0.0 || state_.numbers[row] > threshold_of(chance)) continue;
      const index_t at = d_.drawn.size();
      d_.drawn.append(row, threshold_of(chance));
      state_.ranks.add(row);
      for (int h = 0; h < heads(); ++h) shares_of(h)[at] = proposals(h)[row];
    }
    const std::span<threshold_t> thresholds = d_.drawn.thresholds();
    for (index_t at = 0; at < d_.drawn.fresh(); ++at) {
      double chance = 0.0;
      for (int h = 0; h < heads(); ++h)
        chance = std::max(chance, probability_at(kept(h).scale, shares_of(h)[at]));
      thresholds[static_cast<std::size_t>(at)] = threshold_of(chance);
    }
  }

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
