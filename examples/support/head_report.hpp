// SPDX-License-Identifier: Apache-2.0
/// @file
/// What was seen of one query head at one epsilon, as a line of a table and of a CSV file.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <ostream>
#include <string>
#include <vector>

#include "vattention/core/certificate.hpp"

namespace vattn_examples {

/// The value below which a share of the numbers lies (nearest rank); they are reordered. Not empty.
inline double quantile(std::vector<double>& numbers, double share) {
  const auto last = static_cast<double>(numbers.size() - 1);
  const auto at = numbers.begin() + static_cast<std::ptrdiff_t>(std::ceil(share * last));
  std::nth_element(numbers.begin(), at, numbers.end());
  return *at;
}
inline double median(std::vector<double>& numbers) { return quantile(numbers, 0.5); }

/// Kind of a head by effective support: the share of the rows that its weight is spread over.
inline const char* kind_of(double support) noexcept {
  return support < 0.002 ? "sharp" : support < 0.01 ? "middle" : support <= 0.10 ? "wide" : "flat";
}

/// Calls of one query head at one epsilon.
struct head_row {
  std::string kv_head, query_head, policy;
  double support = 0.0, epsilon = 0.0, delta = 0.0;
  /// Over the calls: share of rows read (mean), relative output errors, those above epsilon.
  std::size_t calls = 0, beyond = 0;
  double density = 0.0, error_median = 0.0, error_95 = 0.0, error_worst = 0.0;
  /// Median time of a call and of the dense kernel [us].
  double time = 0.0, dense_time = 0.0;
  std::array<std::size_t, vattn::status_count> statuses{};

  double share_beyond() const noexcept {
    return static_cast<double>(beyond) / static_cast<double>(calls);
  }
};

/// `61 met, 3 exact`, the commonest first.
inline std::string certificates_of(const head_row& row) {
  std::vector<std::pair<std::size_t, int>> counts;
  for (std::size_t s = 0; s < row.statuses.size(); ++s)
    if (row.statuses[s] != 0) counts.emplace_back(row.statuses[s], -static_cast<int>(s));
  std::sort(counts.rbegin(), counts.rend());
  std::string text;
  for (const auto& [count, s] : counts)
    text += (text.empty() ? "" : ", ") + std::to_string(count) + " " +
            to_string(static_cast<vattn::status>(-s));
  return text;
}

/// An error in 7 columns.
inline std::string error_text(double error) {
  if (error > 0.0 && error < 0.00005) return "<0.0001";
  char text[32];
  std::snprintf(text, sizeof text, "%7.4f", error);
  return text;
}

/// Rows of a head must follow each other. Its name is printed once.
inline void print_table(const std::vector<head_row>& rows) {
  std::puts(
      "                           |   asked     rows | relative error of output | calls beyond  | time /");
  std::puts(
      "query head support  kind   | epsilon     read |  median     95 %    worst | epsilon delta | "
      " dense   certificates");
  const head_row* last = nullptr;
  for (const head_row& row : rows) {
    const bool same_kv = last != nullptr && last->kv_head == row.kv_head;
    if (!same_kv) std::printf("%s\n", row.kv_head.c_str());
    if (same_kv && last->query_head == row.query_head)
      std::printf("%26s", "");
    else
      std::printf("  %-6s %7.2f %%  %-6s", row.query_head.c_str(), 100.0 * row.support,
                  kind_of(row.support));
    std::printf(" | %7.4g %6.2f %% | %7s  %7s  %7s | %4.1f %%%c %3.0f %% | %6.2f   %s\n",
                row.epsilon, 100.0 * row.density, error_text(row.error_median).c_str(),
                error_text(row.error_95).c_str(), error_text(row.error_worst).c_str(),
                100.0 * row.share_beyond(), row.share_beyond() > row.delta ? '!' : ' ',
                100.0 * row.delta, row.time / row.dense_time, certificates_of(row).c_str());
    last = &row;
  }
}

inline void write_csv(const std::vector<head_row>& rows, std::ostream& out) {
  out << "head,kind,support,policy,epsilon,delta,calls,density,error_median,error_95,error_worst,"
         "beyond,certificates,microseconds,dense_microseconds\n";
  for (const head_row& row : rows)
    out << row.kv_head << '.' << row.query_head << ',' << kind_of(row.support) << ',' << row.support
        << ',' << row.policy << ',' << row.epsilon << ',' << row.delta << ',' << row.calls << ','
        << row.density << ',' << row.error_median << ',' << row.error_95 << ',' << row.error_worst
        << ',' << row.share_beyond() << ",\"" << certificates_of(row) << "\"," << row.time << ','
        << row.dense_time << '\n';
}

}  // namespace vattn_examples
