// SPDX-License-Identifier: Apache-2.0
// Does epsilon predict the error? Observed errors of denominator and output against the epsilon
// that was asked, by class of row: Pearson correlation over means and over rows, and coverage of
// every cell.
#include <CLI/CLI.hpp>

#include "support/correlation.hpp"
#include "support/coverage_report.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"

using namespace vattn_bench;

namespace {

struct settings : experiment_options {
  std::vector<std::string> compositions{"paper-key-code", "authors", "default"};
  std::vector<double> epsilons{0.02, 0.05, 0.1, 0.2, 0.3};
  std::vector<double> deltas{0.05, 0.1, 0.2};
  int trials = 60;
};

void declare_all(CLI::App& app, settings& s) {
  declare(app, s);
  list_option(app, "--compositions", s.compositions, "names that `coverage --help` lists");
  const auto share = CLI::Range(1e-9, 1.0 - 1e-9);
  list_option(app, "--epsilons", s.epsilons, "relative errors asked for")->check(share);
  list_option(app, "--deltas", s.deltas, "shares of calls that may miss epsilon")->check(share);
  app.add_option("--trials", s.trials, "seeds a row")->check(CLI::Range(1, 1'000'000));
}

/// Rows of one class; the last group holds all of them.
struct group {
  std::string name;
  std::vector<std::size_t> rows;
};

std::vector<group> groups_of(const std::vector<bench_row>& rows, int threads) {
  std::vector<std::size_t> classes(rows.size());
  for_each_parallel(rows.size(), threads, [&](int, std::size_t r) {
    const auto exact = vattn::reference(rows[r].query(), rows[r].head->kv());
    classes[r] = class_of(exact.entropy_share[0]);
  });
  std::vector<group> groups;
  for (const char* name : class_names) groups.push_back({name, {}});
  groups.push_back({"all", {}});
  for (std::size_t r = 0; r < rows.size(); ++r) {
    groups[classes[r]].rows.push_back(r);
    groups.back().rows.push_back(r);
  }
  std::erase_if(groups, [](const group& g) { return g.rows.empty(); });
  return groups;
}

/// One of the two errors: how it is read off a tally.
struct error_kind {
  const char* name;
  double tally::*error;
  int tally::*beyond;
};
constexpr std::array<error_kind, 2> kinds{
    {{"denominator", &tally::denominator_error, &tally::denominator_beyond},
     {"output", &tally::output_error, &tally::output_beyond}}};

/// One error of one group in one cell: row means, calls beyond epsilon, rows that fail.
struct cell_result {
  std::vector<double> errors;
  double mean = 0.0, density = 0.0, beyond = 0.0;
  int failing = 0;
};

cell_result collect(const table& all, const group& g, std::size_t cell, const asked& a,
                    const error_kind& kind) {
  cell_result result;
  for (const std::size_t r : g.rows) {
    const tally& t = all[r][cell];
    result.errors.push_back(t.mean(t.*kind.error));
    result.mean += result.errors.back();
    result.density += t.mean(t.density);
    result.beyond += t.mean(t.*kind.beyond);
    result.failing += t.*kind.beyond > allowed(t.trials, a.delta) ? 1 : 0;
  }
  const auto count = static_cast<double>(g.rows.size());
  result.mean /= count;
  result.density /= count;
  result.beyond /= count;
  return result;
}

/// All epsilons of one composition, group, error and delta: a line, and a CSV line an epsilon.
void report(const composition& what, const table& all, const group& g, const error_kind& kind,
            double delta, csv_file& csv) {
  std::vector<double> asked_means, means, asked_rows, rows;
  std::string error, beyond, failing;
  const auto append = [](std::string& text, int width, int digits, double number) {
    char part[32];
    std::snprintf(part, sizeof part, " %*.*f", width, digits, number);
    text += part;
  };
  for (std::size_t c = 0; c < what.cells().size(); ++c) {
    const asked& a = what.cells()[c];
    if (a.delta != delta) continue;
    const cell_result result = collect(all, g, c, a, kind);
    asked_means.push_back(a.epsilon);
    means.push_back(result.mean);
    asked_rows.insert(asked_rows.end(), result.errors.size(), a.epsilon);
    rows.insert(rows.end(), result.errors.begin(), result.errors.end());
    append(error, 7, 4, result.mean);
    append(beyond, 5, 1, 100 * result.beyond);
    append(failing, 4, 0, result.failing);
    csv.row(what.name(), g.name, kind.name, a.epsilon, delta, g.rows.size(), result.density,
            result.mean, quantile_of(result.errors, 0.05), quantile_of(result.errors, 0.5),
            quantile_of(result.errors, 0.95), result.beyond, result.failing);
  }
  std::printf("%-16s %-5s %5g %-11s | %6.3f %6.3f |%s |%s |%s\n", what.name().c_str(),
              g.name.c_str(), delta, kind.name, correlation(asked_means, means),
              correlation(asked_rows, rows), error.c_str(), beyond.c_str(), failing.c_str());
}

void run(const settings& s) {
  const row_set rows(s.captures, s.positions);
  csv_file csv(s.csv,
               "composition,class,error,epsilon,delta,rows,density,mean,row_5,row_50,row_95,beyond,"
               "rows_failing");
  const std::vector<group> groups = groups_of(rows.rows(), s.threads);
  const measured all = measure(s.compositions, all_pairs(s.epsilons, s.deltas), rows.rows(),
                               {s.seed, s.trials}, s.threads);
  print_build();
  std::printf("%zu rows x %d seeds; epsilon", rows.rows().size(), s.trials);
  for (const double e : s.epsilons) std::printf(" %g", e);
  std::printf(
      "\ncomposition      class delta error       | correlation with epsilon: means, rows | mean "
      "error a epsilon | calls beyond epsilon, %% | rows beyond the 99.9 %% point of delta\n");
  for (std::size_t c = 0; c < all.compositions.size(); ++c)
    for (const error_kind& kind : kinds)
      for (const double delta : s.deltas)
        for (const group& g : groups)
          report(*all.compositions[c], all.tables[c], g, kind, delta, csv);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Observed errors against the epsilon that was asked.", "epsilon_error");
  declare_all(app, s);
  CLI11_PARSE(app, argc, argv);
  return guarded("epsilon_error", [&] { run(s); });
}
