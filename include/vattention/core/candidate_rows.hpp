// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows that a sample in proportion to predicted weight may take: proposals, and the search for them.
#pragma once

#include "vattention/core/proposal_pilot.hpp"
#include "vattention/core/stream_reader.hpp"

namespace vattn {

/// Proposals g_hi of the rows of a call for its heads, the scale c_h of each head, and the rows within reach of
/// them: those with u_i <= c_h a_hi g1_hi for some head, g1 the proposal of the predictor's first level and a its
/// reach, 1 of one level. These stand in draws.settled, with their numbers u_i and the logarithms of
/// g_hi = min(a_hi g1_hi, g2_hi), until a draw takes them.
///
/// A pilot guesses the scale that a first sample will have. One pass over the cache then predicts each row, draws its
/// number and keeps the row if it is within reach of `foresight` times that scale; nothing is kept of the others. Rows
/// wait, in draws.waiting, until a scale reaches them; only then is a second level asked for them. A later search
/// passes over the cache again, and is for samples that outgrow the first.
///
/// The sums that scale the levels are estimated, once: that of the first level from the pilot, see `proposal_pilot`;
/// that of the second level from the rows refined first, with the probabilities they were found with. It depends on u,
/// which biases the estimates by less than the certificate's stopping does (.1 % measured). Sums say which sample is
/// drawn; the probabilities that it is drawn with are known exactly whatever they are.
/// Not owning. Passes are shared by the workers of the call.
template <class Drawing>
class candidate_rows : public proposal_scales<Drawing> {
  using scales = proposal_scales<Drawing>;

public:
  using scales::levels, scales::heads, scales::rows, scales::kernels, scales::kept, scales::sizes,
      scales::waiting, scales::settled, scales::shares_of, scales::set_size, scales::gather;

  explicit candidate_rows(const Drawing& d) noexcept : scales(d) {}

  /// Forgets what another call found, and finds what a first sample of `size` rows may take.
  void begin(index_t size) noexcept {
    state_.met.reset(rows());
    waiting().count = settled().count = 0;
    proposal_pilot pilot(d_);
    for (int h = 0; h < heads(); ++h) pilot.guess(h, static_cast<double>(size));
    pass_over_rows();
    for (int h = 0; h < heads(); ++h) {
      pilot.weigh_found(h);
      set_size(h, static_cast<double>(size));
    }
    if constexpr (levels > 1) refine_first();
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
    for (const reached_rows* met : {&waiting(), &settled()})
      for (index_t i = 0; i < met->count; ++i) state_.met.add(met->rows[i]);
    for (int h = 0; h < heads(); ++h)
      kept(h).searched.raise(rates_at(h, scales::foresight * kept(h).scale));
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
  using scales::d_, scales::state_, scales::infinity, scales::block, scales::terms_of,
      scales::rates_at, scales::covers, scales::reach_of;

  /// One pass over the cache: appends the rows within reach of the rates to search for that were not met before.
  void pass_over_rows() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    reach_of(&poisson_scale::searched, by);
    if (d_.ws.workers.alone()) {
      waiting().count += search_part({0, rows()}, by, waiting().count, d_.ws);
      return;
    }
    // Chunks leave what they find where it would lie were all of their rows found; then they close up.
    const index_t first = waiting().count;
    d_.ws.workers.over_rows(rows(), d_.ws, [&](workspace& scratch, half_open part) {
      d_.ws.chunk_counts[part.first / row_chunks::size] =
          search_part(part, by, first + part.first, scratch);
    });
    const row_chunks chunks(rows());
    for (index_t chunk = 0; chunk < chunks.count(); ++chunk)
      waiting().close_up(first + chunks[chunk].first, d_.ws.chunk_counts[chunk], heads());
  }
  /// Writes the rows of a part that are within reach, were not met before and are not read anyway, from
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
      const std::span<const row_t> fresh =
          without_known(at, {hits, static_cast<std::size_t>(found)});
      row_t* rows_to = waiting().rows.data() + to;
      for (const row_t hit : fresh) *rows_to++ = static_cast<row_t>(at) + hit;
      gather(numbers, fresh, waiting().numbers.data() + to);
      for (int h = 0; h < heads(); ++h) gather(t + h * block, fresh, waiting().logs_of(h) + to);
      to += static_cast<index_t>(fresh.size());
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
    share_counts<double> counts;
    for (index_t at = 0; at < settled().count; at += block) {
      float share[block];
      const index_t size = std::min(block, settled().count - at);
      kernels().exp_shifted(settled().logs_of(h) + at, size, 0.0F, share);
      counts.add({share, static_cast<std::size_t>(size)}, inverse + at);
    }
    counts.add_to(sizes(h), 1.0);
  }
};

}  // namespace vattn
