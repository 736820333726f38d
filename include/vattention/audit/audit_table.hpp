// SPDX-License-Identifier: Apache-2.0
/// @file
/// An audit's numbers as a table, at most 100 columns wide.
#pragma once

#include <cstdio>
#include <ostream>

#include "vattention/audit/audit_report.hpp"

namespace vattn {

/// One line of the table, without the end of line; shares and means of nothing read "nan".
inline std::ostream& operator<<(std::ostream& out, const audit_row& row) {
  const proportion_interval range = row.coverage_interval();
  char text[160];
  std::snprintf(text, sizeof text, "%3d %3d %2d", row.layer, row.kv_head, row.query);
  out << (row.layer < 0 ? "all heads " : text);
  std::snprintf(text, sizeof text, " %6lld %5.1f [%4.1f %5.1f] %5.1f %5.1f %4.1f %5.1f",
                static_cast<long long>(row.calls), 100.0 * row.coverage(), 100.0 * range.lower,
                100.0 * range.upper, 100.0 * row.bound_coverage(), 100.0 * row.mean_density(),
                row.mean_looks(), 100.0 * row.exact_share());
  out << text;
  std::snprintf(text, sizeof text, " %6.4f %6.4f %6.4f %6.4f %5.1f %5.1f", row.mean_output_error(),
                row.largest_output_error, row.mean_denominator_error(),
                row.largest_denominator_error, 100.0 * row.mean_covered(),
                100.0 * row.mean_attainable());
  return out << text;
}

/// The table: a head a line (heads without an audited call are left out), then all together, then
/// how the calls ended. Shares in %.
inline std::ostream& operator<<(std::ostream& out, const audit_report& report) {
  out << "audit of about one call in " << report.every << "; asked: " << to_string(report.quantity);
  if (report.scale != error_scale::output) out << " in units: " << to_string(report.scale);
  out << " error <= " << report.epsilon_asked << " in " << 100.0 * (1.0 - report.delta)
      << " % of calls\n"
         "head            error within asked  within  rows looks exact output error  denominator's"
         " mass  read\n"
         " ly  kv  q  calls     % [99 % range] bound  read     -  call   mean    max   mean    max "
         "exact  best\n";
  for (const audit_row& row : report.rows)
    if (row.calls > 0) out << row << '\n';
  if (report.total.calls == 0) return out << "no call has been audited\n";
  out << report.total << '\n';
  const char* separator = "ends: ";
  for (std::size_t i = 0; i < report.total.statuses.size(); ++i)
    if (report.total.statuses[i] > 0) {
      out << separator << report.total.statuses[i] << ' ' << to_string(static_cast<status>(i));
      separator = ", ";
    }
  return out << '\n';
}

}  // namespace vattn
