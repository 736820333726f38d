// SPDX-License-Identifier: Apache-2.0
// Is the hybrid better than its parts? Rows that top-k alone, uniform sampling alone, half of each,
// and sampling in proportion to predicted weight need for the same mean output error, found by
// bisection over the size, on generated heads of several lengths and on captured ones.
#include <CLI/CLI.hpp>

#include <mutex>
#include <numeric>

#include "../examples/support/progress.hpp"
#include "support/exact_only.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/synthetic.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/presets.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  std::vector<double> errors{0.05, 0.1};
  std::vector<index_t> lengths{4096, 8192, 16384, 32768, 65536, 131072};
  int heads = 3, trials = 16, dim = 64;
};

void declare_all(CLI::App& app, settings& s) {
  s.positions = 16;
  declare(app, s);
  list_option(app, "--errors", s.errors, "mean relative errors of the output to be reached");
  list_option(app, "--lengths", s.lengths, "keys of the generated heads; 0: captures alone");
  app.add_option("--heads", s.heads, "generated heads a kind and length");
  app.add_option("--dim", s.dim, "their key and value dimension");
  app.add_option("--trials", s.trials, "seeds a row and size")->check(CLI::Range(1, 1'000'000));
}

constexpr std::array<const char*, 4> methods{"top-k", "uniform", "hybrid", "proportional"};

/// Mean output error and rows read at one size.
struct outcome {
  double error = 0.0, rows = 0.0;
};

/// The methods on one row, each at any size [rows beside sinks and window].
class trial_row {
public:
  trial_row(const bench_row& row, const settings& s, vattn::workspace& ws)
      : row_(row),
        kv_(row.head->kv()),
        exact_(vattn::reference(row.query(), kv_)),
        codes_(4, kv_.key_dim()),
        settings_(s),
        ws_(ws) {
    codes_.append(kv_);
  }

  const vattn::exact_attention& exact() const noexcept { return exact_; }

  outcome at(std::size_t method, index_t size) const {
    using namespace vattn;
    const auto all = rows(size);
    const auto half = rows(std::max<index_t>(least, size / 2));
    const top_k::key_code top(4, method == 0 ? all : method == 2 ? half : rows(0));
    const static_indices::sink_window fixed(32, 64);
    if (method == 0) return top_k_alone(top);
    const base_sampling::uniform base(rows(least));
    if (method == 1)
      return sampled(vattn::vattention(fixed, base, budget::fixed(all), uniform_),
                     top_k::no_index());
    if (method == 2)
      return sampled(vattn::vattention(fixed, top, base, budget::fixed(half), uniform_), codes_);
    return sampled(
        vattn::vattention(fixed, top, base_sampling::proportional(rows(least), least, least),
                          budget::fixed(all), dynamic_sampling::proportional()),
        codes_);
  }
  /// The least size, to 4 %, whose mean error is at most the wanted one.
  outcome bisect(std::size_t method, double error) const {
    index_t low = 2 * least;
    index_t high = row_.visible();
    outcome best = at(method, low);
    if (best.error <= error) return best;
    best = {0.0, static_cast<double>(high)};
    while (static_cast<double>(high) > 1.04 * static_cast<double>(low) && high > low + 2) {
      const auto middle =
          static_cast<index_t>(std::sqrt(static_cast<double>(low) * static_cast<double>(high)));
      const outcome here = at(method, middle);
      if (here.error <= error) best = here;
      (here.error <= error ? high : low) = middle;
    }
    return best;
  }

private:
  static constexpr index_t least = 16;

  outcome top_k_alone(const vattn::top_k::key_code& top) const {
    select_exact(top, codes_, row_.query(), kv_, ws_);
    const vattn::result r = attend_to_exact(row_.query(), kv_, ws_);
    return {vattn::relative_error(r.output, exact_.output), static_cast<double>(ws_.exact.size())};
  }
  template <class Functor>
  outcome sampled(const Functor& functor, const typename Functor::index_type& index) const {
    outcome mean;
    for (int i = 0; i < settings_.trials; ++i) {
      const auto key =
          row_.head->draw(row_.position, settings_.seed + static_cast<std::uint64_t>(i));
      const vattn::result r = functor(row_.query(), kv_, index, key, ws_);
      mean.error += vattn::relative_error(r.output, exact_.output) / settings_.trials;
      mean.rows +=
          r.certificates[0].density() * static_cast<double>(row_.visible()) / settings_.trials;
    }
    return mean;
  }

  const bench_row& row_;
  const vattn::kv_view& kv_;
  vattn::exact_attention exact_;
  vattn::top_k::key_code_index codes_;
  const settings& settings_;
  vattn::workspace& ws_;
  vattn::dynamic_sampling::uniform uniform_;
};

