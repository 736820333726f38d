// SPDX-License-Identifier: Apache-2.0
// Which method has the least error in equal time? Median time of a call on one thread and output
// error, at several densities: the default composition and a hybrid of top-k and uniform sampling at
// fixed sizes, sign hashes alone, pages alone, oracle top-p alone, and the dense kernel, in turn, on
// generated caches beyond the last-level cache and on captured heads.
#include <CLI/CLI.hpp>

#include <time.h>

#include <functional>
#include <map>
#include <memory>

#include "../examples/support/progress.hpp"
#include "support/exact_only.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/synthetic.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/page_bounds.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  std::vector<double> densities{0.02, 0.05, 0.1, 0.15, 0.2};
  std::vector<double> masses{0.5, 0.8, 0.9, 0.95, 0.99};
  index_t rows = 32768, dim = 128;
  int heads = 8, repeats = 11;
};

/// A call on one row: the output is left in ws.output, the share of rows read returned.
using procedure = std::function<double(const bench_row&, vattn::draw_key, vattn::workspace&)>;

/// A procedure at one setting, and what its calls gave.
struct contender {
  std::string name;
  double setting;
  procedure call;
  std::vector<double> times, errors, densities;  // [us], relative, share
};

/// Makes something for every KV head, once.
template <class Make>
auto for_heads(const std::vector<bench_row>& rows, Make make) {
  auto made = std::make_shared<std::map<const kv_head*, decltype(make(rows[0].head->kv()))>>();
  for (const bench_row& row : rows)
    if (!made->contains(row.head)) made->emplace(row.head, make(row.head->kv()));
  return made;
}

double exact_density(const bench_row& row, vattn::workspace& ws) {
  attend_to_exact(row.query(), row.head->kv(), ws);
  return static_cast<double>(ws.exact.size()) / static_cast<double>(row.visible());
}

/// What is left of a density behind sinks and window.
double beside_fixed(double density, const bench_row& row) {
  return std::max(1e-3, density - 96.0 / static_cast<double>(row.visible()));
}

/// A composition at every density; `make` takes the share of the rows beside sinks and window.
template <class Make>
void enter_composition(const char* name, const settings& s, const std::vector<bench_row>& rows,
                       Make make, std::vector<contender>& all) {
  const auto indices =
      for_heads(rows, [&](const vattn::kv_view& kv) { return make(0.1).make_index(kv); });
  for (const double density : s.densities)
    all.push_back({name,
                   density,
                   [=](const bench_row& row, vattn::draw_key key, vattn::workspace& ws) {
                     const auto functor = make(beside_fixed(density, row));
                     return functor(row.query(), row.head->kv(), indices->at(row.head), key, ws)
                         .certificates[0]
                         .density();
                   },
                   {},
                   {},
                   {}});
}

/// The default's policies with a fixed size in place of an epsilon, and half top-k by 4-bit codes,
/// half uniform.
void enter_compositions(const settings& s, const std::vector<bench_row>& rows,
                        std::vector<contender>& all) {
  using namespace vattn;
  const static_indices::sink_window ends(32, 64);
  enter_composition(
      "default", s, rows,
      [=](double share) {
        return vattn::vattention(ends, top_k::cascade(2, 4), base_sampling::proportional(),
                                 budget::fixed(fraction(share)), dynamic_sampling::proportional());
      },
      all);
  enter_composition(
      "hybrid", s, rows,
      [=](double share) {
        const extent half = fraction(share / 2.0);
        return vattn::vattention(ends, top_k::key_code(4, half), base_sampling::uniform(half),
                                 budget::fixed(half), dynamic_sampling::uniform());
      },
      all);
}

/// What a predictor picks, at every density; `make` takes the share of the rows beside sinks and window.
template <class Make>
void enter_picks(const char* name, const settings& s, const std::vector<bench_row>& rows, Make make,
                 std::vector<contender>& all) {
  const auto indices = for_heads(rows, [&](const vattn::kv_view& kv) {
    auto index = make(0.1).make_index(kv.key_dim());
    index.append(kv);
    return index;
  });
  for (const double density : s.densities)
    all.push_back({name,
                   density,
                   [=](const bench_row& row, vattn::draw_key, vattn::workspace& ws) {
                     select_exact(make(beside_fixed(density, row)), indices->at(row.head),
                                  row.query(), row.head->kv(), ws);
                     return exact_density(row, ws);
                   },
                   {},
                   {},
                   {}});
}

void enter_top_k(const settings& s, const std::vector<bench_row>& rows,
                 std::vector<contender>& all) {
  using namespace vattn;
  enter_picks(
      "sign hash", s, rows, [](double share) { return top_k::sign_hash(64, fraction(share)); },
      all);
  enter_picks(
      "pages", s, rows, [](double share) { return top_k::page_bounds(16, fraction(share)); }, all);
  for (const double share : s.masses)
    all.push_back({"oracle top-p",
                   share,
                   [=](const bench_row& row, draw_key, workspace& ws) {
                     select_exact(top_k::oracle(mass(share)), {}, row.query(), row.head->kv(), ws);
                     return exact_density(row, ws);
                   },
                   {},
                   {},
                   {}});
}

