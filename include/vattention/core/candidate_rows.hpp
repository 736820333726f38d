// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows that a sample in proportion to predicted weight may take: proposals, and the search for them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "vattention/core/draw.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"
#include "vattention/core/stream_reader.hpp"
#include "vattention/core/weight_sum.hpp"

namespace vattn {

/// Proposals g_hi of the rows of a call for its heads, the scale c_h of each head, and the rows within reach of
/// them: those with u_i <= c_h a_hi g1_hi for some head, g1 the proposal of the predictor's first level and a its
/// reach, 1 of one level. These stand in draws.settled, with their numbers u_i and the logarithms of
/// g_hi = min(a_hi g1_hi, g2_hi), until a draw takes them.
///
/// A pilot of 2,048 rows guesses the scale that a first sample will have. One pass over the cache then predicts
/// each row, draws its number and keeps the row if it is within reach of `foresight` times that scale; nothing is
/// kept of the others. Rows wait, in draws.waiting, until a scale reaches them; only then is a second level asked
/// for them. A later search passes over the cache again, and is for samples that outgrow the first.
///
/// The sums that scale the levels are estimated, once: that of the first level from the pilot and the rows that are
/// heavy enough to be found whatever their number, so that it does not depend on u (off by 1.5 % as a rule and by
/// 7 % at most on 192 synthetic queries); that of the second level from the rows refined first, with the
/// probabilities they were found with. It depends on u, which biases the estimates by less than the certificate's
/// stopping does (.1 % measured). Sums say which sample is drawn; the probabilities that it is drawn with are known
/// exactly whatever they are.
/// Not owning. Passes are shared by the workers of the call.
template <class Drawing>
class candidate_rows {
public:
  explicit candidate_rows(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  static constexpr int levels =
      std::remove_cvref_t<decltype(std::declval<Drawing>().predictor)>::levels;
  static_assert(levels == 1 || levels == 2);
  /// The first search looks for the rows of a scale so many times the one that the pilot guesses, and later ones
  /// for those of so many times the one at hand: most samples never outgrow it.
  static constexpr double foresight = 12.0;

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  const kernels::table& kernels() const noexcept { return d_.call.kernels; }
  reached_rows& waiting() const noexcept { return state_.waiting; }
  reached_rows& settled() const noexcept { return state_.settled; }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }
  poisson_scale& kept(int h) const noexcept { return state_.scales[h]; }

  /// The numbers at listed places.
  template <class T>
  static void gather(const T* from, std::span<const row_t> list, T* out) noexcept {
    for (const row_t row : list) *out++ = from[row];
  }

  /// Forgets what another call found, and finds what a first sample of `size` rows may take.
  void begin(index_t size) noexcept {
    state_.met.reset(rows());
    state_.refined = waiting().count = settled().count = 0;
    const index_t pilot = read_pilot();
    for (int h = 0; h < heads(); ++h) guess(h, pilot, static_cast<double>(size));
    pass_over_rows();
    for (int h = 0; h < heads(); ++h) {
      weigh_found(h, pilot);
      set_size(h, static_cast<double>(size));
    }
    if constexpr (levels > 1) refine_first();
  }

  double scale_for(int h, double size) const noexcept {
    if (size >= static_cast<double>(d_.rest.size())) return infinite;
    return std::max(kept(h).scale, sizes(h).scale_for(size));
  }
  void set_size(int h, double size) noexcept {
    kept(h).scale = scale_for(h, size);
    kept(h).size = std::min(size, static_cast<double>(d_.rest.size()));
  }

  /// True if the random number of a settled row is at most the threshold. Its lower half hardly ever decides.
  bool at_most(index_t i, threshold_t threshold) const noexcept {
    const std::uint16_t upper = settled().numbers[i];
    if (upper != threshold >> 16U) return upper < threshold >> 16U;
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    const auto row = static_cast<std::uint64_t>(d_.call.kv.first_row()) + settled().rows[i];
    return sampling_number(stream, row) <= threshold;
  }