/// What one row needs: `[error][method]`.
struct finding {
  std::string group;
  index_t rows = 0;
  std::vector<std::array<outcome, methods.size()>> needed;
};

/// Adds what every row needs. Without a group name a row's class is its group.
void find(const settings& s, const std::vector<bench_row>& rows, const std::string& group,
          std::vector<finding>& found, csv_file& csv) {
  std::vector<finding> mine(rows.size());
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  vattn_examples::progress bar(rows.size(), "rows");
  std::mutex shared;
  for_each_parallel(rows.size(), s.threads, [&](int thread, std::size_t r) {
    const trial_row row(rows[r], s, spaces[static_cast<std::size_t>(thread)]);
    finding& f = mine[r];
    f.group = group.empty()
                  ? "captured, " + std::string(class_names[class_of(row.exact().entropy_share[0])])
                  : group;
    f.rows = group.empty() ? 0 : rows[r].visible();
    for (const double error : s.errors) {
      f.needed.emplace_back();
      for (std::size_t m = 0; m < methods.size(); ++m) {
        f.needed.back()[m] = row.bisect(m, error);
        f.needed.back()[m].rows /= static_cast<double>(rows[r].visible());
      }
    }
    const std::lock_guard lock(shared);
    bar.step();
  });
  for (std::size_t r = 0; r < mine.size(); ++r)
    for (std::size_t e = 0; e < s.errors.size(); ++e)
      for (std::size_t m = 0; m < methods.size(); ++m)
        csv.row(group.empty() ? "captured" : group,
                mine[r].group.substr(mine[r].group.find(' ') + 1), rows[r].visible(),
                rows[r].name(), s.errors[e], methods[m], mine[r].needed[e][m].rows,
                mine[r].needed[e][m].error);
  found.insert(found.end(), mine.begin(), mine.end());
}

/// A line a group and length: mean share of the rows that each method needs, and how often it is
/// best.
void print(const settings& s, const std::vector<finding>& found) {
  std::vector<std::pair<std::string, index_t>> groups;
  for (const finding& f : found)
    if (std::pair key(f.group, f.rows);
        std::find(groups.begin(), groups.end(), key) == groups.end())
      groups.push_back(key);
  for (std::size_t e = 0; e < s.errors.size(); ++e) {
    std::printf("\nmean output error %g: rows needed, %% of the cache, mean (median)\n%-24s",
                s.errors[e], "");
    for (const char* method : methods) std::printf(" | %-15s", method);
    std::puts(" | hybrid / better part");
    for (const auto& [name, length] : groups) {
      std::array<std::vector<double>, methods.size()> shares;
      std::vector<double> ratio;
      for (const finding& f : found) {
        if (f.group != name || f.rows != length) continue;
        for (std::size_t m = 0; m < methods.size(); ++m)
          shares[m].push_back(100 * f.needed[e][m].rows);
        ratio.push_back(f.needed[e][2].rows / std::min(f.needed[e][0].rows, f.needed[e][1].rows));
      }
      std::printf("%-16s %7lld", name.c_str(), static_cast<long long>(length));
      for (const std::vector<double>& x : shares) {
        const double sum = std::accumulate(x.begin(), x.end(), 0.0);
        std::printf(" | %6.2f (%6.2f)", sum / static_cast<double>(x.size()), quantile_of(x, 0.5));
      }
      std::printf(" | %.2f\n", quantile_of(ratio, 0.5));
    }
  }
}

void run(const settings& s) {
  csv_file csv(s.csv, "source,group,n,row,error,method,share,error_seen");
  using vattn::head_kind;
  const std::array<std::pair<const char*, head_kind>, 5> kinds{
      {{"sharp", head_kind::sharp},
       {"mixed", head_kind::mixed},
       {"flat", head_kind::flat},
       {"power_law", head_kind::power_law},
       {"log_normal", head_kind::log_normal}}};
  std::vector<finding> found;
  for (const auto& [name, kind] : kinds)
    for (const index_t n : s.lengths) {
      if (n == 0) continue;
      synthetic_rows rows;
      for (int h = 0; h < s.heads; ++h)
        rows.add(name, vattn::make_head(kind, n, s.dim, s.dim, 1,
                                        s.seed + static_cast<std::uint64_t>(h)));
      find(s, rows.rows(), name, found, csv);
    }
  const row_set captured(s.captures, s.positions);
  find(s, captured.rows(), "", found, csv);
  print_build();
  print(s, found);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Rows needed for equal error: top-k, sampling, both.", "hybrid");
  declare_all(app, s);
  CLI11_PARSE(app, argc, argv);
  return guarded("hybrid", [&] { run(s); });
}
