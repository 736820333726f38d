// SPDX-License-Identifier: Apache-2.0
/// @file
/// Prices from measured calls: least squares that stay near to prices known before.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <vector>

#include "vattention/cost/cost_profile.hpp"

namespace vattn {

/// A call, or the mean of several: what it did and how long it took, in nanoseconds.
struct measured_call {
  call_work work;
  double time = 0.0;
};

namespace detail {

/// True for the work of a dense call.
inline bool is_dense(const call_work& work) noexcept { return work.dense_byte > 0.0; }

/// Geometric mean of measured over predicted times of the dense or of the sparse calls; of all without any.
inline double slowness(std::span<const measured_call> calls, const cost_profile& prices,
                       bool dense) noexcept {
  double sum = 0.0, count = 0.0, sum_of_all = 0.0;
  for (const measured_call& call : calls) {
    const double slower = std::log(call.time / time_of(call.work, prices));
    sum_of_all += slower;
    if (is_dense(call.work) != dense) continue;
    sum += slower;
    count += 1.0;
  }
  return std::exp(count > 0.0 ? sum / count : sum_of_all / static_cast<double>(calls.size()));
}

/// One step of coordinate descent: the factor z_j that is best while the others stay. `share(i, j)` is what part
/// of call i's time price j makes at factor 1, `sum[i]` that of all prices at their factors.
inline double best_factor(std::span<const double> shares, std::span<const double> sums,
                          double factor, double pull) noexcept {
  double above = pull, below = pull;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    above += shares[i] * (1.0 - sums[i] + shares[i] * factor);
    below += shares[i] * shares[i];
  }
  return std::max(0.1, above / below);
}

}  // namespace detail

/// The prices at which the relative errors of all predicted times are least in the sense of squares. Prices that
/// the calls do not tell apart keep the proportion of `prior`, and none falls below a tenth of it (scaled to the
/// machine's speed in dense and in sparse calls). `pull` weighs a price that is off by its own size against a
/// time that is.
/// @throws std::invalid_argument without a call, for a time that is not positive and finite or a call that did
/// nothing, or for prior prices that are none.
inline cost_profile fit_prices(std::span<const measured_call> calls, const cost_profile& prior = {},
                               double pull = 0.02) {
  require(!calls.empty(), "fit_prices", "measured calls", calls.size());
  require(pull > 0.0 && std::isfinite(pull), "fit_prices", "a positive pull", pull);
  require_prices("fit_prices", prior);
  for (const measured_call& call : calls) {
    require(call.time > 0.0 && std::isfinite(call.time), "fit_prices", "positive finite times",
            call.time);
    const double expected = time_of(call.work, prior);
    require(expected > 0.0 && std::isfinite(expected), "fit_prices", "calls that did something",
            expected);
  }

  cost_profile prices = prior;
  const double scales[2] = {detail::slowness(calls, prior, false),
                            detail::slowness(calls, prior, true)};
  for (std::size_t j = 0; j < cost_items.size(); ++j)
    prices.*cost_items[j].price *= scales[j < dense_items ? 1 : 0];

  std::vector<double> shares(cost_items.size() * calls.size()), sums(calls.size(), 0.0);
  const auto of = [&](std::size_t j) {
    return std::span(shares).subspan(j * calls.size(), calls.size());
  };
  for (std::size_t j = 0; j < cost_items.size(); ++j)
    for (std::size_t i = 0; i < calls.size(); ++i) {
      const cost_item& item = cost_items[j];
      of(j)[i] = calls[i].work.*item.count * prices.*item.price / calls[i].time;
      sums[i] += of(j)[i];
    }
  std::array<double, cost_items.size()> factors;
  factors.fill(1.0);
  for (int sweep = 0; sweep < 500; ++sweep)
    for (std::size_t j = 0; j < cost_items.size(); ++j) {
      const double next = detail::best_factor(of(j), sums, factors[j], pull);
      for (std::size_t i = 0; i < calls.size(); ++i) sums[i] += (next - factors[j]) * of(j)[i];
      factors[j] = next;
    }
  for (std::size_t j = 0; j < cost_items.size(); ++j) prices.*cost_items[j].price *= factors[j];
  return prices;
}

}  // namespace vattn
