// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling in proportion to predicted weight, with permanent random numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"
#include "vattention/core/stream_reader.hpp"

namespace vattn {

/// Row i is drawn if its own random number u_i, the same for the whole call and for all heads of a group,
/// is at most p_i = min(1, max_h c_h g_hi): g_hi is its proposal for head h, c_h the head's scale. Scales
/// only grow, so draws are nested, and each row is read once and counts for every head. Proposals are
/// known for every row that can be drawn: a predictor of two levels is asked for the second one of the
/// rows with u_i <= c_h a_hi g1_hi alone, a its reach, and g_hi = min(a_hi g1_hi, g2_hi).
///
/// A row costs a random number, a pass of exp for the sum of the weights, and at each look one comparison of
/// logarithms a head (`kernels::table::within_reach`), which takes a hair too many; p_i is formed for these
/// alone. Per row and head nothing is kept but its log-weight, in ws.seen; at a refined row that of the first
/// level which stands for its proposal.
///
/// The sum that scales the second level is estimated from the rows refined at the first look and kept: it
/// depends on u, which biases the estimates by less than the certificate's stopping does (.1 % measured).
/// Not owning; O(n) a head and look.
template <class Drawing>
class poisson_sample {
public:
  explicit poisson_sample(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  /// The first draw, after `propose`: `size` rows expected for every head. Of two levels the first one sets
  /// out with its own scale for that size, which is too small for what the second one makes of it.
  void begin(index_t size) noexcept {
    d_.ws.seen.exclude(d_.ws.exact.rows());
    number_rows();
    state_.ranks.reset(rows());
    state_.refined.reset(rows());
    for (int h = 0; h < heads(); ++h) {
      sum_weights(h);
      count_shares(h);
      set_size(h, static_cast<double>(size));
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
  /// A share that is certain at any scale, for rows that could not be predicted, and the log-weight that
  /// stands for it.
  static constexpr float certain_share = 1e30F;
  static constexpr float certain_weight = std::numeric_limits<float>::max();
  static constexpr float none = -std::numeric_limits<float>::infinity();
  static constexpr index_t block = workspace::block;

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  float* log_weights(int h) const noexcept { return d_.ws.seen.scores(h).data(); }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }
  double even(int level) const noexcept {
    return d_.predictor.level(level).floor / static_cast<double>(d_.rest.size());
  }
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
    fill_numbers(stream, static_cast<std::uint64_t>(d_.call.kv.first_row()),
                 {state_.numbers.data(), static_cast<std::size_t>(rows())});
  }

  /// Largest log-weight of a head and the sum of the weights relative to it, a block at a time. Rows that
  /// could not be predicted are set apart.
  void sum_weights(int h) noexcept {
    constexpr index_t step = 2048;
    const kernels::table& kernels = d_.call.kernels;
    float* t = log_weights(h);
    row_t* odd = d_.ws.picks.data();
    const index_t odd_rows = kernels.not_below(t, rows(), -none, odd);
    for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = none;
    float largest = none;
    double sum = 0.0;
    for (index_t at = 0; at < rows(); at += step) {
      const index_t count = std::min(step, rows() - at);
      const float top = kernels.max_of(t + at, count);
      if (top > largest) {
        sum *= std::exp(static_cast<double>(largest) - static_cast<double>(top));
        largest = top;
      }
      if (largest > none) sum += kernels.exp_shifted(t + at, count, largest, nullptr);
    }
    for (index_t i = 0; i < odd_rows; ++i) t[odd[i]] = certain_weight;
    kept(h) = {};
    if (sum > 0.0) {
      kept(h).largest[0] = static_cast<double>(largest);
      kept(h).per_sum[0] = (1.0 - d_.predictor.level(0).floor) / sum;
    }
  }

  /// A head's histogram of the first level's shares: of all rows of a short cache; of a long one, of all rows
  /// with a share of `heavy`, and of some 1,024 of the others.
  void count_shares(int h) noexcept {
    constexpr double heavy = 0x1p-12;
    const index_t stride = std::max<index_t>(1, rows() / 1024);
    sizes(h).clear();
    const float* t = log_weights(h);
    const auto least =
        stride == 1 || kept(h).per_sum[0] == 0.0
            ? std::numeric_limits<float>::infinity()
            : static_cast<float>(kept(h).largest[0] + std::log(heavy / kept(h).per_sum[0]));
    row_t* list = d_.ws.picks.data();
    index_t count = 0;
    for (index_t row = 0; row < rows(); row += stride) {
      list[count] = static_cast<row_t>(row);
      count += t[row] < least ? 1 : 0;
    }
    count_listed(h, {list, static_cast<std::size_t>(count)}, static_cast<double>(stride));
    if (stride == 1) return;
    count = d_.call.kernels.not_below(t, rows(), least, list);
    count_listed(h, {list, static_cast<std::size_t>(count)}, 1.0);
  }
  void count_listed(int h, std::span<const row_t> list, double weight) noexcept {
    float share[block];
    for_blocks(list, [&](std::size_t /*at*/, std::span<const row_t> part) {
      weigh(h, part, known::first_level, nullptr, share);
      for (std::size_t i = 0; i < part.size(); ++i) sizes(h).add(share[i], weight);
    });
  }

  /// Calls `each(at, part)` for parts of a list of at most a block of rows.
  template <class Each>
  static void for_blocks(std::span<const row_t> list, Each each) noexcept {
    for (std::size_t at = 0; at < list.size(); at += block)
      each(at, list.subspan(at, std::min<std::size_t>(block, list.size() - at)));
  }

  /// What the log-weights of listed rows stand for: the first level, or proposals that a refinement has
  /// settled, which may be below the first level's least.
  enum class known : std::uint8_t { first_level, settled };

  /// Proposals of at most a block of rows for a head, with what the second level can make of them at most if
  /// `spread` is given.
  void weigh(int h, std::span<const row_t> list, known what, const float* spread,
             float* share) const noexcept {
    const auto count = static_cast<index_t>(list.size());
    const kernels::table& kernels = d_.call.kernels;
    float t[block];
    for (index_t i = 0; i < count; ++i) t[i] = log_weights(h)[list[static_cast<std::size_t>(i)]];
    kernels.exp_shifted(t, count, static_cast<float>(kept(h).largest[0]), share);
    const auto per_sum = static_cast<float>(kept(h).per_sum[0]);
    const float least = what == known::settled ? 0.0F : static_cast<float>(even(0));
    for (index_t i = 0; i < count; ++i) {
      const float plain = share[i] * per_sum;
      share[i] = plain < least ? least : plain;
    }
    if constexpr (levels > 1)
      if (spread != nullptr) {
        float factor[block];
        const float reach = d_.predictor.reach(d_.call, h);
        for (index_t i = 0; i < count; ++i) factor[i] = reach * spread[i];
        kernels.exp_shifted(factor, count, 0.0F, factor);
        for (index_t i = 0; i < count; ++i) share[i] *= factor[i];
      }
    for (index_t i = 0; i < count; ++i) {
      const float most = share[i] < certain_share ? share[i] : certain_share;  // NaN is certain
      share[i] = t[i] == none ? 0.0F : t[i] == certain_weight ? certain_share : most;
    }
  }
  /// Spreads of at most a block of rows; null for predictors of one level.
  const float* spread_of(std::span<const row_t> list, float* out) const noexcept {
    if constexpr (levels > 1) {
      d_.predictor.spread(d_.index, list, out);
      return out;
    } else {
      return nullptr;
    }
  }

  /// Logarithms of a head's proposals at its scale, for the comparison with the numbers.
  kernels::reach_terms reach_of(int h) const noexcept {
    const double scale = std::log2(kept(h).scale);
    float reach = 0.0F;
    if constexpr (levels > 1) reach = kernels::log2_e * d_.predictor.reach(d_.call, h);
    return {static_cast<float>(kept(h).largest[0]),
            static_cast<float>(scale + std::log2(kept(h).per_sum[0])),
            static_cast<float>(scale + std::log2(even(0))), reach};
  }

  /// Rows within reach of some head's scale that are not drawn yet, ascending, into state.fresh. Takes a few
  /// too many; `draw` decides.
  void collect() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    for (int h = 0; h < heads(); ++h) by[h] = reach_of(h);
    float spread[block];
    row_t found[block];
    row_t* out = state_.fresh.data();
    for (index_t at = 0; at < rows(); at += block) {
      const index_t count = std::min(block, rows() - at);
      if constexpr (levels > 1) d_.predictor.spread(d_.index, at, count, spread);
      const index_t hits = d_.call.kernels.within_reach(log_weights(0) + at, d_.ws.seen.rows(),
                                                        heads(), by, levels > 1 ? spread : nullptr,
                                                        state_.numbers.data() + at, count, found);
      for (index_t i = 0; i < hits; ++i) {
        const auto row = static_cast<row_t>(at) + found[i];
        *out = row;
        out += state_.ranks.contains(row) || d_.ws.exact.contains(row) ? 0 : 1;
      }
    }
    fresh_ = {state_.fresh.data(), static_cast<std::size_t>(out - state_.fresh.data())};
  }

