// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows that a sample in proportion to predicted weight may take: proposals, and the search for them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "vattention/core/draw.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/row_lists.hpp"
#include "vattention/core/share_histogram.hpp"
#include "vattention/core/stream_reader.hpp"

namespace vattn {

/// Proposals g_hi of the rows of a call for its heads, the scale c_h of each head, and the rows within reach of
/// them: those with u_i <= c_h a_hi g1_hi for some head, g1 the proposal of the predictor's first level and a its
/// reach, 1 of one level. These wait in draws.waiting, with their numbers u_i and the logarithms of
/// g_hi = min(a_hi g1_hi, g2_hi), until a draw takes them.
///
/// The sum that scales the second level is estimated from the rows refined at the first look and kept: it
/// depends on u, which biases the estimates by less than the certificate's stopping does (.1 % measured).
/// Not owning. Passes over all rows and over the rows found are shared by the workers of the call.
template <class Drawing>
class candidate_rows {
public:
  explicit candidate_rows(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  static constexpr int levels =
      std::remove_cvref_t<decltype(std::declval<Drawing>().predictor)>::levels;
  static_assert(levels == 1 || levels == 2);

  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  const kernels::table& kernels() const noexcept { return d_.call.kernels; }
  waiting_rows& waiting() const noexcept { return state_.waiting; }
  float* log_weights(int h) const noexcept { return d_.ws.seen.scores(h).data(); }
  float* shares_of(int h) const noexcept { return state_.shares.data() + h * rows(); }
  float* logs_of(int h) const noexcept { return waiting().logs.data() + h * rows(); }
  poisson_scale& kept(int h) const noexcept { return state_.scales[h]; }

  /// The numbers at listed places.
  static void gather(const float* from, std::span<const row_t> list, float* out) noexcept {
    for (const row_t row : list) *out++ = from[row];
  }

  /// Of a predictor's log-weights: numbers the rows, sums the weights, and forgets what another call found.
  void begin() noexcept {
    d_.ws.seen.exclude(d_.ws.exact.rows());
    number_rows();
    state_.met.reset(rows());
    waiting().count = 0;
    sum_chunks();
    for (int h = 0; h < heads(); ++h) {
      weigh(h);
      count_shares(h);
    }
  }

  double scale_for(int h, double size) const noexcept {
    if (size >= static_cast<double>(d_.rest.size())) return std::numeric_limits<double>::infinity();
    return std::max(kept(h).scale, sizes(h).scale_for(size));
  }
  void set_size(int h, double size) noexcept {
    kept(h).scale = scale_for(h, size);
    kept(h).size = std::min(size, static_cast<double>(d_.rest.size()));
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
               static_cast<float>(scale + std::log2(even(0))), kernels::log2_e * kept(h).reach};
    }
    waiting().settled = waiting().count;
    const index_t count =
        list_rows(rows(), d_.ws, d_.ws.picks.data(),
                  [&](half_open part, row_t* to) { return search_part(part, by, to); });
    for (const row_t row : d_.ws.picks.first(count)) {
      state_.met.add(row);
      waiting().rows[waiting().count] = row;
      waiting().numbers[waiting().count++] = state_.numbers[row];
    }
  }
  /// Second level of the first rows: its sum over all rows is estimated from them, with the probabilities
  /// they were reached with, and so are the sizes.
  void refine_first() noexcept {
    float* inverse = d_.ws.squares.data();
    over_found([&](workspace& scratch, index_t at, std::span<const row_t> part) {
      float spread[block];
      spread_of(part, spread);
      for (int h = 0; h < heads(); ++h) propose(h, part, spread, nullptr, logs_of(h) + at);
      invert_chances(at, static_cast<index_t>(part.size()), inverse + at);
      // No row is drawn yet: what is to hold shares holds log-weights of the second level.
      d_.predictor.refine(d_.call, d_.index, part, shares_of(0) + at, rows(), d_.ws, scratch);
    });
    for (int h = 0; h < heads(); ++h) {
      sum_refined(h, inverse);
      if (kept(h).per_sum[1] == 0.0) continue;
      lower(h);
      count_refined(h, inverse);
    }
    waiting().settled = waiting().count;
  }
  /// Proposals of the rows that the last search found, at the sums of the first look.
  void settle() noexcept {
    over_found([&](workspace& scratch, index_t at, std::span<const row_t> part) {
      const index_t place = waiting().settled + at;
      float norms[block];
      const float* spread = spread_of(part, norms);
      const float* finer = nullptr;
      if constexpr (levels > 1) {
        float* t = scratch.weights.data();
        d_.predictor.refine(d_.call, d_.index, part, t, block, d_.ws, scratch);
        finer = t;
      }
      for (int h = 0; h < heads(); ++h)
        propose(h, part, spread, finer == nullptr ? nullptr : finer + h * block,
                logs_of(h) + place);
    });
  }

private:
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr index_t block = workspace::block;

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

