// SPDX-License-Identifier: Apache-2.0
/// @file
/// Dense attention where a sparse call would take longer.
#pragma once

#include "vattention/core/concepts.hpp"
#include "vattention/cost/forecast.hpp"

namespace vattn::cost {

/// Answers with the dense kernel where sparse attention is not expected to pay: at once, before the predictor
/// looks, where the sample that queries usually need would cost more than .9 of a dense call (short contexts, a
/// small epsilon, large groups); and at a look, where the growth that the budget asks for alone would. The
/// result is then the dense one bit for bit, and the certificate says `exact`.
///
/// Decides by sizes and constants alone, so the same call has the same bits on every run and on any number of
/// threads. What a certificate promises stays true: a call that is decided at once is exact whatever its draw,
/// and one that turns exact at a look is one less that could be wrong. A limit on rows or bytes is kept: a call that may not read everything is never dense for cost.
///
/// Ends: a single query may need more rows than usual. If a look finds out, its first sample has been paid for,
/// up to about half a dense call. The index is not counted: a program that decodes densely for long may spare
/// itself appending to it. The constants are those of the default composition; others are judged roughly, and a
/// 1-bit scan (`presets::fast`) as if it refined no more keys than a 2-bit one. Costs some tens of nanoseconds, no allocation.
class model {
public:
  using role = vattn::role::cost;

  /// `hardness`: rows that the queries of a model need over those of typical captured heads, see
  /// `expected_sample`; with 0 a call is dense at once only where the least that a sparse call can do costs more.
  /// @throws std::invalid_argument for a price that is not positive and finite, naming it, or a hardness that is
  /// negative or not finite.
  explicit model(const cost_profile& prices = {}, double hardness = 1.0)
      : prices_(prices), hardness_(hardness) {
    require_prices("cost::model", prices);
    require(hardness >= 0.0 && std::isfinite(hardness), "cost::model", "a finite hardness >= 0",
            hardness);
  }

  bool dense_at_once(const call_prospect& call) const noexcept {
    return sparse_time(call) > worthwhile * dense_time(call);
  }
  bool dense_from_here(const call_prospect& call, const growth_prospect& growth) const noexcept {
    return time_of(growth_work(call, growth), prices_) > worthwhile * dense_time(call);
  }

  /// Nanoseconds, as far as the prices are right: of a dense call, and of a sparse one as expected.
  double dense_time(const call_prospect& call) const noexcept {
    return time_of(dense_work(call), prices_);
  }
  double sparse_time(const call_prospect& call) const noexcept {
    return time_of(sparse_work(call, expected_sample(call, hardness_)), prices_);
  }
  const cost_profile& prices() const noexcept { return prices_; }

private:
  /// Of the time of a dense call: less is not worth an answer that is not exact.
  static constexpr double worthwhile = 0.9;

  cost_profile prices_;
  double hardness_;
};
static_assert(cost_policy<model>);

}  // namespace vattn::cost
