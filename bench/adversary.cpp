// SPDX-License-Identifier: Apache-2.0
// What does it take to break a certificate? Outputs beyond epsilon, worst caches and rows read on
// caches that are made to fool a predictor, a sampler or a certificate.
#include <CLI/CLI.hpp>

#include "support/adversaries.hpp"
#include "support/coverage_report.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/synthetic.hpp"

using namespace vattn_bench;

namespace {

struct settings : experiment_options {
  std::vector<std::string> compositions{"paper-key-code", "uniform-output", "proportional",
                                        "default"};
  std::vector<double> epsilons{0.05, 0.1, 0.2};
  std::vector<double> deltas{0.1};
  index_t rows = 8192, needle_rows = 65536, dim = 64;
  int caches = 6, trials = 60;
};

void declare_all(CLI::App& app, settings& s) {
  app.add_option("--csv", s.csv, "file for the numbers behind the table");
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 1024));
  app.add_option("--seed", s.seed, "first seed");
  list_option(app, "--compositions", s.compositions, "names that `coverage --help` lists");
  const auto share = CLI::Range(1e-9, 1.0 - 1e-9);
  list_option(app, "--epsilons", s.epsilons, "relative errors asked for")->check(share);
  list_option(app, "--deltas", s.deltas, "shares of calls that may miss epsilon")->check(share);
  app.add_option("--rows", s.rows, "keys of a cache")->check(CLI::Range(512, 1 << 24));
  app.add_option("--needle-rows", s.needle_rows, "keys of a cache with a needle")
      ->check(CLI::Range(512, 1 << 24));
  app.add_option("--dim", s.dim, "key and value dimension")->check(CLI::Range(16, 1024));
  app.add_option("--caches", s.caches, "caches of a kind")->check(CLI::Range(1, 10'000));
  app.add_option("--trials", s.trials, "seeds a cache")->check(CLI::Range(1, 1'000'000));
}

/// Caches [first, last) of one kind.
struct group {
  std::string name;
  std::size_t first, last;
};

std::vector<group> make_caches(const settings& s, synthetic_rows& rows) {
  std::vector<group> groups;
  for (const auto& [name, what] : adversary_names) {
    const std::size_t first = rows.rows().size();
    for (int i = 0; i < s.caches; ++i)
      rows.add(name, make_adversary(what, what == adversary::needle ? s.needle_rows : s.rows, s.dim,
                                    s.seed + static_cast<std::uint64_t>(i)));
    groups.push_back({name, first, rows.rows().size()});
  }
  return groups;
}

void report(const group& g, const composition& what, const table& all, std::size_t cell,
            csv_file& csv) {
  const asked& a = what.cells()[cell];
  summary sum;
  for (std::size_t r = g.first; r < g.last; ++r) sum.add(all[r][cell], r, a.delta);
  const double each = static_cast<double>(sum.trials) / sum.rows;
  std::printf("%-12s %-16s %5g %5g | %7.2f | %7.2f %7.1f %5d | %7.2f %5d | %7.3f | %5.1f\n",
              g.name.c_str(), what.name().c_str(), a.epsilon, a.delta, 100 * sum.mean(sum.density),
              100 * sum.mean(sum.output_beyond), 100 * sum.worst_output / each, sum.failing_output,
              100 * sum.mean(sum.denominator_beyond), sum.failing_denominator,
              100 * sum.mean(sum.error), 100 * sum.share(vattn::status::exact));
  csv.row(g.name, what.name(), a.epsilon, a.delta, sum.rows, sum.trials, sum.mean(sum.density),
          sum.mean(sum.output_beyond), sum.worst_output / each, sum.failing_output,
          sum.mean(sum.denominator_beyond), sum.failing_denominator, sum.mean(sum.error));
}

void run(const settings& s) {
  csv_file csv(
      s.csv,
      "adversary,composition,epsilon,delta,caches,trials,density,output_beyond,worst_cache,"
      "caches_failing,denominator_beyond,caches_failing_denominator,mean_error");
  synthetic_rows rows;
  const std::vector<group> groups = make_caches(s, rows);
  const measured all = measure(s.compositions, all_pairs(s.epsilons, s.deltas), rows.rows(),
                               {s.seed, s.trials}, s.threads);
  print_build();
  std::printf(
      "%d caches a kind, %d seeds each; %%\n"
      "cache        composition    epsilon delta | density | output beyond: all, worst, "
      "caches failing | denominator: all, failing | mean error | read whole\n",
      s.caches, s.trials);
  for (const group& g : groups)
    for (std::size_t c = 0; c < all.compositions.size(); ++c)
      for (std::size_t cell = 0; cell < all.compositions[c]->cells().size(); ++cell)
        report(g, *all.compositions[c], all.tables[c], cell, csv);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Certificates on caches that are made to fool them.", "adversary");
  declare_all(app, s);
  CLI11_PARSE(app, argc, argv);
  return guarded("adversary", [&] { run(s); });
}
