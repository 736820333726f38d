// SPDX-License-Identifier: Apache-2.0
/// @file
/// The statement a call returns with its output: how good, how sure, on what grounds, at what cost.
#pragma once

#include <limits>

#include "vattention/core/guarantee.hpp"

namespace vattn {

/// The quantity whose relative error is bounded. With logits l, w = exp(l - max l): denominator
/// D = sum w, numerator N = sum w v, output o = N / D.
enum class quantity : std::uint8_t {
  none,         ///< nothing was asked
  denominator,  ///< |D^ - D| <= epsilon D; says nothing of the output
  output,       ///< ||o^ - o|| <= epsilon ||o||, or another unit of error, see `certificate::scale`
  numerator,    ///< ||N^ - N|| <= epsilon ||N||; says nothing of the output either
};

/// The argument behind the bound.
enum class bound_kind : std::uint8_t {
  none,                ///< no bound could be formed
  exact,               ///< every visible row was read
  normal,              ///< central limit theorem, two-sided normal quantile
  joint_normal,        ///< the same for numerator and denominator, added up (certify/joint.hpp)
  rank_quantile,       ///< output, chi-square quantile of the effective rank with inflated variance
  student_t,           ///< Student's quantile; normal weights assumed
  chi_square,          ///< variance at its upper confidence limit; normal weights assumed
  hoeffding,           ///< range of the weights, Hoeffding 1963
  hoeffding_serfling,  ///< the same, without replacement
  bernstein,           ///< Bernstein's inequality with known upper bounds (certify/strict.hpp)
  empirical_bernstein,  ///< range and sample variance, after Maurer and Pontil 2009
  bernstein_serfling,   ///< the same, without replacement, Bardenet and Maillard 2015
};

/// What the claim "at most delta of the calls miss epsilon" rests on, strongest first.
enum class basis : std::uint8_t {
  exact,                ///< nothing was left out
  proved,               ///< a theorem without a limit argument
  measured_per_row,     ///< measured to hold for every (head, query) pair tried, by 60 seeds each
  measured_on_average,  ///< measured to hold over pairs on average; single heads may fail
  unmeasured,           ///< nobody has measured this composition
};

/// How the call ended.
enum class status : std::uint8_t {
  exact,             ///< every visible row was read; the bound is 0
  met,               ///< the asked epsilon is reached by the bound
  not_met,           ///< the budget allows no further look and the bound is above the asked epsilon
  capped,            ///< a limit on rows or bytes was reached first
  sample_too_small,  ///< too few uncertain rows were drawn to judge, and no further look is allowed
  no_target,         ///< no epsilon was asked; the bound is reported as it came out
  bound_violated,  ///< rows were above the bounds that the certificate rests on: nothing is vouched for
  non_finite,  ///< a NaN or infinite logit or value was met; the output is what dense gives or NaN
};

/// Values that `status` has.
inline constexpr std::size_t status_count = 8;

const char* to_string(quantity what) noexcept;
const char* to_string(error_scale unit) noexcept;
const char* to_string(bound_kind bound) noexcept;
const char* to_string(basis grounds) noexcept;
const char* to_string(status end) noexcept;

/// One query head's certificate. It is computed from the sample that formed the output.
struct certificate {
  vattn::status status = vattn::status::not_met;
  vattn::basis basis = vattn::basis::unmeasured;
  vattn::quantity quantity = vattn::quantity::none;
  bound_kind bound = bound_kind::none;
  /// What the errors below are measured in (of an output; else the quantity itself), and the size of that
  /// unit: 1 if absolute, NaN if it is the exact quantity, which is not known.
  error_scale scale = error_scale::output;
  double unit = std::numeric_limits<double>::quiet_NaN();

  /// Asked error; NaN if none was asked.
  double epsilon_asked = std::numeric_limits<double>::quiet_NaN();
  /// The bound: the error is at most this, with probability 1 - delta. +inf if none could be
  /// formed, 0 if exact.
  double epsilon = std::numeric_limits<double>::infinity();
  double delta = 0.0;

  /// Largest logit read, and the estimate D^ = sum w of the softmax denominator relative to it.
  double max_logit = -std::numeric_limits<double>::infinity();
  double denominator = 0.0;
  /// Standard error of D^ [same unit], 0 if exact.
  double denominator_error = 0.0;

  /// Times the sample was judged; 0 if none was drawn.
  int looks = 0;
  /// Visible rows; of these read for certain, and drawn. Shared by all heads of the group.
  index_t rows_total = 0;
  index_t rows_exact = 0;
  index_t rows_sampled = 0;
  /// Drawn rows above the bounds the certificate rests on; 0 unless the cache was changed behind its index.
  index_t bounds_violated = 0;
  /// Bytes of keys, values and codes the call read for the whole group, each row counted once.
  index_t bytes_touched = 0;

  /// Share of the visible rows whose key and value were read.
  double density() const noexcept {
    return rows_total == 0
               ? 0.0
               : static_cast<double>(rows_exact + rows_sampled) / static_cast<double>(rows_total);
  }
  /// True if the asked epsilon is vouched for: status `met` or `exact`.
  bool holds() const noexcept {
    return status == vattn::status::met || status == vattn::status::exact;
  }
};

inline const char* to_string(quantity what) noexcept {
  switch (what) {
    case quantity::none: return "none";
    case quantity::denominator: return "denominator";
    case quantity::output: return "output";
    case quantity::numerator: return "numerator";
  }
  return "?";
}
inline const char* to_string(error_scale unit) noexcept {
  switch (unit) {
    case error_scale::output: return "output";
    case error_scale::values: return "values";
    case error_scale::absolute: return "absolute";
  }
  return "?";
}
inline const char* to_string(bound_kind bound) noexcept {
  switch (bound) {
    case bound_kind::none: return "none";
    case bound_kind::exact: return "exact";
    case bound_kind::normal: return "normal";
    case bound_kind::joint_normal: return "joint_normal";
    case bound_kind::rank_quantile: return "rank_quantile";
    case bound_kind::student_t: return "student_t";
    case bound_kind::chi_square: return "chi_square";
    case bound_kind::hoeffding: return "hoeffding";
    case bound_kind::hoeffding_serfling: return "hoeffding_serfling";
    case bound_kind::bernstein: return "bernstein";
    case bound_kind::empirical_bernstein: return "empirical_bernstein";
    case bound_kind::bernstein_serfling: return "bernstein_serfling";
  }
  return "?";
}
inline const char* to_string(basis grounds) noexcept {
  switch (grounds) {
    case basis::exact: return "exact";
    case basis::proved: return "proved";
    case basis::measured_per_row: return "measured_per_row";
    case basis::measured_on_average: return "measured_on_average";
    case basis::unmeasured: return "unmeasured";
  }
  return "?";
}
inline const char* to_string(status end) noexcept {
  switch (end) {
    case status::exact: return "exact";
    case status::met: return "met";
    case status::not_met: return "not_met";
    case status::capped: return "capped";
    case status::sample_too_small: return "sample_too_small";
    case status::no_target: return "no_target";
    case status::bound_violated: return "bound_violated";
    case status::non_finite: return "non_finite";
  }
  return "?";
}

}  // namespace vattn