  /// Second level of the first rows: its sum over all rows is estimated from them, with the probabilities
  /// they were reached with, and so are the sizes.
  void refine_first() noexcept {
    const std::span<const row_t> list = fresh_;
    float* inverse = d_.ws.squares.data();
    float* first = d_.ws.logits_of(0);  // what level 0 made of them; no row has a logit yet
    const index_t stride = d_.ws.logits_of(1) - first;
    for_blocks(list, [&](std::size_t at, std::span<const row_t> part) {
      float spread[block];
      double chance[block];
      chances_of(part, known::first_level, spread_of(part, spread), first + at, stride, chance);
      for (std::size_t i = 0; i < part.size(); ++i)
        inverse[at + i] = static_cast<float>(1.0 / std::max(chance[i], 0x1p-32));
    });
    d_.predictor.refine(d_.call, d_.index, list, shares_of(0), rows(), d_.ws);
    for (int h = 0; h < heads(); ++h) {
      sum_refined(h, shares_of(h), inverse);
      if (kept(h).per_sum[1] > 0.0) sizes(h).clear();
    }
    for_blocks(list, [&](std::size_t at, std::span<const row_t> part) {
      float spread[block];
      settle(part, spread_of(part, spread), shares_of(0) + at, rows(), first + at, stride);
      for (int h = 0; h < heads(); ++h) {
        if (kept(h).per_sum[1] == 0.0) continue;
        const float* share = first + h * stride + at;
        for (std::size_t i = 0; i < part.size(); ++i)
          sizes(h).add(share[i], static_cast<double>(inverse[at + i]));
      }
    });
  }