  /// True if the rows of all scales have been searched for.
  bool sees_enough() const noexcept { return covers(&poisson_scale::searched); }
  /// Appends the rows within reach of `foresight` times some head's scale that were not met before to those that
  /// wait. Takes a few too many; `draw` decides.
  void search() noexcept {
    for (int h = 0; h < heads(); ++h)
      kept(h).searched.raise(rates_at(h, foresight * kept(h).scale));
    pass_over_rows();
  }
  /// Settles the waiting rows within reach of the scales: their proposals are formed.
  void settle() noexcept {
    if (covers(&poisson_scale::settled)) return;
    for (int h = 0; h < heads(); ++h) kept(h).settled.raise(rates_at(h, kept(h).scale));
    const index_t first = settled().count;
    take_reached();
    over_settled(first, [&](workspace& scratch, index_t at, std::span<const row_t> part) {
      float norms[block];
      const float* spread = spread_of(part, norms);
      const float* finer = nullptr;
      if constexpr (levels > 1) {
        finer = scratch.weights.data();
        refine(part, at, scratch.weights.data(), block, scratch);
      }
      for (int h = 0; h < heads(); ++h)
        propose(h, at, static_cast<index_t>(part.size()), spread,
                finer == nullptr ? nullptr : finer + h * block);
    });
  }

private:
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr double infinite = std::numeric_limits<double>::infinity();
  static constexpr index_t block = workspace::block;
  static constexpr index_t pilot_rows = 2048;

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
  bool covers(reach_rates poisson_scale::*rates) const noexcept {
    for (int h = 0; h < heads(); ++h)
      if (!(kept(h).*rates).cover(rates_at(h, kept(h).scale))) return false;
    return true;
  }
  void reach_of(reach_rates poisson_scale::*rates, kernels::reach_terms* by) const noexcept {
    constexpr auto log2_e = std::numbers::log2e;
    for (int h = 0; h < heads(); ++h) {
      const reach_rates& at = kept(h).*rates;
      by[h] = {static_cast<float>(kept(h).largest[0]),
               static_cast<float>(log2_e * (at.weight + kept(h).largest[0])),
               static_cast<float>(log2_e * at.even), kernels::log2_e * kept(h).reach};
    }
  }

  /// Log-weights of evenly spread blocks of rows into `shares_of`, -inf of rows that are read anyway; returns
  /// how many.
  index_t read_pilot() noexcept {
    constexpr index_t size = 4 * kernels::code_block;  // long enough for the memory to follow
    const index_t blocks = (rows() + size - 1) / size;
    const index_t wanted = std::min(blocks, pilot_rows / size);
    const auto first_of = [&](index_t k) { return k * blocks / wanted * size; };
    index_t count = 0;
    for (index_t k = 0; k < wanted; ++k) {
      const index_t at = first_of(k);
      if constexpr (requires { d_.predictor.expect(d_.index, at, size); })
        if (k + 1 < wanted)
          d_.predictor.expect(d_.index, first_of(k + 1), std::min(size, rows() - first_of(k + 1)));
      const index_t part = std::min(size, rows() - at);
      d_.predictor.propose(d_.call, d_.index, at, part, shares_of(0) + count, rows(), d_.ws, d_.ws);
      for (index_t i = 0; i < part; ++i)
        if (d_.ws.exact.contains(static_cast<row_t>(at + i)))
          for (int h = 0; h < heads(); ++h) shares_of(h)[count + i] = -infinity;
      count += part;
    }
    return count;
  }
  /// Rates at which a head's first sample of `size` rows is looked for, from its log-weights of the pilot.
  void guess(int h, index_t pilot, double size) noexcept {
    kept(h) = {};
    if constexpr (levels > 1) kept(h).reach = d_.predictor.reach(d_.call, h);
    const std::span<float> all(shares_of(h), static_cast<std::size_t>(pilot));
    weigh(h, {}, all, each_of(all));
    kept(h).searched = rates_at(h, foresight * scale_for(h, size));
  }
  /// Rows that one of a pilot stands for.
  double each_of(std::span<const float> pilot) const noexcept {
    index_t count = 0;
    for (const float t : pilot) count += t == -infinity ? 0 : 1;
    return static_cast<double>(d_.rest.size()) / static_cast<double>(std::max<index_t>(count, 1));
  }
  /// The sum of a head's weights at the first level, and the histogram of its shares, from log-weights of rows that
  /// are known, and of others that stand for `each` rows. One that is not finite is certain and counts for nothing.
  void weigh(int h, std::span<float> known, std::span<float> others, double each) noexcept {
    const auto sum_of = [&](std::span<float> t) {
      const auto count = static_cast<index_t>(t.size());
      const weight_sum sum = sum_weights(kernels(), t.data(), count);
      return std::isfinite(sum.sum) ? sum
                                    : sum_predicted(kernels(), t.data(), count, d_.ws.picks.data());
    };
    weight_sum all = sum_of(others);
    all.sum *= each;
    all.add(sum_of(known));
    kept(h).per_sum[0] = 0.0;
    if (all.sum > 0.0) {
      kept(h).largest[0] = static_cast<double>(all.largest);
      kept(h).per_sum[0] = (1.0 - d_.predictor.level(0).floor) / all.sum;
    }
    sizes(h).clear();
    count_shares(h, known, 1.0);
    count_shares(h, others, each);
  }
  void count_shares(int h, std::span<const float> t, double each) const noexcept {
    kernels::proposal_terms plain = terms_of(h, 0);
    plain.reach = 0.0F;
    float share[block];
    for (std::size_t at = 0; at < t.size(); at += block) {
      const auto count = static_cast<index_t>(std::min<std::size_t>(block, t.size() - at));
      kernels().proposal_logs(t.data() + at, nullptr, plain, nullptr, {}, count, share);
      kernels().exp_shifted(share, count, 0.0F, share);
      for (index_t i = 0; i < count; ++i) sizes(h).add(share[i], each);
    }
  }

