// SPDX-License-Identifier: Apache-2.0
/// @file
/// Is a procedure wrong in at most delta of the calls, as it promises? For any test framework.
#pragma once

#include <cstdint>
#include <sstream>
#include <string>

#include "vattention/stats/binomial.hpp"

namespace vattn {

/// Outcome of a coverage check.
struct coverage_report {
  index_t trials = 0, violations = 0;
  /// Most violations that are believable if the promise is kept.
  index_t allowed = 0;
  /// Promised violation rate, and the odds that a procedure which just keeps it fails the check.
  double delta = 0.0, false_alarm = 0.0;
  bool holds = false;

  /// One sentence with all the numbers and the 99 % interval of the violation rate.
  std::string message() const {
    const proportion_interval rate = clopper_pearson(violations, trials, 0.01);
    std::ostringstream out;
    out << "coverage " << (holds ? "holds" : "fails") << ": " << violations << " of " << trials
        << " trials violate, at most " << allowed << " allowed for delta " << delta
        << " at a false-alarm rate of " << false_alarm << "; violation rate in [" << rate.lower
        << ", " << rate.upper << "] at 99 %";
    return out.str();
  }
};

/// Judges `violations` in `trials` independent trials against a promised rate `delta`.
///
/// `holds` iff they are at most the least k with P(Binomial(trials, delta) > k) <= `false_alarm`.
/// One-sided: too few violations never fail. It refutes, it does not prove: with 60 trials at delta
/// .1 a true rate of .2 passes four times in five, so choose `trials` for the rate that must be
/// caught. Several checks raise several false alarms: divide `false_alarm` by their number.
/// @throws std::invalid_argument unless 0 <= violations <= trials, trials >= 1, and delta and
/// false_alarm are in (0, 1).
inline coverage_report check_coverage(index_t trials, index_t violations, double delta,
                                      double false_alarm = 1e-3) {
  require(trials >= 1 && violations >= 0 && violations <= trials, "check_coverage",
          "0 <= violations <= trials and trials >= 1", violations, trials);
  require(delta > 0.0 && delta < 1.0, "check_coverage", "0 < delta < 1", delta);
  require(false_alarm > 0.0 && false_alarm < 1.0, "check_coverage", "0 < false_alarm < 1",
          false_alarm);
  const index_t allowed = binomial_upper_point(trials, delta, false_alarm);
  return {trials, violations, allowed, delta, false_alarm, violations <= allowed};
}

/// Runs `trial(seed)` for seeds 0 .. trials - 1 and judges how often the error it returns exceeds
/// `epsilon`. NaN counts as a violation. The trials must be independent given their seeds; what
/// they share (the head, the cache) is what the verdict is about.
/// @throws std::invalid_argument as `check_coverage`, before the first trial.
template <class Trial>
coverage_report run_coverage(index_t trials, double delta, double epsilon, Trial&& trial,
                             double false_alarm = 1e-3) {
  check_coverage(trials, 0, delta, false_alarm);
  index_t violations = 0;
  for (index_t seed = 0; seed < trials; ++seed) {
    const double error = trial(static_cast<std::uint64_t>(seed));
    if (!(error <= epsilon)) ++violations;
  }
  return check_coverage(trials, violations, delta, false_alarm);
}

}  // namespace vattn
