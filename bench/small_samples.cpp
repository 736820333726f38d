// SPDX-License-Identifier: Apache-2.0
// How tight is the central limit theorem at small b? Failure rate and half-width of intervals for
// the softmax denominator from a uniform sample of b rows: normal and Student quantiles, Hoeffding
// and empirical Bernstein (range from sound 8-bit bounds), with and without the finite population,
// by kurtosis of the sampled weights; and from which b on, in multiples of the kurtosis, the first
// holds.
#include <CLI/CLI.hpp>

#include <map>
#include <mutex>

#include "../examples/support/progress.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/interval.hpp"
#include "support/residual.hpp"
#include "support/verdict.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  std::vector<index_t> sizes{16, 32, 64, 128, 256, 512, 1024, 2048};
  std::vector<double> epsilons{0.05, 0.1, 0.2};
  double delta = 0.1;
  int trials = 400;
};

constexpr std::size_t methods = interval_names.size();
/// Kurtosis classes: below each of these, and above the last.
constexpr std::array<double, 4> edges{10, 30, 100, 300};
constexpr std::array<const char*, edges.size() + 1> kurtosis_names{
    "below 10", "10 to 30", "30 to 100", "100 to 300", "above 300"};

/// The residual weights of one row behind one exact set, and what samples of them gave:
/// `[size][method]`.
struct population {
  residual_weights rest;
  double ceiling = 0.0;
  std::size_t group = 0;
  std::vector<std::array<int, methods>> failures;
  std::vector<half_widths> widths;

  bool holds(std::size_t size, std::size_t method, const settings& s) const {
    return failures[size][method] <= allowed(s.trials, s.delta);
  }
  /// First size from which on a method holds; one beyond the last if there is none.
  std::size_t holds_from(std::size_t method, const settings& s) const {
    std::size_t from = s.sizes.size();
    while (from > 0 && holds(from - 1, method, s)) --from;
    return from;
  }
  /// First size whose mean half-width is at most epsilon; one beyond the last if there is none.
  std::size_t reaches(std::size_t method, double epsilon) const {
    std::size_t size = 0;
    while (size < widths.size() && !(widths[size][method] <= epsilon)) ++size;
    return size;
  }
  double rows_at(std::size_t size, const settings& s) const {
    const auto all = static_cast<double>(rest.weights.size());
    return size < s.sizes.size() ? std::min(all, static_cast<double>(s.sizes[size])) : all;
  }
};

/// Draws prefixes of random permutations; every size sees the same ones.
void sample(population& p, const vattn::draw_key& key, const settings& s) {
  std::vector<double>& w = p.rest.weights;
  const auto n = static_cast<index_t>(w.size());
  p.failures.resize(s.sizes.size());
  p.widths.resize(s.sizes.size());
  std::vector<interval_quantiles> quantiles;
  for (const index_t b : s.sizes) quantiles.emplace_back(s.delta, static_cast<double>(b));
  for (int trial = 0; trial < s.trials; ++trial) {
    const vattn::random_stream stream(key, static_cast<std::uint32_t>(trial));
    vattn::moments seen;
    for (std::size_t size = 0; size < s.sizes.size() && s.sizes[size] < n; ++size) {
      for (index_t i = seen.count(); i < s.sizes[size]; ++i) {
        const auto left = static_cast<std::uint64_t>(n - i);
        const auto other =
            static_cast<std::size_t>(i) + stream.below(static_cast<std::uint64_t>(i), left);
        std::swap(w[static_cast<std::size_t>(i)], w[other]);
        seen.add(w[static_cast<std::size_t>(i)]);
      }
      const vattn::range_sample drawn{static_cast<double>(n), static_cast<double>(seen.count()),
                                      p.ceiling};
      const half_widths t = half_widths_of(drawn, seen.variance(), quantiles[size]);
      const double off = std::fabs(static_cast<double>(n) * seen.mean() - p.rest.mass);
      for (std::size_t m = 0; m < methods; ++m) {
        p.failures[size][m] += off > t[m] ? 1 : 0;
        p.widths[size][m] += t[m] / s.trials;
      }
    }
  }
}

