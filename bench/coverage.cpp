// SPDX-License-Identifier: Apache-2.0
// How often does an output miss the epsilon that was asked, per (head, query) row, and how many rows
// of K and V does it take? The library's compositions and the authors' code on captured heads.
#include <CLI/CLI.hpp>

#include <fstream>

#include "support/coverage_report.hpp"
#include "support/guard.hpp"

using namespace vattn_bench;

namespace {

struct settings {
  std::vector<std::filesystem::path> captures = vattn_examples::default_captures();
  std::string csv, heads_csv, part;
  std::vector<std::string> compositions = composition_names();
  std::vector<double> epsilons{0.02, 0.05, 0.1, 0.2, 0.3};
  std::vector<double> deltas{0.05, 0.1, 0.2};
  int trials = 60, positions = 1;
  bool groups = false;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::uint64_t seed = 1;
};

void declare(CLI::App& app, settings& s) {
  const auto list = [&](const char* name, auto& values, const char* help) {
    return app.add_option(name, values, help)->delimiter(',')->allow_extra_args(false);
  };
  app.add_option("--captures", s.captures, "safetensors files (default: examples/data)");
  app.add_option("--csv", s.csv, "a line a composition, row, epsilon and delta");
  app.add_option("--heads-csv", s.heads_csv, "the same summed over the rows of each query head");
  std::vector<std::string> names = composition_names();
  for (const std::string& other : other_composition_names()) names.push_back(other);
  list("--compositions", s.compositions, "any of the names below, e.g. authors,uniform-output")
      ->check(CLI::IsMember(names));
  const auto share = CLI::Range(1e-9, 1.0 - 1e-9);
  list("--epsilons", s.epsilons, "relative errors asked for")->check(share);
  list("--deltas", s.deltas, "shares of calls that may miss epsilon")->check(share);
  app.add_option("--trials", s.trials, "seeds a row")->check(CLI::Range(1, 1'000'000));
  app.add_flag("--groups", s.groups,
               "all query heads of a KV head in one call, each judged for itself");
  app.add_option("--positions", s.positions, "every m-th text position, the last one among them")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--rows", s.part, "only rows whose name contains this, e.g. layer08.kv0.q0@");
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 1024));
  app.add_option("--seed", s.seed, "first seed; row and KV head make the draws different anyway");
}

std::vector<asked> cells_of(const settings& s) { return all_pairs(s.epsilons, s.deltas); }

/// A failing row, tried again with seeds it has not seen.
void repeat_row(const settings& s, const composition& what, const bench_row& row, std::size_t cell,
                const tally& first) {
  vattn::workspace ws;
  std::vector<tally> again(what.cells().size());
  const vattn::exact_attention exact = vattn::reference(row.query(), row.head->kv());
  const auto fresh = s.seed + static_cast<std::uint64_t>(s.trials);
  what.measure(row, exact, {fresh, 10 * s.trials}, ws, again);
  const asked& a = what.cells()[cell];
  const int now = beyond(again[cell], what.promise());
  std::printf("  %s, epsilon %g, delta %g: %d of %d; again with fresh seeds %d of %d, %s\n",
              row.name().c_str(), a.epsilon, a.delta, beyond(first, what.promise()), first.trials,
              now, again[cell].trials,
              now > allowed(again[cell].trials, a.delta) ? "fails again" : "holds");
}

/// Names the rows that break what the composition promises; the worst 20 of them are tried again.
void report_failing(const settings& s, const composition& what, const table& all,
                    const row_set& rows) {
  if (what.promise() == vattn::quantity::numerator) {
    std::puts(" promised: numerator, whose own error is not measured");
    return;
  }
  struct failing {
    std::size_t row, cell;
    double excess;
  };
  std::vector<failing> found;
  for (std::size_t r = 0; r < all.size(); ++r)
    for (std::size_t c = 0; c < what.cells().size(); ++c) {
      const int most = allowed(s.trials, what.cells()[c].delta);
      const int bad = beyond(all[r][c], what.promise());
      if (bad > most) found.push_back({r, c, bad / (1.0 + most)});
    }
  std::printf(" promised: %s. Rows x cells beyond the binomial 99.9 %% point: %zu of %zu%s\n",
              to_string(what.promise()), found.size(), all.size() * what.cells().size(),
              found.size() > 20 ? ", the worst 20:" : "");
  std::stable_sort(found.begin(), found.end(),
                   [](const failing& x, const failing& y) { return x.excess > y.excess; });
  for (std::size_t i = 0; i < std::min<std::size_t>(20, found.size()); ++i)
    repeat_row(s, what, rows.rows()[found[i].row], found[i].cell, all[found[i].row][found[i].cell]);
}

std::ofstream open(const std::string& path) {
  std::ofstream file(path);
  if (!file) throw std::runtime_error(path + ": cannot be written");
  return file;
}

void write(const settings& s, const row_set& rows, const measured& all) {
  std::ofstream csv;
  std::ofstream heads;
  if (!s.csv.empty()) write_header(csv = open(s.csv));
  if (!s.heads_csv.empty()) write_heads_header(heads = open(s.heads_csv));
  for (std::size_t c = 0; c < all.compositions.size(); ++c) {
    for (std::size_t r = 0; csv.is_open() && r < rows.rows().size(); ++r)
      write_lines(csv, *all.compositions[c], rows.rows()[r], all.tables[c][r]);
    if (heads.is_open()) write_heads(heads, *all.compositions[c], all.tables[c], rows.rows());
  }
  for (const auto& [file, path] : {std::pair(&csv, s.csv), std::pair(&heads, s.heads_csv)})
    if (!path.empty() && !file->flush()) throw std::runtime_error(path + ": cannot be written");
}

void run(const settings& s) {
  const row_set rows(s.captures, s.positions, s.part, s.groups);
  for (const std::string& path : {s.csv, s.heads_csv})
    if (!path.empty()) open(path);  // a wrong path shows before the work, not after it
  const auto start = std::chrono::steady_clock::now();
  const measured all =
      measure(s.compositions, cells_of(s), rows.rows(), {s.seed, s.trials}, s.threads);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  write(s, rows, all);
  print_build();
  for (std::size_t c = 0; c < all.compositions.size(); ++c) {
    print_summary(*all.compositions[c], all.tables[c], rows.rows());
    report_failing(s, *all.compositions[c], all.tables[c], rows);
    const double calls = static_cast<double>(rows.rows().size() * cells_of(s).size()) * s.trials;
    std::printf(" %.0f calls in %.0f thread seconds\n", calls, all.seconds[c]);
  }
  std::printf("\n%.0f s on %d threads\n", took.count(), s.threads);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Coverage of certificates on captured heads.", "coverage");
  declare(app, s);
  std::string names = "Compositions:";
  for (const std::string& name : composition_names()) names += " " + name;
  app.footer(names);
  CLI11_PARSE(app, argc, argv);
  return guarded("coverage", [&] { run(s); });
}
