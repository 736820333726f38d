// SPDX-License-Identifier: Apache-2.0
/// @file
/// Tables of a coverage experiment: a CSV line a row, a CSV line a query head, a summary over all.
#pragma once

#include <algorithm>
#include <cstdio>
#include <map>
#include <ostream>

#include "measure.hpp"
#include "verdict.hpp"

namespace vattn_bench {

/// Calls of one row beyond epsilon, in the composition's own quantity or in another.
inline int beyond(const tally& t, vattn::quantity what) {
  return what == vattn::quantity::output ? t.output_beyond : t.denominator_beyond;
}

inline void write_header(std::ostream& csv) {
  csv << "composition,head,epsilon,delta,trials,density,output_violation,denominator_violation,"
         "mean_output_error,bytes_fraction,beyond_stated_bound\n";
}

inline void write_lines(std::ostream& csv, const composition& what, const bench_row& row,
                        const std::vector<tally>& tallies) {
  for (std::size_t c = 0; c < tallies.size(); ++c) {
    const tally& t = tallies[c];
    csv << what.name() << ',' << row.name() << ',' << what.cells()[c].epsilon << ','
        << what.cells()[c].delta << ',' << t.trials << ',' << t.mean(t.density) << ','
        << t.mean(t.output_beyond) << ',' << t.mean(t.denominator_beyond) << ','
        << t.mean(t.output_error) << ',' << t.mean(t.bytes) << ',' << t.mean(t.bound_beyond)
        << '\n';
  }
}

/// All rows of one query head (or all) in one cell.
struct summary {
  int rows = 0, trials = 0;
  double density = 0.0, error = 0.0, denominator_error = 0.0, bytes = 0.0;
  int output_beyond = 0, denominator_beyond = 0;
  int bound_beyond = 0, worst_bound = 0, failing_bound = 0;
  int worst_output = 0, worst_denominator = 0;
  int failing_output = 0, failing_denominator = 0;
  std::size_t worst_row = 0;
  std::vector<double> densities;
  std::array<int, vattn::status_count> statuses{};

  void add(const tally& t, std::size_t row, double delta) {
    const int most = allowed(t.trials, delta);
    ++rows;
    trials += t.trials;
    density += t.density;
    error += t.output_error;
    denominator_error += t.denominator_error;
    bytes += t.bytes;
    output_beyond += t.output_beyond;
    denominator_beyond += t.denominator_beyond;
    if (t.output_beyond > worst_output) worst_row = row;
    worst_output = std::max(worst_output, t.output_beyond);
    worst_denominator = std::max(worst_denominator, t.denominator_beyond);
    failing_output += t.output_beyond > most ? 1 : 0;
    failing_denominator += t.denominator_beyond > most ? 1 : 0;
    bound_beyond += t.bound_beyond;
    worst_bound = std::max(worst_bound, t.bound_beyond);
    failing_bound += t.bound_beyond > most ? 1 : 0;
    densities.push_back(t.mean(t.density));
    for (std::size_t s = 0; s < statuses.size(); ++s) statuses[s] += t.statuses[s];
  }
  double mean(double sum) const { return sum / trials; }
  double median_density() {
    const auto middle = densities.begin() + static_cast<std::ptrdiff_t>(densities.size() / 2);
    std::nth_element(densities.begin(), middle, densities.end());
    return *middle;
  }
  double share(vattn::status s) const {
    return static_cast<double>(statuses[static_cast<std::size_t>(s)]) / trials;
  }
};

inline summary summarise(const table& all, std::size_t cell, double delta) {
  summary s;
  for (std::size_t r = 0; r < all.size(); ++r) s.add(all[r][cell], r, delta);
  return s;
}

inline void print_summary(const composition& what, const table& all,
                          const std::vector<bench_row>& rows) {
  std::printf(
      "\n%s: %zu rows x %d trials, all in %%\n"
      " epsilon delta | density: mean median  bytes | output beyond: all  worst row  rows failing |"
      " denominator: all  worst  failing | its own bound: all  worst  failing | mean error | exact   "
      " met  other | worst row\n",
      what.name().c_str(), rows.size(), all[0][0].trials);
  for (std::size_t c = 0; c < what.cells().size(); ++c) {
    const asked& a = what.cells()[c];
    summary s = summarise(all, c, a.delta);
    const int each = all[0][c].trials;
    const double exact = s.share(vattn::status::exact);
    const double met = s.share(vattn::status::met);
    const bool certified =
        std::any_of(s.statuses.begin(), s.statuses.end(), [](int n) { return n; });
    std::printf(
        "%8g %5g | %13.2f %6.2f %6.2f | %18.2f %10.1f %13d | %16.2f %6.1f %8d | %18.2f %6.1f %8d | %10.2f | %5.1f "
        "%6.1f "
        "%6.1f | %s\n",
        a.epsilon, a.delta, 100 * s.mean(s.density), 100 * s.median_density(),
        100 * s.mean(s.bytes), 100 * s.mean(s.output_beyond), 100.0 * s.worst_output / each,
        s.failing_output, 100 * s.mean(s.denominator_beyond), 100.0 * s.worst_denominator / each,
        s.failing_denominator, 100 * s.mean(s.bound_beyond), 100.0 * s.worst_bound / each,
        s.failing_bound, 100 * s.mean(s.error), 100 * exact, 100 * met,
        certified ? 100 * (1 - exact - met) : 0.0, rows[s.worst_row].name().c_str());
  }
}

/// One line a query head and cell: small enough to keep.
inline void write_heads(std::ostream& csv, const composition& what, const table& all,
                        const std::vector<bench_row>& rows) {
  for (std::size_t c = 0; c < what.cells().size(); ++c) {
    const asked& a = what.cells()[c];
    std::map<std::string, summary> heads;
    for (std::size_t r = 0; r < rows.size(); ++r)
      heads[rows[r].head_name()].add(all[r][c], r, a.delta);
    for (const auto& [name, s] : heads) {
      const double each = static_cast<double>(s.trials) / s.rows;
      char line[256];
      std::snprintf(line, sizeof line, ",%g,%g,%d,%d,%.4g,%.3g,%.3g,%.3g,%.3g,%d,%d,%.4g\n",
                    a.epsilon, a.delta, s.rows, s.trials, s.mean(s.density),
                    s.mean(s.output_beyond), s.mean(s.denominator_beyond), s.mean(s.error),
                    s.worst_output / each, s.failing_output, s.failing_denominator,
                    s.mean(s.bytes));
      csv << what.name() << ',' << name << line;
    }
  }
}
inline void write_heads_header(std::ostream& csv) {
  csv << "composition,head,epsilon,delta,rows,trials,density,output_violation,"
         "denominator_violation,mean_output_error,worst_row_output_violation,rows_failing_output,"
         "rows_failing_denominator,bytes_fraction\n";
}

}  // namespace vattn_bench
