// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a call will have to do: of dense attention for certain, of a sparse call as far as sizes tell.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/core/prospect.hpp"
#include "vattention/cost/cost_profile.hpp"

namespace vattn {

/// A sample as it turns out, or as it is expected to.
struct sample_outcome {
  /// Rows drawn for the group, rows refined, looks.
  double rows = 0.0, records = 0.0, looks = 1.0;
  /// Rows drawn until each look, added up: what the looks sum.
  double summed = 0.0;
};

/// The sample that a call is expected to take, of queries `hardness` times as hard as those that are as sharp as
/// typical captured ones, which at epsilon e of n rows take about m = 1.55 sqrt(n) (.1 / e)^.8 rows each and g^.8
/// times as many for a group of g; the base sample of b at least. Of 16,384 rows twelve times as many are refined
/// as are drawn, as long as these are few, in proportion to n^-.4 of others. 1 + .55 log2(sqrt(g) m / b) looks,
/// six at most.
/// Fitted to calls of `presets::standard` on the queries of the bench `decode`.
///
/// Ends: single heads take a third or, where attention is flat, three times of that. Where no error relative to
/// the output is asked it is the base sample alone, and so the least that a call can take.
inline sample_outcome expected_sample(const call_prospect& call, double hardness) noexcept {
  const auto n = static_cast<double>(call.rows);
  const auto rest = static_cast<double>(call.rest());
  const auto base = static_cast<double>(call.base);
  const auto heads = static_cast<double>(call.heads);
  const double asked = std::isnan(call.epsilon)
                           ? 0.0
                           : hardness * 1.55 * std::sqrt(n) * std::pow(0.1 / call.epsilon, 0.8);
  const double group = std::pow(heads, 0.8);
  sample_outcome sample;
  sample.rows = std::min(rest, group * std::max(base, asked));
  const double growths =
      std::min(5.0, 0.55 * std::log2(std::max(1.0, std::sqrt(heads) * asked / base)));
  sample.looks = 1.0 + growths;
  // The first growth nearly reaches the last size.
  sample.summed = sample.rows + std::min(growths, 1.0) * std::min(rest, group * base) +
                  std::max(growths - 1.0, 0.0) * 0.8 * sample.rows;
  if (call.levels > 1 && rest > 0.0) {
    const double each = 12.0 * std::pow(16384.0 / n, 0.4);
    sample.records = rest * -std::expm1(-each * sample.rows / rest);
  }
  return sample;
}

/// Dense attention of the call.
inline call_work dense_work(const call_prospect& call) noexcept {
  const auto rows = static_cast<double>(call.rows);
  const auto pairs = rows * static_cast<double>(call.heads);
  call_work work;
  work.dense_byte = rows * static_cast<double>(call.row_bytes);
  work.dense_product = pairs * static_cast<double>(call.key_dim + call.value_dim);
  work.dense_row = pairs;
  return work;
}

namespace detail {

/// Share of the growths that search the cache anew.
inline constexpr double repeated = 0.3;

/// Adds passes over all keys, for the group and each query.
inline void add_passes(const call_prospect& call, double passes, call_work& work) noexcept {
  work.key += passes * static_cast<double>(call.rows) * static_cast<double>(call.heads + 1);
}
/// Adds looks that sum so many drawn rows between them.
inline void add_looks(const call_prospect& call, double looks, double summed,
                      call_work& work) noexcept {
  const auto heads = static_cast<double>(call.heads);
  work.drawn_row += summed * heads;
  work.look += looks * heads;
  work.look_value += looks * heads * static_cast<double>(call.value_dim);
}

}  // namespace detail

/// A sparse call with this sample: two passes over the keys for their weights, and one in search of rows to draw
/// that few growths repeat, if the sampler follows proposals; one for the selection, if it does not.
inline call_work sparse_work(const call_prospect& call, const sample_outcome& sample) noexcept {
  call_work work;
  work.call = 1.0;
  work.scanned_byte = static_cast<double>(call.scanned_bytes);
  detail::add_passes(call,
                     call.levels > 0          ? 3.0 + detail::repeated * (sample.looks - 1.0)
                     : call.scanned_bytes > 0 ? 1.0
                                              : 0.0,
                     work);
  if (call.bounds) work.bound = static_cast<double>(call.rows) * static_cast<double>(call.heads);
  work.record = sample.records * static_cast<double>(call.heads + 1);
  work.row_byte =
      (static_cast<double>(call.exact) + sample.rows) * static_cast<double>(call.row_bytes);
  detail::add_looks(call, sample.looks, sample.summed, work);
  return work;
}

/// A growth and the look at what it makes, which sums all drawn rows anew.
inline call_work growth_work(const call_prospect& call, const growth_prospect& growth) noexcept {
  const auto rest = static_cast<double>(call.rest());
  const auto drawn = static_cast<double>(growth.drawn);
  call_work work;
  if (call.levels > 0) detail::add_passes(call, detail::repeated, work);
  if (call.levels > 1 && growth.drawn > 0 && rest > 0.0) {
    // Each further row of the sample leaves as many of the others unrefined, in proportion.
    const double unrefined = 1.0 - static_cast<double>(growth.refined) / rest;
    const double records =
        rest * (unrefined - std::pow(std::max(unrefined, 0.0), 1.0 + growth.more / drawn));
    work.record = std::max(records, 0.0) * static_cast<double>(call.heads + 1);
  }
  work.row_byte = growth.more * static_cast<double>(call.row_bytes);
  detail::add_looks(call, 1.0, drawn + growth.more, work);
  return work;
}

}  // namespace vattn
