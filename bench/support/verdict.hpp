// SPDX-License-Identifier: Apache-2.0
/// @file
/// When a row counts as failing.
#pragma once

#include "vattention/stats/binomial.hpp"

namespace vattn_bench {

/// Chance that a row which keeps its delta exactly is called failing.
inline constexpr double false_alarm = 1e-3;

inline int allowed(int trials, double delta) {
  return static_cast<int>(vattn::binomial_upper_point(trials, delta, false_alarm));
}

}  // namespace vattn_bench