  /// The sum of a head's weights of the second level, from its log-weights `t` of the rows in reach, which
  /// become weights. A code that may be off by anything says nothing.
  void sum_refined(int h, float* t, const float* inverse) noexcept {
    const auto count = static_cast<index_t>(fresh_.size());
    for (index_t i = 0; i < count; ++i)
      if (t[i] > std::numeric_limits<float>::max() ||
          log_weights(h)[fresh_[static_cast<std::size_t>(i)]] == certain_weight)
        t[i] = std::numeric_limits<float>::quiet_NaN();
    const float largest = d_.call.kernels.max_of(t, count);
    if (!std::isfinite(largest)) return;
    d_.call.kernels.exp_shifted(t, count, largest, t);
    double sum = 0.0;
    for (index_t i = 0; i < count; ++i)
      if (t[i] >= 0.0F) sum += static_cast<double>(t[i]) * static_cast<double>(inverse[i]);
    kept(h).largest[1] = static_cast<double>(largest);
    kept(h).per_sum[1] = (1.0 - d_.predictor.level(1).floor) / sum;
  }

  /// Second level of further rows, at the sums of the first look.
  void refine_more() noexcept {
    index_t count = 0;
    for (const row_t row : fresh_)
      if (!state_.refined.contains(row)) d_.ws.picks[count++] = row;
    const std::span<const row_t> list(d_.ws.picks.data(), static_cast<std::size_t>(count));
    for_blocks(list, [&](std::size_t /*at*/, std::span<const row_t> part) {
      float* weights = d_.ws.weights.data();
      d_.predictor.refine(d_.call, d_.index, part, weights, block, d_.ws);
      for (int h = 0; h < heads(); ++h)
        if (kept(h).per_sum[1] > 0.0) {
          float* weight = weights + h * block;
          d_.call.kernels.exp_shifted(weight, static_cast<index_t>(part.size()),
                                      static_cast<float>(kept(h).largest[1]), weight);
        }
      float spread[block];
      float* shares = weights + heads() * block;
      spread_of(part, spread);
      for (int h = 0; h < heads(); ++h)
        weigh(h, part, known::first_level, spread, shares + h * block);
      settle(part, spread, weights, block, shares, block);
    });
  }

