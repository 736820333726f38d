// SPDX-License-Identifier: Apache-2.0
// Which uniform sampler? The prefix of one random permutation (a fixed number of rows) against
// Bernoulli inclusion by geometric gaps (a random number), by coverage, error and time.
#include <CLI/CLI.hpp>

#include <chrono>

#include "support/bernoulli.hpp"
#include "support/coverage_report.hpp"
#include "support/guard.hpp"

using namespace vattn_bench;

namespace {

struct settings {
  std::vector<std::filesystem::path> captures = vattn_examples::default_captures();
  int trials = 60, positions = 8;
  int threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  bool only_times = false;
};

/// The default composition, from a base of 1 % or 32 rows, with either sampler.
auto prefix_output(vattn::epsilon asked, vattn::delta miss) {
  return vattn::vattention(vattn::static_indices::sink_window(32, 64),
                           vattn::top_k::key_code(4, vattn::fraction(0.02)),
                           vattn::base_sampling::uniform(vattn::fraction(0.01), 32),
                           vattn::budget::output(asked, miss), vattn::dynamic_sampling::uniform());
}
auto bernoulli_output(vattn::epsilon asked, vattn::delta miss) {
  return vattn::vattention(vattn::static_indices::sink_window(32, 64),
                           vattn::top_k::key_code(4, vattn::fraction(0.02)),
                           bernoulli_base(vattn::fraction(0.01), 32),
                           vattn::budget::output(asked, miss), bernoulli_growth());
}
auto bernoulli_paper(vattn::epsilon asked, vattn::delta miss) {
  return vattn::vattention(vattn::static_indices::sink_window(32, 64),
                           vattn::top_k::key_code(4, vattn::fraction(0.02)),
                           bernoulli_base(vattn::fraction(0.01), 2),
                           vattn::budget::clt(asked, miss), bernoulli_growth());
}
auto prefix_paper(vattn::epsilon asked, vattn::delta miss) {
  return vattn::presets::paper(asked, miss, vattn::top_k::key_code(4, vattn::fraction(0.02)));
}

using compositions = std::vector<std::unique_ptr<composition>>;

compositions both_samplers() {
  std::vector<asked> cells;
  for (const double e : {0.02, 0.05, 0.1, 0.2, 0.3}) cells.push_back({e, 0.1});
  compositions all;
  all.push_back(of_library("output, prefix", cells, prefix_output));
  all.push_back(of_library("output, Bernoulli", cells, bernoulli_output));
  all.push_back(of_library("denominator, prefix", cells, prefix_paper));
  all.push_back(of_library("denominator, Bernoulli", cells, bernoulli_paper));
  return all;
}

/// One line a composition and epsilon.
void print_errors(const compositions& all, const std::vector<table>& tables,
                  const std::vector<double>& microseconds) {
  std::printf(
      "%-24s epsilon | density | output: beyond  worst row  failing  mean error | denominator: beyond"
      "  worst row  failing  mean error | us a call\n",
      "budget, sampler");
  for (std::size_t k = 0; k < all.size(); ++k)
    for (std::size_t c = 0; c < all[k]->cells().size(); ++c) {
      const asked& a = all[k]->cells()[c];
      const summary s = summarise(tables[k], c, a.delta);
      const double each = 0.01 * tables[k][0][c].trials;
      std::printf(
          "%-24s %7g | %7.2f | %14.2f %10.1f %8d %11.3f | %19.2f %10.1f %8d %11.3f | %9.0f\n",
          all[k]->name().c_str(), a.epsilon, 100 * s.mean(s.density), 100 * s.mean(s.output_beyond),
          s.worst_output / each, s.failing_output, 100 * s.mean(s.error),
          100 * s.mean(s.denominator_beyond), s.worst_denominator / each, s.failing_denominator,
          100 * s.mean(s.denominator_error), microseconds[k]);
    }
}

void compare_errors(const settings& s) {
  const row_set rows(s.captures, s.positions);
  const compositions all = both_samplers();
  std::vector<table> tables;
  std::vector<std::atomic<double>> seconds(all.size());
  for (const auto& one : all) {
    for (const kv_head* head : rows.heads()) one->prepare(*head);
    tables.emplace_back(rows.rows().size(), std::vector<tally>(one->cells().size()));
  }
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  for_each_parallel(rows.rows().size(), s.threads, [&](int thread, std::size_t r) {
    const bench_row& row = rows.rows()[r];
    const vattn::exact_attention exact = vattn::reference(row.query(), row.head->kv());
    for (std::size_t k = 0; k < all.size(); ++k) {
      const auto start = std::chrono::steady_clock::now();
      all[k]->measure(row, exact, {1, s.trials}, spaces[static_cast<std::size_t>(thread)],
                      tables[k][r]);
      const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
      seconds[k] += took.count();
    }
  });
  std::vector<double> microseconds;
  for (std::size_t k = 0; k < all.size(); ++k)
    microseconds.push_back(1e6 * seconds[k] /
                           static_cast<double>(rows.rows().size() * all[k]->cells().size()) /
                           s.trials);
  std::printf(
      "%zu rows x %d trials, delta .1, all in %%; failing: rows beyond the binomial 99.9 %%"
      " point\n",
      rows.rows().size(), s.trials);
  print_errors(all, tables, microseconds);
}

/// Draws from n rows of which a list is fixed, without anything else of a call.
class draw_only {
public:
  explicit draw_only(vattn::index_t n)
      : data_(static_cast<std::size_t>(n)),
        kv_(vattn::rows_view(data_.data(), n, 1), vattn::rows_view(data_.data(), n, 1)),
        query_(&one_, 1, 1) {
    ws_.reserve(1, n, 1, 1, false);
    vattn::static_indices::sink_window(32, 64).select(n, ws_.exact);
    for (vattn::index_t i = 50; i < n; i += 50)  // 2 % "top-k"
      ws_.exact.add(static_cast<vattn::row_t>(i));
    ws_.exact.list();
  }

