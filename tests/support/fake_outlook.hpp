// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a budget sees, with every number set by hand: simple random samples whose variance at any size is
/// n^2 (1/b - 1/n) S, or n^2 / b S without the finite-population correction.
#pragma once

#include <vector>

#include "vattention/attention/partial.hpp"
#include "vattention/core/outlook.hpp"

namespace vattn::test {

/// Values have 4 coordinates. `squares(head, what)` is S of a sum; `drawn_` and `look_` are the present
/// size and look.
class fake_outlook {
public:
  static constexpr index_t value_dim = 4;

  fake_outlook(int heads, index_t population, index_t drawn)
      : drawn_(drawn),
        population_(population),
        judged_(static_cast<std::size_t>(heads)),
        sizes_(static_cast<std::size_t>(heads), -1),
        squares_(3 * static_cast<std::size_t>(heads), 0.0) {
    for (int h = 0; h < heads; ++h) {
      states_.emplace_back(value_dim);
      state(h).denominator() = 1.0;
      state(h).numerator()[0] = 1.0;
    }
  }

  int heads() noexcept { return static_cast<int>(states_.size()); }
  int look() noexcept { return look_; }
  index_t population() noexcept { return population_; }
  index_t drawn(int /*head*/) noexcept { return drawn_; }
  partial_view state(int head) noexcept { return states_[static_cast<std::size_t>(head)].view(); }
  judgement& judged(int head) noexcept { return judged_[static_cast<std::size_t>(head)]; }
  double variance(int head, contribution what, index_t size, correction finite) noexcept {
    const auto n = static_cast<double>(population_);
    const double left = finite == correction::none ? 0.0 : 1.0 / n;
    return n * n * (1.0 / static_cast<double>(size) - left) * squares(head, what);
  }
  std::span<index_t> sizes() noexcept { return sizes_; }
  double row_bytes() noexcept { return 64.0; }
  double fixed_bytes() noexcept { return 1000.0; }

  double& squares(int head, contribution what) noexcept {
    return squares_[3 * static_cast<std::size_t>(head) + static_cast<std::size_t>(what)];
  }

  int look_ = 1;
  index_t drawn_;

private:
  index_t population_;
  std::vector<partial> states_;
  std::vector<judgement> judged_;
  std::vector<index_t> sizes_;
  std::vector<double> squares_;
};
static_assert(outlook<fake_outlook>);

}  // namespace vattn::test
