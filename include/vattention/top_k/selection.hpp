// SPDX-License-Identifier: Apache-2.0
/// @file
/// The k best scores of each query head without a sort, ties by row number.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/core/attention_call.hpp"
#include "vattention/core/row_lists.hpp"

namespace vattn {

namespace detail {

/// The rank-th largest of every 64th score (of 256 at least, where there are as many); -inf if the rank is
/// beyond them. A guess at a threshold that leaves a little more than k scores.
inline float threshold_guess(std::span<const float> scores, index_t k, double slack,
                             std::pair<float, row_t>* scratch) noexcept {
  const auto n = static_cast<index_t>(scores.size());
  const index_t stride = std::clamp<index_t>(n / 256, 1, 64);
  index_t count = 0;
  for (index_t i = 0; i < n; i += stride) {
    const float x = scores[static_cast<std::size_t>(i)];
    scratch[count++] = {std::isnan(x) ? std::numeric_limits<float>::infinity() : x, 0};
  }
  const double expected = static_cast<double>(k) / static_cast<double>(stride);
  const auto rank = static_cast<index_t>(expected + slack * (3.0 * std::sqrt(expected) + 2.0));
  if (rank >= count) return -std::numeric_limits<float>::infinity();
  std::nth_element(scratch, scratch + rank, scratch + count,
                   [](const auto& x, const auto& y) { return x.first > y.first; });
  return scratch[rank].first;
}

/// Writes the rows of the k best candidates (all, if there are no more), which stand in the order of their rows;
/// `out` has room for all candidates. Buckets of equal width set the
/// clear winners apart; nth_element decides in the bucket that the k-th falls into.
inline index_t take_best(std::span<std::pair<float, row_t>> candidates, index_t k,
                         row_t* out) noexcept {
  constexpr int buckets = 256;
  float low = std::numeric_limits<float>::infinity();
  float high = -low;
  for (const auto& [score, row] : candidates) {
    low = std::min(low, score);
    high = std::max(high, score);
  }
  float per_unit = static_cast<float>(buckets - 1) / (high - low);
  if (!std::isfinite(per_unit)) per_unit = 0.0F;
  // Monotone; a difference that overflows (times 0: NaN) belongs at the top.
  const auto bucket = [=](float score) {
    const float at = (score - low) * per_unit;
    return at < static_cast<float>(buckets - 1) ? static_cast<int>(at) : buckets - 1;
  };
  // Four counters a bucket, so that equal scores do not wait for each other.
  std::uint32_t counts[buckets][4] = {};
  for (std::size_t i = 0; i < candidates.size(); ++i) ++counts[bucket(candidates[i].first)][i % 4];
  const auto count_of = [&](int at) {
    return index_t{counts[at][0]} + counts[at][1] + counts[at][2] + counts[at][3];
  };
  int last = buckets - 1;
  index_t taken = 0;
  for (; last >= 0 && taken + count_of(last) <= k; --last) taken += count_of(last);
  const index_t undecided = k - taken;
  index_t written = 0;
  // Written first and counted then, for which way a score falls cannot be foretold.
  std::size_t tied = 0;
  for (const auto& candidate : candidates) {
    const int at = bucket(candidate.first);
    out[written] = candidate.second;
    written += at > last ? 1 : 0;
    candidates[tied] = candidate;
    tied += at == last ? 1 : 0;
  }
  if (last < 0) return written;
  // Equal scores stand in the order of their rows already; those of signs mostly are equal.
  const std::span<std::pair<float, row_t>> left = candidates.first(tied);
  const auto differs = [&](const auto& x) { return x.first != left[0].first; };
  if (std::any_of(left.begin(), left.end(), differs))
    std::nth_element(left.begin(), left.begin() + undecided, left.end(),
                     [](const auto& x, const auto& y) {
                       return x.first > y.first || (x.first == y.first && x.second < y.second);
                     });
  for (index_t i = 0; i < undecided; ++i)
    out[written++] = candidates[static_cast<std::size_t>(i)].second;
  return written;
}

}  // namespace detail

/// Writes the k rows of largest score to ws.picks and returns their number; ws has room for all scores. Equal scores
/// go to the lower row; -inf is never taken; NaN and +inf always are, beyond k.
///
/// A threshold guessed from a sample leaves a few more than k candidates (lowered until there are
/// enough), of which the best are taken. The result does not depend on the guess.
inline index_t pick_top(std::span<const float> scores, index_t k, workspace& ws) noexcept {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::pair<float, row_t>* const candidates = ws.candidates.data();
  row_t* const picks = ws.picks.data();
  if (k == 0) return list_not_below(scores, infinity, ws, picks);
  index_t forced = 0;
  index_t finite = 0;
  for (double slack = 1.0;; slack *= 8.0) {
    const float threshold = detail::threshold_guess(scores, k, slack, candidates);
    const index_t passed = list_not_below(scores, threshold, ws, picks);
    forced = finite = 0;
    for (index_t i = 0; i < passed; ++i) {
      const row_t row = picks[i];
      const float x = scores[row];
      if (std::isfinite(x))
        candidates[finite++] = {x, row};
      else if (!(x < 0.0F))
        picks[forced++] = row;
    }
    if (finite >= k || threshold == -infinity) break;
  }
  return forced +
         detail::take_best({candidates, static_cast<std::size_t>(finite)}, k, picks + forced);
}

/// Rows that a head does not see score -inf, for predictors whose scores no bias can be added to; `scores` holds that of
/// row `rows.first` first.
template <cache_view View>
void hide_rows(const attention_call<View>& call, int head, half_open rows, float* scores) noexcept {
  if (call.queries.logits.bias == nullptr && rows.last <= call.visible_to(head)) return;
  for (index_t row = rows.first; row < rows.last; ++row)
    if (call.hides(head, row)) scores[row - rows.first] = call.hidden;
}

/// Adds to ws.exact each head's k best rows among those not in it yet. Fewer free rows than k: all.
template <cache_view View>
void select_top(const attention_call<View>& call, index_t k, workspace& ws) noexcept {
  ws.seen.exclude(ws.exact.rows());
  for (int h = 0; h < call.heads(); ++h) {
    const index_t count =
        pick_top(ws.seen.scores(h).first(static_cast<std::size_t>(call.visible)), k, ws);
    for (const row_t row : ws.picks.first(count)) ws.exact.add(row);
  }
}

}  // namespace vattn