/// The two populations of a row: behind sinks and window, and behind top-k 2 % by 8-bit codes.
void study(const bench_row& row, const settings& s, const vattn::top_k::key_code_index& codes,
           vattn::workspace& ws, population* out) {
  const vattn::query_group query = row.query();
  const vattn::kv_view& kv = row.head->kv();
  const Eigen::VectorXd weights = vattn::softmax_weights(query, kv, 0);
  const double lse = vattn::reference(query, kv).log_sum_exp[0];
  for (int set = 0; set < 2; ++set) {
    const vattn::top_k::key_code top(
        8, set == 0 ? vattn::rows(0) : vattn::extent(vattn::fraction(0.02)));
    select_exact(top, codes, query, kv, ws);
    population& p = out[set];
    p.rest = outside(ws.exact, weights);
    ws.reserve_bounds(1, kv.rows());
    const vattn::attention_call<vattn::kv_view> call(query, kv, {});
    top.bounds(call, codes, 0, ws.lower.first(call.visible), ws.upper.first(call.visible), ws);
    float largest = -std::numeric_limits<float>::infinity();
    for (index_t i = 0; i < call.visible; ++i)
      if (!ws.exact.contains(static_cast<vattn::row_t>(i)))
        largest = std::max(largest, ws.upper[i]);
    p.ceiling = std::exp(static_cast<double>(largest) - lse);
    p.group = static_cast<std::size_t>(
        std::upper_bound(edges.begin(), edges.end(), p.rest.kurtosis) - edges.begin());
    sample(p, row.head->draw(row.position, s.seed), s);
  }
}

std::vector<population> study_all(const settings& s, const row_set& rows) {
  std::map<const kv_head*, vattn::top_k::key_code_index> codes;
  for (const kv_head* head : rows.heads())
    codes.emplace(head, vattn::top_k::key_code_index(8, head->kv().key_dim()))
        .first->second.append(head->kv());
  std::vector<population> all(2 * rows.rows().size());
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  vattn_examples::progress bar(rows.rows().size(), "rows");
  std::mutex shared;
  for_each_parallel(rows.rows().size(), s.threads, [&](int thread, std::size_t r) {
    const bench_row& row = rows.rows()[r];
    study(row, s, codes.at(row.head), spaces[static_cast<std::size_t>(thread)], &all[2 * r]);
    const std::lock_guard lock(shared);
    bar.step();
  });
  return all;
}

std::vector<const population*> of_group(const std::vector<population>& all, std::size_t group) {
  std::vector<const population*> chosen;
  for (const population& p : all)
    if (p.group == group) chosen.push_back(&p);
  return chosen;
}

/// Failure rate and populations beyond the 99.9 % point, a line a class and method, over b.
void print_failures(const settings& s, const std::vector<population>& all, csv_file& csv) {
  std::printf("failures %% (populations %% beyond the 99.9 %% point of delta), b =");
  for (const index_t b : s.sizes) std::printf(" %lld", static_cast<long long>(b));
  for (std::size_t group = 0; group < kurtosis_names.size(); ++group) {
    const auto chosen = of_group(all, group);
    if (chosen.empty()) continue;
    std::printf("\nkurtosis %s: %zu populations\n", kurtosis_names[group], chosen.size());
    for (std::size_t m = 0; m < methods; ++m) {
      std::printf("  %-18s", interval_names[m]);
      for (std::size_t size = 0; size < s.sizes.size(); ++size) {
        double failures = 0.0, broken = 0.0, width = 0.0;
        for (const population* p : chosen) {
          failures += p->failures[size][m] / static_cast<double>(s.trials);
          broken += p->holds(size, m, s) ? 0.0 : 1.0;
          width += p->widths[size][m];
        }
        const auto count = static_cast<double>(chosen.size());
        std::printf(" | %5.1f (%5.1f)", 100 * failures / count, 100 * broken / count);
        csv.row(kurtosis_names[group], interval_names[m], s.sizes[size], chosen.size(),
                failures / count, broken / count, width / count);
      }
      std::puts("");
    }
  }
}

