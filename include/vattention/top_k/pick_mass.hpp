// SPDX-License-Identifier: Apache-2.0
/// @file
/// The fewest rows whose weights make up a share of the mass, without a sort of all.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>

#include "vattention/core/workspace.hpp"
#include "vattention/kernels/kernels.hpp"

namespace vattn {

namespace detail {

/// Weights by buckets of an eighth of a nat below the largest log-weight, for 64 nats; the last one has the rest.
class mass_buckets {
public:
  static constexpr int count = 513;

  mass_buckets(std::span<const float> scores, float top, const kernels::table& kernels) noexcept
      : top_(top) {
    constexpr std::size_t block = workspace::block;
    float weight[block];
    for (std::size_t at = 0; at < scores.size(); at += block) {
      const std::span<const float> part = scores.subspan(at, std::min(block, scores.size() - at));
      kernels.exp_shifted(part.data(), static_cast<index_t>(part.size()), top, weight);
      for (std::size_t i = 0; i < part.size(); ++i)
        if (std::isfinite(part[i])) sum_[of(part[i])] += static_cast<double>(weight[i]);
    }
  }

  /// Monotone: a larger score is in no later bucket.
  int of(float score) const noexcept {
    const float below = 8.0F * (top_ - score);
    return below < static_cast<float>(count - 1) ? static_cast<int>(below) : count - 1;
  }
  double total() const noexcept {
    double all = 0.0;
    for (const double x : sum_) all += x;
    return all;
  }
  /// The bucket in which the sum from the first one on comes to `wanted`, and what those before it have.
  int reaching(double wanted, double& before) const noexcept {
    before = 0.0;
    for (int k = 0; k < count - 1; ++k) {
      if (before + sum_[k] >= wanted) return k;
      before += sum_[k];
    }
    return count - 1;
  }

private:
  float top_;
  double sum_[count] = {};
};

}  // namespace detail

/// Writes to ws.picks the fewest rows whose weights exp(score) make up `share` of all, and returns their number; ws
/// has room for all scores. Equal scores go to the lower row; -inf is never taken; NaN and +inf always are, and have
/// no part in the sum.
inline index_t pick_mass(std::span<const float> scores, double share, workspace& ws) noexcept {
  const kernels::table& kernels = kernels::active();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  row_t* const picks = ws.picks.data();
  index_t picked = 0;
  float top = -infinity;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (std::isnan(scores[i]) || scores[i] == infinity)
      picks[picked++] = static_cast<row_t>(i);
    else
      top = std::max(top, scores[i]);
  }
  if (top == -infinity || share == 0.0) return picked;
  const detail::mass_buckets buckets(scores, top, kernels);
  double sum = 0.0;
  const double wanted = share * buckets.total();
  const int last = share < 1.0 ? buckets.reaching(wanted, sum) : detail::mass_buckets::count;
  std::pair<float, row_t>* const candidates = ws.candidates.data();
  index_t tied = 0;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (!std::isfinite(scores[i])) continue;
    const int at = buckets.of(scores[i]);
    if (at < last) picks[picked++] = static_cast<row_t>(i);
    if (at == last) candidates[tied++] = {scores[i], static_cast<row_t>(i)};
  }
  std::sort(candidates, candidates + tied, [](const auto& x, const auto& y) {
    return x.first > y.first || (x.first == y.first && x.second < y.second);
  });
  for (index_t i = 0; i < tied && sum < wanted; ++i) {
    sum += std::exp(static_cast<double>(candidates[i].first) - static_cast<double>(top));
    picks[picked++] = candidates[i].second;
  }
  return picked;
}

}  // namespace vattn
