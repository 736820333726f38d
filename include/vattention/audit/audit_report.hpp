// SPDX-License-Identifier: Apache-2.0
/// @file
/// What an audit has counted, as plain numbers.
#pragma once

#include <array>
#include <vector>

#include "vattention/core/certificate.hpp"
#include "vattention/stats/binomial.hpp"

namespace vattn {

/// Counts of one query head's audited calls, or of many heads together.
///
/// A call whose status is `non_finite` claims nothing: it is counted there and left out of `claims`
/// and all that follows from it. An error that is NaN although something was claimed is a miss;
/// errors enter means as 1024 at most. Errors are in the unit of the certificates, compared with 1e-5 of the
/// exact quantity to spare: float rounding.
struct audit_row {
  static constexpr double rounding = 1e-5;

  /// -1 in a row for many heads. `query` counts within the KV head's group.
  int layer = -1, kv_head = -1, query = -1;
  /// Audited calls; of these with a claim; with everything read before a sample was drawn.
  index_t calls = 0, claims = 0, unsampled = 0;
  /// Claims by `status`, indexed by its value.
  std::array<index_t, status_count> statuses{};
  /// Errors of the certified quantity within the asked epsilon, and within the certificate's own
  /// bound.
  index_t within_asked = 0, within_bound = 0;
  /// Output errors within the asked epsilon, whatever the certificate speaks of.
  index_t output_within_asked = 0;
  /// Sums over the calls: looks, visible rows, share of them read and drawn; over the claims:
  /// errors; over `weighed` calls: softmax mass.
  index_t looks = 0, visible = 0, weighed = 0;
  double density = 0.0, drawn = 0.0, output_error = 0.0, denominator_error = 0.0, covered = 0.0,
         attainable = 0.0;
  double largest_output_error = 0.0, largest_denominator_error = 0.0;

  index_t count(status end) const noexcept { return statuses[static_cast<std::size_t>(end)]; }
  /// Shares and means are NaN where there is nothing to divide by.
  double coverage() const noexcept { return over(within_asked, claims); }
  double bound_coverage() const noexcept { return over(within_bound, claims); }
  double exact_share() const noexcept { return over(count(status::exact), calls); }
  double mean_density() const noexcept { return density / static_cast<double>(calls); }
  /// The same over the calls that drew a sample.
  double sampled_density() const noexcept {
    return (density - static_cast<double>(unsampled)) / static_cast<double>(calls - unsampled);
  }
  double mean_looks() const noexcept { return over(looks, calls); }
  double mean_output_error() const noexcept { return output_error / static_cast<double>(claims); }
  double mean_denominator_error() const noexcept {
    return denominator_error / static_cast<double>(claims);
  }
  double mean_drawn() const noexcept { return drawn / static_cast<double>(calls); }
  /// Softmax mass of the rows read exactly, and what a perfect predictor would cover: `exact_mass`.
  double mean_covered() const noexcept { return covered / static_cast<double>(weighed); }
  double mean_attainable() const noexcept { return attainable / static_cast<double>(weighed); }

  /// Clopper-Pearson interval of the share within the asked epsilon; it misses with probability at
  /// most `miss`, if the audited calls are independent given their queries. 40 binomial tails.
  proportion_interval coverage_interval(double miss = 0.01) const noexcept {
    return clopper_pearson(within_asked, claims, miss);
  }

  audit_row& operator+=(const audit_row& other) noexcept;

private:
  static double over(index_t part, index_t whole) noexcept {
    return static_cast<double>(part) / static_cast<double>(whole);
  }
};

/// Counts per head in the order (layer, KV head, query), heads without an audited call included.
struct audit_report {
  /// Asked epsilon (NaN if none), delta, and the quantity of the certificates.
  double epsilon_asked = 0.0, delta = 0.0;
  vattn::quantity quantity = vattn::quantity::output;
  /// One call in so many is audited, on average; 0: none.
  index_t every = 0;
  std::vector<audit_row> rows;
  audit_row total;
  /// What output errors are measured in.
  error_scale scale = error_scale::output;
};

inline audit_row& audit_row::operator+=(const audit_row& other) noexcept {
  for (std::size_t i = 0; i < statuses.size(); ++i) statuses[i] += other.statuses[i];
  for (const auto count :
       {&audit_row::calls, &audit_row::claims, &audit_row::unsampled, &audit_row::within_asked,
        &audit_row::within_bound, &audit_row::output_within_asked, &audit_row::looks,
        &audit_row::visible, &audit_row::weighed})
    this->*count += other.*count;
  for (const auto sum :
       {&audit_row::density, &audit_row::drawn, &audit_row::output_error,
        &audit_row::denominator_error, &audit_row::covered, &audit_row::attainable})
    this->*sum += other.*sum;
  for (const auto top : {&audit_row::largest_output_error, &audit_row::largest_denominator_error})
    this->*top = std::max(this->*top, other.*top);
  return *this;
}

}  // namespace vattn