  /// One pass over the cache: appends the rows within reach of the rates to search for that were not met before.
  void pass_over_rows() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    reach_of(&poisson_scale::searched, by);
    // Chunks leave what they find where it would lie were all of their rows found; then they close up.
    const index_t first = waiting().count;
    d_.ws.workers.over_rows(rows(), d_.ws, [&](workspace& scratch, half_open part) {
      d_.ws.chunk_counts[part.first / row_chunks::size] =
          search_part(part, by, first + part.first, scratch);
    });
    const row_chunks chunks(rows());
    for (index_t chunk = 0; chunk < chunks.count(); ++chunk)
      waiting().close_up(first + chunks[chunk].first, d_.ws.chunk_counts[chunk], heads());
    for (index_t i = first; i < waiting().count; ++i) state_.met.add(waiting().rows[i]);
  }
  /// Writes the rows of a chunk that are within reach, were not met before and are not read anyway, from
  /// place `to` on; returns their number.
  index_t search_part(half_open part, const kernels::reach_terms* by, index_t to,
                      workspace& scratch) const noexcept {
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    const auto first_row = static_cast<std::uint64_t>(d_.call.kv.first_row());
    float* t = scratch.weights.data();
    std::uint16_t numbers[block];
    float spread[block];
    row_t hits[block];
    const index_t before = to;
    for (index_t at = part.first; at < part.last; at += block) {
      const index_t size = std::min(block, part.last - at);
      d_.predictor.propose(d_.call, d_.index, at, size, t, block, d_.ws, scratch);
      if constexpr (levels > 1) d_.predictor.spread(d_.index, at, size, spread);
      fill_high_halves(stream, first_row + static_cast<std::uint64_t>(at),
                       {numbers, static_cast<std::size_t>(size)});
      const index_t found = kernels().within_reach(
          t, block, heads(), by, levels > 1 ? spread : nullptr, numbers, size, hits);
      const std::span<const row_t> kept =
          without_known(at, {hits, static_cast<std::size_t>(found)});
      row_t* rows_to = waiting().rows.data() + to;
      for (const row_t hit : kept) *rows_to++ = static_cast<row_t>(at) + hit;
      gather(numbers, kept, waiting().numbers.data() + to);
      for (int h = 0; h < heads(); ++h) gather(t + h * block, kept, waiting().logs_of(h) + to);
      to += static_cast<index_t>(kept.size());
    }
    return to - before;
  }
  /// Of places in the block from row `at` on those whose rows were not met before and are not read anyway.
  std::span<const row_t> without_known(index_t at, std::span<row_t> hits) const noexcept {
    if (state_.met.size() == 0 && !d_.ws.exact.lists_any(at, at + block)) return hits;
    std::size_t count = 0;
    for (const row_t hit : hits) {
      // Written first and counted then, for whether a row is known cannot be foretold.
      const row_t row = static_cast<row_t>(at) + hit;
      hits[count] = hit;
      count += state_.met.contains(row) || d_.ws.exact.contains(row) ? 0U : 1U;
    }
    return hits.first(count);
  }