std::vector<contender> enter_all(const settings& s, const std::vector<bench_row>& rows) {
  std::vector<contender> all;
  all.push_back({"dense",
                 1.0,
                 [](const bench_row& row, vattn::draw_key, vattn::workspace& ws) {
                   vattn::dense(row.query(), row.head->kv(), ws);
                   return 1.0;
                 },
                 {},
                 {},
                 {}});
  enter_compositions(s, rows, all);
  enter_top_k(s, rows, all);
  return all;
}

double cpu_microseconds() {
  std::timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e6 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_nsec);
}

/// Every contender passes over all rows before the next one does, so that none finds a cache warm
/// that all rows together do not fit into. The first repetition does not count.
void race(const settings& s, const std::vector<bench_row>& rows, std::vector<contender>& all) {
  std::vector<Eigen::VectorXd> exact(rows.size());
  for_each_parallel(rows.size(), s.threads, [&](int, std::size_t r) {
    exact[r] = vattn::reference(rows[r].query(), rows[r].head->kv()).output.row(0);
  });
  vattn::workspace ws;
  vattn_examples::progress bar(static_cast<std::size_t>(s.repeats + 1), "repetitions");
  for (int repeat = -1; repeat < s.repeats; ++repeat, bar.step())
    for (contender& c : all)
      for (std::size_t r = 0; r < rows.size(); ++r) {
        const auto seed = s.seed + static_cast<std::uint64_t>(repeat + 1);
        const double start = cpu_microseconds();
        const double density = c.call(rows[r], rows[r].head->draw(rows[r].position, seed), ws);
        const double took = cpu_microseconds() - start;
        if (repeat < 0) continue;
        const Eigen::Map<const Eigen::VectorXf> output(ws.output.data(), exact[r].size());
        c.times.push_back(took);
        c.errors.push_back(vattn::relative_error(output, exact[r]));
        c.densities.push_back(density);
      }
}

double mean_of(const std::vector<double>& x) {
  return Eigen::Map<const Eigen::ArrayXd>(x.data(), static_cast<Eigen::Index>(x.size())).mean();
}

void compare(const settings& s, const char* source, const std::vector<bench_row>& rows,
             csv_file& csv) {
  std::vector<contender> all = enter_all(s, rows);
  race(s, rows, all);
  const double dense = quantile_of(all[0].times, 0.5);
  std::printf(
      "\n%s: %zu rows, %lld keys; one thread, median CPU time of %d calls a row\n"
      "method       setting | rows read %% | time [us], / dense | output error %%: mean, median,"
      " 95 %%\n",
      source, rows.size(), static_cast<long long>(rows[0].visible()), s.repeats);
  for (const contender& c : all) {
    const double time = quantile_of(c.times, 0.5);
    const double density = mean_of(c.densities), error = mean_of(c.errors);
    const double middle = quantile_of(c.errors, 0.5), most = quantile_of(c.errors, 0.95);
    std::printf("%-12s %7g | %11.2f | %9.1f %8.2f | %12.2f %8.2f %8.2f\n", c.name.c_str(),
                c.setting, 100 * density, time, time / dense, 100 * error, 100 * middle,
                100 * most);
    csv.row(source, c.name, c.setting, density, time, time / dense, error, middle, most);
  }
}

void run(const settings& s) {
  csv_file csv(s.csv,
               "source,method,setting,density,microseconds,of_dense,mean_error,median_error,"
               "error_95");
  print_build();
  for (const auto& [name, kind] : {std::pair("power_law", vattn::head_kind::power_law),
                                   std::pair("log_normal", vattn::head_kind::log_normal)}) {
    synthetic_rows rows;
    for (int h = 0; h < s.heads; ++h)
      rows.add_narrow(name, vattn::make_head(kind, s.rows, s.dim, s.dim, 1,
                                             s.seed + static_cast<std::uint64_t>(h)));
    compare(s, name, rows.rows(), csv);
  }
  const row_set captured(s.captures, s.positions);
  compare(s, "captured", captured.rows(), csv);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.positions = 64;
  CLI::App app("Latency against output error at several densities.", "equal_time");
  declare(app, s);
  list_option(app, "--densities", s.densities, "shares of the rows that are read");
  list_option(app, "--masses", s.masses, "p of oracle top-p");
  app.add_option("--rows", s.rows, "keys of a generated cache")->check(CLI::Range(1024, 1 << 24));
  app.add_option("--dim", s.dim, "their key and value dimension")->check(CLI::Range(16, 1024));
  app.add_option("--heads", s.heads, "generated caches of a kind")->check(CLI::Range(1, 4096));
  app.add_option("--repeats", s.repeats)->check(CLI::Range(1, 10'000));
  CLI11_PARSE(app, argc, argv);
  return guarded("equal_time", [&] { run(s); });
}
