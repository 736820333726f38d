// SPDX-License-Identifier: Apache-2.0
/// @file
/// Every composition on every row, over seeds: what tables of coverage are made of.
#pragma once

#include <chrono>
#include <mutex>

#include "../../examples/support/progress.hpp"
#include "compositions.hpp"

namespace vattn_bench {

/// Tallies of one composition: `[row][cell]`.
using table = std::vector<std::vector<tally>>;

/// Everything that is measured: `[composition]`.
struct measured {
  std::vector<std::unique_ptr<composition>> compositions;
  std::vector<table> tables;
  std::vector<double> seconds;
};

inline std::vector<asked> all_pairs(const std::vector<double>& epsilons,
                                    const std::vector<double>& deltas) {
  std::vector<asked> cells;
  for (const double e : epsilons)
    for (const double d : deltas) cells.push_back({e, d});
  return cells;
}

/// The exact answer once a row, then every named composition on it, for all cells and seeds.
inline measured measure(const std::vector<std::string>& names, const std::vector<asked>& cells,
                        const std::vector<bench_row>& rows, seeds which, int threads) {
  measured all;
  std::set<const kv_head*> heads;
  for (const bench_row& row : rows) heads.insert(row.head);
  for (const std::string& name : names) {
    all.compositions.push_back(make_composition(name, cells));
    for (const kv_head* head : heads) all.compositions.back()->prepare(*head);
    all.tables.emplace_back(rows.size(), std::vector<tally>(cells.size()));
  }
  all.seconds.assign(names.size(), 0.0);
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(threads));
  vattn_examples::progress bar(rows.size(), "rows");
  std::mutex shared;
  for_each_parallel(rows.size(), threads, [&](int thread, std::size_t r) {
    using clock = std::chrono::steady_clock;
    const vattn::exact_attention exact = vattn::reference(rows[r].query(), rows[r].head->kv());
    std::vector<double> took;
    for (std::size_t c = 0; c < names.size(); ++c) {
      const auto start = clock::now();
      all.compositions[c]->measure(rows[r], exact, which, spaces[static_cast<std::size_t>(thread)],
                                   all.tables[c][r]);
      took.push_back(std::chrono::duration<double>(clock::now() - start).count());
    }
    const std::lock_guard lock(shared);
    for (std::size_t c = 0; c < took.size(); ++c) all.seconds[c] += took[c];
    bar.step();
  });
  return all;
}

}  // namespace vattn_bench