  /// After the first pass: weighs the first level anew. The rows that are heavy enough to be found whatever their
  /// number are known then, and the pilot need stand for the others alone: no number has a part in this.
  void weigh_found(int h, index_t pilot) noexcept {
    const auto heavy = static_cast<float>(-kept(h).searched.weight);
    const float* found = waiting().logs_of(h);
    row_t* list = d_.ws.picks.data();
    float* known = d_.ws.squares.data();
    const index_t count = kernels().not_below(found, waiting().count, heavy, list);
    gather(found, {list, static_cast<std::size_t>(count)}, known);
    const std::span<float> others(shares_of(h), static_cast<std::size_t>(pilot));
    const double each = each_of(others);
    for (float& t : others)
      if (!(t < heavy)) t = -infinity;
    weigh(h, {known, static_cast<std::size_t>(count)}, others, each);
  }

  /// The second level of the rows within reach of the first level's scale: its sum and the sizes are estimated from
  /// them, with the probabilities that they were found with.
  void refine_first() noexcept {
    float* inverse = d_.ws.squares.data();
    for (int h = 0; h < heads(); ++h)
      kept(h).settled = rates_at(h, kept(h).scale).within(kept(h).searched);
    take_reached();
    over_settled(0, [&](workspace& scratch, index_t at, std::span<const row_t> part) {
      const auto count = static_cast<index_t>(part.size());
      float norms[block];
      const float* spread = spread_of(part, norms);
      // No row is drawn yet: what is to hold shares holds log-weights of the second level.
      refine(part, at, shares_of(0) + at, rows(), scratch);
      invert_chances(at, count, spread, inverse + at);
      for (int h = 0; h < heads(); ++h) propose(h, at, count, spread, nullptr);
    });
    for (int h = 0; h < heads(); ++h) {
      lower(h, inverse);
      if (kept(h).per_sum[1] > 0.0) count_sizes(h, inverse);
    }
  }
  /// Proposals of the first level become those of both.
  void lower(int h, const float* inverse) noexcept {
    constexpr kernels::proposal_terms as_is{0.0F, -infinity, 0.0F};
    const index_t count = settled().count;
    float* logs = settled().logs_of(h);
    float* finer = shares_of(h);
    // A code that may be off by anything says nothing.
    for (index_t i = 0; i < count; ++i)
      if (finer[i] > std::numeric_limits<float>::max() || logs[i] > kernels::certain_log)
        finer[i] = std::numeric_limits<float>::quiet_NaN();
    sum_refined(h, finer, inverse);
    if (kept(h).per_sum[1] > 0.0)
      kernels().proposal_logs(logs, nullptr, as_is, finer, terms_of(h, 1), count, logs);
  }

