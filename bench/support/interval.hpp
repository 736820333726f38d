// SPDX-License-Identifier: Apache-2.0
/// @file
/// Half-widths of intervals for a population's sum, from a simple random sample of fixed size.
#pragma once

#include <array>
#include <cmath>
#include <cstddef>

#include "vattention/certify/range.hpp"
#include "vattention/stats/normal.hpp"
#include "vattention/stats/student_t.hpp"

namespace vattn_bench {

inline constexpr std::array<const char*, 8> interval_names{
    "clt",       "clt-fpc",  "student",   "student-fpc",
    "hoeffding", "serfling", "bernstein", "bernstein-serfling"};
using half_widths = std::array<double, interval_names.size()>;

/// What does not depend on the draw: quantiles at a sample size.
struct interval_quantiles {
  double delta, z, t;

  interval_quantiles(double miss, double drawn)
      : delta(miss),
        z(vattn::normal_upper_quantile(miss / 2.0)),
        t(vattn::student_t_upper_quantile(miss / 2.0, drawn - 1.0)) {}
};

/// In the order of `interval_names`, two-sided at delta. `variance`: the sample's, divisor b - 1.
inline half_widths half_widths_of(const vattn::range_sample& s, double variance,
                                  const interval_quantiles& q) {
  using vattn::correction;
  const double error = s.population * std::sqrt(variance / s.drawn);
  const double finite = std::sqrt(1.0 - s.drawn / s.population);
  const double biased = variance * (s.drawn - 1.0) / s.drawn;
  return {q.z * error,
          q.z * error * finite,
          q.t * error,
          q.t * error * finite,
          vattn::hoeffding_deviation(s, q.delta, correction::none),
          vattn::hoeffding_deviation(s, q.delta, correction::finite_population),
          vattn::bernstein_deviation(s, biased, q.delta),
          vattn::bernstein_serfling_deviation(s, biased, q.delta)};
}

}  // namespace vattn_bench