  /// Lowers the proposals `share[h * share_stride + i]` of at most a block of rows to what the second level
  /// makes of them, `weight[h * stride + i]`, and keeps them. A row that it cannot predict keeps what the first
  /// one said.
  void settle(std::span<const row_t> list, const float* spread, const float* weight, index_t stride,
              float* share, index_t share_stride) noexcept {
    const auto least = static_cast<float>(even(1));
    for (int h = 0; h < heads(); ++h, weight += stride, share += share_stride) {
      const poisson_scale& scale = kept(h);
      const auto per_sum = static_cast<float>(scale.per_sum[1]);
      const auto inverse = static_cast<float>(1.0 / scale.per_sum[0]);
      const auto largest = static_cast<float>(scale.largest[0]);
      const float reach = d_.predictor.reach(d_.call, h);
      float* t = log_weights(h);
      for (std::size_t i = 0; i < list.size(); ++i) {
        if (share[i] == 0.0F || share[i] == certain_share) continue;
        const float refined = weight[i] * per_sum;
        if (per_sum > 0.0F && refined < share[i])
          share[i] = std::min(share[i], std::max(refined, least));
        t[list[i]] = largest + std::log(share[i] * inverse) - reach * spread[i];
      }
    }
    for (const row_t row : list) state_.refined.add(row);
  }

  /// max_h min(1, c_h g_h) of at most a block of rows, and their shares `[g x stride]`.
  void chances_of(std::span<const row_t> list, known what, const float* spread, float* share,
                  index_t stride, double* chance) const noexcept {
    std::fill_n(chance, list.size(), 0.0);
    for (int h = 0; h < heads(); ++h, share += stride) {
      weigh(h, list, what, spread, share);
      for (std::size_t i = 0; i < list.size(); ++i)
        chance[i] = std::max(chance[i], probability_at(kept(h).scale, share[i]));
    }
  }

  /// Takes the collected rows whose number says so into the draw, and raises the probabilities of those
  /// drawn before.
  void draw() noexcept {
    constexpr known what = levels > 1 ? known::settled : known::first_level;
    d_.drawn.begin_growth();
    for_blocks(fresh_, [&](std::size_t /*at*/, std::span<const row_t> part) {
      float spread[block];
      double chance[block];
      float* shares = d_.ws.weights.data();
      chances_of(part, what, spread_of(part, spread), shares, block, chance);
      for (std::size_t i = 0; i < part.size(); ++i) {
        const std::uint32_t number = state_.numbers[part[i]];
        if (static_cast<double>(number) > 0x1p32 * chance[i]) continue;  // most of them
        if (chance[i] == 0.0 || number > threshold_of(chance[i])) continue;
        const index_t place = d_.drawn.size();
        d_.drawn.append(part[i], threshold_of(chance[i]));
        state_.ranks.add(part[i]);
        for (int h = 0; h < heads(); ++h)
          shares_of(h)[place] = shares[h * block + static_cast<index_t>(i)];
      }
    });
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
  /// The rows that the last `collect` found.
  std::span<const row_t> fresh_;
};

}  // namespace vattn