/// Mean rows for a half-width of epsilon, and populations on which the interval fails at that size.
void print_cheapest(const settings& s, const std::vector<population>& all) {
  for (const double epsilon : s.epsilons) {
    std::printf(
        "\nhalf-width %g of the denominator: mean b (populations %% that fail there)\n%-12s",
        epsilon, "kurtosis");
    for (const char* name : interval_names) std::printf(" | %-18s", name);
    std::puts("");
    for (std::size_t group = 0; group < kurtosis_names.size(); ++group) {
      const auto chosen = of_group(all, group);
      if (chosen.empty()) continue;
      std::printf("%-12s", kurtosis_names[group]);
      for (std::size_t m = 0; m < methods; ++m) {
        double rows = 0.0, broken = 0.0;
        for (const population* p : chosen) {
          const std::size_t size = p->reaches(m, epsilon);
          rows += p->rows_at(size, s);
          broken += size < s.sizes.size() && !p->holds(size, m, s) ? 1.0 : 0.0;
        }
        const auto count = static_cast<double>(chosen.size());
        std::printf(" | %7.0f (%5.1f)   ", rows / count, 100 * broken / count);
      }
      std::puts("");
    }
  }
}

/// From which b on an interval of the normal kind holds, against kurtosis and squared skewness.
void print_rule(const settings& s, const std::vector<population>& all) {
  for (const std::size_t m : {std::size_t{1}, std::size_t{3}}) {
    std::printf(
        "\n%s holds from b on: b over kurtosis, and over squared skewness; 50 / 90 / 99 %% of "
        "the populations\n",
        interval_names[m]);
    for (std::size_t group = 0; group <= kurtosis_names.size(); ++group) {
      std::vector<double> by_kurtosis, by_skewness;
      for (const population& p : all) {
        if (p.group != group && group < kurtosis_names.size()) continue;
        const double b = p.rows_at(p.holds_from(m, s), s);
        by_kurtosis.push_back(b / std::max(1.0, p.rest.kurtosis));
        by_skewness.push_back(b / std::max(1.0, p.rest.skewness * p.rest.skewness));
      }
      if (by_kurtosis.empty()) continue;
      std::printf("%-12s %5zu", group < kurtosis_names.size() ? kurtosis_names[group] : "all",
                  by_kurtosis.size());
      for (const auto& x : {by_kurtosis, by_skewness})
        std::printf(" | %6.2f / %6.2f / %6.2f", quantile_of(x, 0.5), quantile_of(x, 0.9),
                    quantile_of(x, 0.99));
      std::puts("");
    }
  }
}

void run(const settings& s) {
  const row_set rows(s.captures, s.positions);
  csv_file csv(s.csv, "kurtosis,method,b,populations,failures,broken,half_width");
  const std::vector<population> all = study_all(s, rows);
  print_build();
  std::printf("%zu rows, each with and without top-k; %d samples each, delta %g\n",
              rows.rows().size(), s.trials, s.delta);
  print_failures(s, all, csv);
  print_cheapest(s, all);
  print_rule(s, all);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.positions = 16;
  CLI::App app("Intervals for the denominator from small samples.", "small_samples");
  declare(app, s);
  list_option(app, "--sizes", s.sizes, "sample sizes, ascending");
  list_option(app, "--epsilons", s.epsilons, "half-widths asked for, relative to the denominator");
  app.add_option("--delta", s.delta)->check(CLI::Range(1e-9, 0.5));
  app.add_option("--trials", s.trials, "samples a population")->check(CLI::Range(1, 1'000'000));
  CLI11_PARSE(app, argc, argv);
  return guarded("small_samples", [&] { run(s); });
}
