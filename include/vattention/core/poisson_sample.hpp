// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling in proportion to predicted weight, with permanent random numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"
#include "vattention/core/stream_reader.hpp"
#include "vattention/core/weight_sum.hpp"

namespace vattn {

/// Row i is drawn if its own random number u_i, the same for the whole call and for all heads of a group,
/// is at most p_i = min(1, max_h c_h g_hi): g_hi is its proposal for head h, c_h the head's scale. Scales
/// only grow, so draws are nested, and each row is read once and counts for every head. Proposals are
/// known for every row that can be drawn: a predictor of two levels is asked for the second one of the
/// rows with u_i <= c_h a_hi g1_hi alone, a its reach, and g_hi = min(a_hi g1_hi, g2_hi).
///
/// A row costs a random number, a pass of exp for the sum of the weights, and at each look one comparison of
/// logarithms a head (`kernels::table::within_reach`), which takes a hair too many. For these alone the
/// logarithm of g is kept from then on (`waiting_rows`), and p_i is formed for those that may be drawn.
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
    state_.met.reset(rows());
    state_.waiting.count = 0;
    for (int h = 0; h < heads(); ++h) {
      weigh(h);
      count_shares(h);
      set_size(h, static_cast<double>(size));
    }
    search(foresight);
    if constexpr (levels > 1) {
      refine_first();
      for (int h = 0; h < heads(); ++h) set_size(h, static_cast<double>(size));
      if (sees_enough()) return draw();
      search(1.0);
    }
    settle();
    draw();
  }

  /// Raises the scales of the heads that ask for more than they have.
  void grow(std::span<const index_t> wanted) noexcept {
    for (int h = 0; h < heads(); ++h) {
      const auto size = static_cast<double>(wanted[static_cast<std::size_t>(h)]);
      if (size > kept(h).size) set_size(h, size);
    }
    if (!sees_enough()) {
      search(1.0);
      settle();
    }
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
  /// The first search looks for the rows of a scale so many times the one at hand, which most samples never
  /// outgrow.
  static constexpr double foresight = 2.5;
  /// Shares above it are certain at any scale.
  static constexpr float certain_share = 1e30F;
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr index_t block = workspace::block;

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  const kernels::table& kernels() const noexcept { return d_.call.kernels; }
  waiting_rows& waiting() const noexcept { return state_.waiting; }
  float* log_weights(int h) const noexcept { return d_.ws.seen.scores(h).data(); }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }
  float* logs_of(int h) const noexcept { return waiting().logs.data() + h * rows(); }
  poisson_scale& kept(int h) const noexcept { return state_.scales[h]; }
  share_histogram sizes(int h) const noexcept {
    return share_histogram(state_.histograms.data() + std::ptrdiff_t{share_histogram::buckets} * h);
  }
  /// Every row's equal part of a level's floor.
  double even(int level) const noexcept {
    return d_.predictor.level(level).floor / static_cast<double>(d_.rest.size());
  }
  /// How a level's log-weights become logarithms of proposals.
  kernels::proposal_terms terms_of(int h, int level) const noexcept {
    const double offset = std::log(kept(h).per_sum[level]) - kept(h).largest[level];
    float reach = 0.0F;
    if constexpr (levels > 1)
      if (level == 0) reach = d_.predictor.reach(d_.call, h);
    return {static_cast<float>(offset), static_cast<float>(std::log(even(level))), reach};
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

  /// Largest log-weight of a head and the sum of the weights.
  void weigh(int h) noexcept {
    const weight_sum all = sum_weights(kernels(), log_weights(h), rows(), d_.ws.picks.data());
    kept(h) = {};
    if (!(all.sum > 0.0)) return;
    kept(h).largest[0] = static_cast<double>(all.largest);
    kept(h).per_sum[0] = (1.0 - d_.predictor.level(0).floor) / all.sum;
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
            ? infinity
            : static_cast<float>(kept(h).largest[0] + std::log(heavy / kept(h).per_sum[0]));
    row_t* list = d_.ws.picks.data();
    index_t count = 0;
    for (index_t row = 0; row < rows(); row += stride) {
      list[count] = static_cast<row_t>(row);
      count += t[row] < least ? 1 : 0;
    }
    count_listed(h, {list, static_cast<std::size_t>(count)}, static_cast<double>(stride));
    if (stride == 1) return;
    count = kernels().not_below(t, rows(), least, list);
    count_listed(h, {list, static_cast<std::size_t>(count)}, 1.0);
  }
  void count_listed(int h, std::span<const row_t> list, double weight) noexcept {
    kernels::proposal_terms plain = terms_of(h, 0);
    plain.reach = 0.0F;
    float share[block];
    for_blocks(list, [&](index_t /*at*/, std::span<const row_t> part) {
      gather(log_weights(h), part, share);
      const auto count = static_cast<index_t>(part.size());
      kernels().proposal_logs(share, nullptr, plain, nullptr, {}, count, share);
      kernels().exp_shifted(share, count, 0.0F, share);
      for (index_t i = 0; i < count; ++i) sizes(h).add(share[i], weight);
    });
  }

  /// Calls `each(at, part)` for parts of a list of at most a block of rows.
  template <class Each>
  static void for_blocks(std::span<const row_t> list, Each each) noexcept {
    for (std::size_t at = 0; at < list.size(); at += block)
      each(static_cast<index_t>(at),
           list.subspan(at, std::min<std::size_t>(block, list.size() - at)));
  }
  static void gather(const float* from, std::span<const row_t> list, float* out) noexcept {
    for (const row_t row : list) *out++ = from[row];
  }

  /// True if the rows of all scales have been searched for.
  bool sees_enough() const noexcept {
    for (int h = 0; h < heads(); ++h)
      if (kept(h).scale > kept(h).searched) return false;
    return true;
  }
  /// Appends the rows within reach of `ahead` times some head's scale that were not met before to those that
  /// wait. Takes a few too many; `draw` decides.
  void search(double ahead) noexcept {
    kernels::reach_terms by[workspace::most_heads];
    for (int h = 0; h < heads(); ++h) {
      kept(h).searched = std::max(kept(h).searched, ahead * kept(h).scale);
      const double scale = std::log2(kept(h).searched);
      by[h] = {static_cast<float>(kept(h).largest[0]),
               static_cast<float>(scale + std::log2(kept(h).per_sum[0])),
               static_cast<float>(scale + std::log2(even(0))),
               kernels::log2_e * terms_of(h, 0).reach};
    }
    waiting().settled = waiting().count;
    float spread[block];
    row_t found[block];
    for (index_t at = 0; at < rows(); at += block) {
      const index_t count = std::min(block, rows() - at);
      if constexpr (levels > 1) d_.predictor.spread(d_.index, at, count, spread);
      const index_t hits = kernels().within_reach(log_weights(0) + at, d_.ws.seen.rows(), heads(),
                                                  by, levels > 1 ? spread : nullptr,
                                                  state_.numbers.data() + at, count, found);
      meet(static_cast<row_t>(at), {found, static_cast<std::size_t>(hits)});
    }
  }
  /// Takes note of the rows `first + found` that were not met before and are not read anyway.
  void meet(row_t first, std::span<const row_t> found) noexcept {
    waiting_rows& list = waiting();
    const index_t had = list.count;
    for (const row_t at : found) {
      const row_t row = first + at;
      // Written first and counted then, for whether a row is new cannot be foretold.
      list.rows[list.count] = row;
      list.numbers[list.count] = state_.numbers[row];
      list.count += state_.met.contains(row) || d_.ws.exact.contains(row) ? 0 : 1;
    }
    for (index_t i = had; i < list.count; ++i) state_.met.add(list.rows[i]);
  }
  /// The rows that the last search found.
  std::span<const row_t> found() const noexcept {
    return {waiting().rows.data() + waiting().settled,
            static_cast<std::size_t>(waiting().count - waiting().settled)};
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
  /// Logarithms of what the first level makes of at most a block of rows at most, lowered to what the second one
  /// does if `finer` gives its log-weights.
  void propose(int h, std::span<const row_t> list, const float* spread, const float* finer,
               float* out) const noexcept {
    const bool lowers = levels > 1 && kept(h).per_sum[1] > 0.0;
    float t[block];
    gather(log_weights(h), list, t);
    kernels().proposal_logs(t, spread, terms_of(h, 0), lowers ? finer : nullptr,
                            lowers ? terms_of(h, levels - 1) : kernels::proposal_terms{},
                            static_cast<index_t>(list.size()), out);
  }

  /// Second level of the first rows: its sum over all rows is estimated from them, with the probabilities
  /// they were reached with, and so are the sizes.
  void refine_first() noexcept {
    const std::span<const row_t> list = found();
    float* inverse = d_.ws.squares.data();
    for_blocks(list, [&](index_t at, std::span<const row_t> part) {
      float spread[block];
      spread_of(part, spread);
      for (int h = 0; h < heads(); ++h) propose(h, part, spread, nullptr, logs_of(h) + at);
      invert_chances(at, static_cast<index_t>(part.size()), inverse + at);
    });
    // No row is drawn yet: what is to hold shares holds log-weights of the second level.
    d_.predictor.refine(d_.call, d_.index, list, shares_of(0), rows(), d_.ws);
    for (int h = 0; h < heads(); ++h) {
      sum_refined(h, inverse);
      if (kept(h).per_sum[1] == 0.0) continue;
      lower(h);
      count_refined(h, inverse);
    }
    waiting().settled = waiting().count;
  }
  /// 1 / max_h min(1, c_h g_h) of `count` waiting rows at the scales searched, at most a block; at most 2^32.
  void invert_chances(index_t first, index_t count, float* out) const noexcept {
    std::fill_n(out, count, 32.0F * std::numbers::ln2_v<float>);
    for (int h = 0; h < heads(); ++h) {
      const auto scale = static_cast<float>(std::log(kept(h).searched));
      const float* logs = logs_of(h) + first;
      for (index_t i = 0; i < count; ++i) {
        const float missing = -(scale + logs[i]);
        out[i] = std::min(out[i], std::max(0.0F, missing));
      }
    }
    kernels().exp_shifted(out, count, 0.0F, out);
  }

  /// The sum of a head's weights of the second level, from its log-weights of the rows found, in `shares_of`.
  /// A code that may be off by anything says nothing.
  void sum_refined(int h, const float* inverse) noexcept {
    float* t = shares_of(h);
    const auto count = static_cast<index_t>(found().size());
    for (index_t i = 0; i < count; ++i)
      if (t[i] > std::numeric_limits<float>::max() || logs_of(h)[i] > kernels::certain_log)
        t[i] = std::numeric_limits<float>::quiet_NaN();
    const float largest = kernels().max_of(t, count);
    if (!std::isfinite(largest)) return;
    double sum = 0.0;
    for (index_t at = 0; at < count; at += block) {
      float weight[block];
      const index_t size = std::min(block, count - at);
      kernels().exp_shifted(t + at, size, largest, weight);
      for (index_t i = 0; i < size; ++i)
        if (weight[i] >= 0.0F)
          sum += static_cast<double>(weight[i]) * static_cast<double>(inverse[at + i]);
    }
    kept(h).largest[1] = static_cast<double>(largest);
    kept(h).per_sum[1] = (1.0 - d_.predictor.level(1).floor) / sum;
  }
  /// Proposals of the first level become those of both.
  void lower(int h) const noexcept {
    constexpr kernels::proposal_terms as_is{0.0F, -infinity, 0.0F};
    kernels().proposal_logs(logs_of(h), nullptr, as_is, shares_of(h), terms_of(h, 1),
                            static_cast<index_t>(found().size()), logs_of(h));
  }
  /// A head's histogram of the proposals of the rows found, each of which stands for `inverse` rows.
  void count_refined(int h, const float* inverse) const noexcept {
    sizes(h).clear();
    const auto count = static_cast<index_t>(found().size());
    for (index_t at = 0; at < count; at += block) {
      float share[block];
      const index_t size = std::min(block, count - at);
      kernels().exp_shifted(logs_of(h) + at, size, 0.0F, share);
      for (index_t i = 0; i < size; ++i)
        sizes(h).add(share[i], static_cast<double>(inverse[at + i]));
    }
  }

  /// Proposals of the rows that the last search found, at the sums of the first look.
  void settle() noexcept {
    for_blocks(found(), [&](index_t at, std::span<const row_t> part) {
      const index_t place = waiting().settled + at;
      float norms[block];
      const float* spread = spread_of(part, norms);
      const float* finer = nullptr;
      if constexpr (levels > 1) {
        d_.predictor.refine(d_.call, d_.index, part, d_.ws.weights.data(), block, d_.ws);
        finer = d_.ws.weights.data();
      }
      for (int h = 0; h < heads(); ++h)
        propose(h, part, spread, finer == nullptr ? nullptr : finer + h * block,
                logs_of(h) + place);
    });
  }

  /// Takes the waiting rows whose number says so into the draw, and raises the probabilities of those
  /// drawn before.
  void draw() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    for (int h = 0; h < heads(); ++h)
      by[h] = {0.0F, static_cast<float>(std::log2(kept(h).scale)), -infinity, 0.0F};
    d_.drawn.begin_growth();
    row_t hits[block];
    for (index_t at = 0; at < waiting().count; at += block) {
      const index_t count = std::min(block, waiting().count - at);
      const index_t size = kernels().within_reach(logs_of(0) + at, rows(), heads(), by, nullptr,
                                                  waiting().numbers.data() + at, count, hits);
      draw_of(at, {hits, static_cast<std::size_t>(size)});
    }
    const std::span<threshold_t> thresholds = d_.drawn.thresholds();
    for (index_t i = 0; i < d_.drawn.fresh(); ++i)
      thresholds[static_cast<std::size_t>(i)] = threshold_of(chance_of(shares_of(0) + i, rows()));
  }
  /// The same for rows that are likely to be drawn: `hits`, counted from waiting row `first`.
  void draw_of(index_t first, std::span<const row_t> hits) noexcept {
    float* shares = d_.ws.weights.data();
    for (int h = 0; h < heads(); ++h) {
      gather(logs_of(h) + first, hits, shares + h * block);
      kernels().exp_shifted(shares + h * block, static_cast<index_t>(hits.size()), 0.0F,
                            shares + h * block);
    }
    for (std::size_t i = 0; i < hits.size(); ++i, ++shares) {
      const index_t at = first + hits[i];
      const double chance = chance_of(shares, block);
      if (chance == 0.0 || waiting().numbers[at] > threshold_of(chance)) continue;
      const index_t place = d_.drawn.size();
      d_.drawn.append(waiting().rows[at], threshold_of(chance));
      for (int h = 0; h < heads(); ++h) {
        shares_of(h)[place] = std::min(shares[h * block], certain_share);
        logs_of(h)[at] = -infinity;
      }
    }
  }
  /// max_h min(1, c_h g_h) of one row, from its shares.
  double chance_of(const float* share, index_t stride) const noexcept {
    double chance = 0.0;
    for (int h = 0; h < heads(); ++h)
      chance = std::max(chance, probability_at(kept(h).scale, share[h * stride]));
    return chance;
  }

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