  /// Microseconds for a base sample of a share of the rest, and for its growth to another; medians.
  template <class Base, class Growth>
  std::array<double, 2> time(double base, double grown) {
    const vattn::population rest(kv_.rows(), ws_.exact);
    const Base first(vattn::fraction(base));
    const vattn::index_t size = vattn::fraction(grown).of(rest.size());
    std::array<std::vector<double>, 2> times;
    for (std::uint64_t seed = 0; seed < 201; ++seed) {
      const vattn::attention_call<vattn::kv_view> call(query_, kv_, {.seed = seed});
      const vattn::top_k::none predictor;
      const vattn::top_k::no_index index;
      const vattn::drawing d{call, rest, predictor, index, ws_};
      ws_.drawn.reset(kv_.rows());
      times[0].push_back(timed([&] { first.draw(d); }));
      times[1].push_back(timed([&] { Growth().grow(d, {&size, 1}); }));
    }
    for (auto& t : times) std::nth_element(t.begin(), t.begin() + 100, t.end());
    return {times[0][100], times[1][100]};
  }

private:
  template <class Body>
  static double timed(Body body) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - start;
    return took.count();
  }
  std::vector<float> data_;
  float one_ = 1.0F;
  vattn::kv_view kv_;
  vattn::query_group query_;
  vattn::workspace ws_;
};

void compare_times() {
  std::printf(
      "\nus a draw (median of 201) | prefix: base 1 %%  growth to 10 %%  base 10 %% |"
      " Bernoulli: base 1 %%  growth to 10 %%  base 10 %%\n");
  for (const vattn::index_t n : {8192, 32768, 131072}) {
    draw_only draws(n);
    const auto prefix =
        draws.time<vattn::base_sampling::uniform, vattn::dynamic_sampling::uniform>(0.01, 0.1);
    const auto prefix_10 =
        draws.time<vattn::base_sampling::uniform, vattn::dynamic_sampling::uniform>(0.1, 0.2);
    const auto gaps = draws.time<bernoulli_base, bernoulli_growth>(0.01, 0.1);
    const auto gaps_10 = draws.time<bernoulli_base, bernoulli_growth>(0.1, 0.2);
    std::printf("n = %-21lld | %16.1f %15.1f %10.1f | %19.1f %15.1f %10.1f\n",
                static_cast<long long>(n), prefix[0], prefix[1], prefix_10[0], gaps[0], gaps[1],
                gaps_10[0]);
  }
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("The library's uniform sampler against Bernoulli inclusion by gaps.", "samplers");
  app.add_option("--captures", s.captures, "safetensors files (default: examples/data)");
  app.add_option("--trials", s.trials, "seeds a row")->check(CLI::Range(1, 1'000'000));
  app.add_option("--positions", s.positions, "every m-th text position")
      ->check(CLI::Range(1, 1'000'000));
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 1024));
  app.add_flag("--only-times", s.only_times);
  CLI11_PARSE(app, argc, argv);
  return guarded("samplers", [&] {
    print_build();
    if (!s.only_times) compare_errors(s);
    compare_times();
  });
}