  /// Moves the waiting rows within reach of the rates to settle to the settled ones. From the last block to the
  /// first, so that the rows that fill the gaps are known to stay.
  void take_reached() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    reach_of(&poisson_scale::settled, by);
    reached_rows& from = waiting();
    float norms[block];
    row_t hits[block];
    const index_t blocks = (from.count + block - 1) / block;
    for (index_t at = (blocks - 1) * block; at >= 0; at -= block) {
      const index_t count = std::min(block, from.count - at);
      const float* spread =
          spread_of({from.rows.data() + at, static_cast<std::size_t>(count)}, norms);
      const index_t found = kernels().within_reach(from.logs_of(0) + at, from.stride, heads(), by,
                                                   spread, from.numbers.data() + at, count, hits);
      const std::span<const row_t> list(hits, static_cast<std::size_t>(found));
      settled().append(from, at, list, heads());
      from.remove(at, list, heads());
    }
    if constexpr (levels > 1) state_.refined = settled().count;
  }

  /// Calls `each(scratch, at, part)` for the blocks of the settled rows from `first` on, shared by the workers of
  /// the call.
  template <class Each>
  void over_settled(index_t first, Each each) noexcept {
    const index_t last = settled().count;
    d_.ws.workers.for_each(
        (last - first + block - 1) / block, d_.ws, [&](workspace& scratch, index_t item) {
          const index_t at = first + item * block;
          each(scratch, at,
               std::span<const row_t>(settled().rows.data() + at,
                                      static_cast<std::size_t>(std::min(block, last - at))));
        });
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
  /// Log-weights of the second level of the settled rows from `at` on, which still have those of the first.
  void refine(std::span<const row_t> part, index_t at, float* out, index_t stride,
              workspace& scratch) const noexcept {
    d_.predictor.refine(d_.call, d_.index, part, settled().logs_of(0) + at, settled().stride, out,
                        stride, d_.ws, scratch);
  }
  /// Log-weights of `count` settled rows become logarithms of what the first level makes of them at most, lowered
  /// to what the second one does if `finer` gives its log-weights.
  void propose(int h, index_t at, index_t count, const float* spread,
               const float* finer) const noexcept {
    const bool lowers = levels > 1 && kept(h).per_sum[1] > 0.0;
    float* logs = settled().logs_of(h) + at;
    kernels().proposal_logs(logs, spread, terms_of(h, 0), lowers ? finer : nullptr,
                            lowers ? terms_of(h, levels - 1) : kernels::proposal_terms{}, count,
                            logs);
  }

  /// What each of `count` settled rows, at most a block, stands for: 1 / p, p the probability that it is within
  /// reach of the rates to settle, at most 2^32; 0 for a row whose number is above p, which was taken in too
  /// many. From log-weights.
  void invert_chances(index_t first, index_t count, const float* spread,
                      float* out) const noexcept {
    std::fill_n(out, count, 32.0F * std::numbers::ln2_v<float>);
    float logs[block];
    for (int h = 0; h < heads(); ++h) {
      const reach_rates& at = kept(h).settled;
      const kernels::proposal_terms terms{static_cast<float>(at.weight),
                                          static_cast<float>(at.even), kept(h).reach};
      kernels().proposal_logs(settled().logs_of(h) + first, spread, terms, nullptr, {}, count,
                              logs);
      for (index_t i = 0; i < count; ++i) out[i] = std::min(out[i], std::max(0.0F, -logs[i]));
    }
    kernels().exp_shifted(out, count, 0.0F, out);
    const std::uint16_t* numbers = settled().numbers.data() + first;
    for (index_t i = 0; i < count; ++i) {
      // The middle of what the upper half says.
      const float number = static_cast<float>(numbers[i]) + 0.5F;
      out[i] = number * out[i] <= 0x1p16F ? out[i] : 0.0F;
    }
  }

  /// The sum of a head's weights of the second level over all rows, from log-weights of the settled rows, which
  /// stand for `inverse` rows each. NaN counts for nothing.
  void sum_refined(int h, const float* t, const float* inverse) noexcept {
    const index_t count = settled().count;
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
    if (!(sum > 0.0)) return;
    kept(h).largest[1] = static_cast<double>(largest);
    kept(h).per_sum[1] = (1.0 - d_.predictor.level(1).floor) / sum;
  }
  /// A head's histogram of the proposals of the settled rows, each of which stands for `inverse` rows.
  void count_sizes(int h, const float* inverse) const noexcept {
    sizes(h).clear();
    const index_t count = settled().count;
    for (index_t at = 0; at < count; at += block) {
      float share[block];
      const index_t size = std::min(block, count - at);
      kernels().exp_shifted(settled().logs_of(h) + at, size, 0.0F, share);
      for (index_t i = 0; i < size; ++i)
        sizes(h).add(share[i], static_cast<double>(inverse[at + i]));
    }
  }

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