  /// The call's random numbers, one a row, by the row's number in the whole cache.
  void number_rows() noexcept {
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    const auto first = static_cast<std::uint64_t>(d_.call.kv.first_row());
    over_rows([&](half_open part) {
      fill_numbers(stream, first + static_cast<std::uint64_t>(part.first),
                   {state_.numbers.data() + part.first, static_cast<std::size_t>(part.size())});
    });
  }
  /// Calls `each(part)` for the chunks of the visible rows, shared by the workers of the call.
  template <class Each>
  void over_rows(Each each) noexcept {
    d_.ws.workers.over_rows(rows(), d_.ws,
                            [&](workspace& /*scratch*/, half_open part) { each(part); });
  }

  /// Sums of the weights of each chunk of rows.
  void sum_chunks() noexcept {
    over_rows([&](half_open part) {
      for (int h = 0; h < heads(); ++h)
        state_.chunk_weights[chunk_of(h, part)] =
            sum_weights(kernels(), log_weights(h) + part.first, part.size());
    });
  }
  index_t chunk_of(int h, half_open part) const noexcept {
    return h * row_chunks(rows()).count() + part.first / row_chunks::size;
  }
  /// Largest log-weight of a head and the sum of the weights. Rows that could not be predicted are set apart.
  void weigh(int h) noexcept {
    const row_chunks chunks(rows());
    weight_sum all;
    for (index_t chunk = 0; chunk < chunks.count(); ++chunk)
      all.add(state_.chunk_weights[chunk_of(h, chunks[chunk])]);
    if (!std::isfinite(all.sum))
      all = sum_predicted(kernels(), log_weights(h), rows(), d_.ws.picks.data());
    kept(h) = {};
    if constexpr (levels > 1) kept(h).reach = d_.predictor.reach(d_.call, h);
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
    count = list_not_below({t, static_cast<std::size_t>(rows())}, least, d_.ws, list);
    count_listed(h, {list, static_cast<std::size_t>(count)}, 1.0);
  }
  void count_listed(int h, std::span<const row_t> list, double weight) noexcept {
    kernels::proposal_terms plain = terms_of(h, 0);
    plain.reach = 0.0F;
    float share[block];
    for (std::size_t at = 0; at < list.size(); at += block) {
      const auto part = list.subspan(at, std::min<std::size_t>(block, list.size() - at));
      gather(log_weights(h), part, share);
      const auto count = static_cast<index_t>(part.size());
      kernels().proposal_logs(share, nullptr, plain, nullptr, {}, count, share);
      kernels().exp_shifted(share, count, 0.0F, share);
      for (index_t i = 0; i < count; ++i) sizes(h).add(share[i], weight);
    }
  }

  /// Writes the rows of a chunk that are within reach, were not met before and are not read anyway.
  index_t search_part(half_open part, const kernels::reach_terms* by, row_t* to) const noexcept {
    float spread[block];
    row_t hits[block];
    index_t count = 0;
    for (index_t at = part.first; at < part.last; at += block) {
      const index_t size = std::min(block, part.last - at);
      if constexpr (levels > 1) d_.predictor.spread(d_.index, at, size, spread);
      const index_t found = kernels().within_reach(log_weights(0) + at, d_.ws.seen.rows(), heads(),
                                                   by, levels > 1 ? spread : nullptr,
                                                   state_.numbers.data() + at, size, hits);
      for (index_t i = 0; i < found; ++i) {
        // Written first and counted then, for whether a row is new cannot be foretold.
        to[count] = static_cast<row_t>(at) + hits[i];
        count += state_.met.contains(to[count]) || d_.ws.exact.contains(to[count]) ? 0 : 1;
      }
    }
    return count;
  }
  /// The rows that the last search found.
  std::span<const row_t> found() const noexcept {
    return {waiting().rows.data() + waiting().settled,
            static_cast<std::size_t>(waiting().count - waiting().settled)};
  }

  /// Calls `each(scratch, at, part)` for the blocks of the rows that the last search found, shared by the workers
  /// of the call.
  template <class Each>
  void over_found(Each each) noexcept {
    const std::span<const row_t> list = found();
    const auto count = static_cast<index_t>(list.size());
    d_.ws.workers.for_each(
        (count + block - 1) / block, d_.ws, [&](workspace& scratch, index_t item) {
          const index_t at = item * block;
          each(scratch, at,
               list.subspan(static_cast<std::size_t>(at),
                            static_cast<std::size_t>(std::min(block, count - at))));
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

  /// What each of `count` waiting rows, at most a block, stands for: 1 / p, p = max_h min(1, c_h g_h) at the scales
  /// searched, at most 2^32; 0 for a row whose number is above p, which the search took in too many.
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
    const std::uint32_t* numbers = waiting().numbers.data() + first;
    for (index_t i = 0; i < count; ++i)
      if (numbers[i] > threshold_of(1.0 / static_cast<double>(out[i]))) out[i] = 0.0F;
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
    if (!(sum > 0.0)) return;
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

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
