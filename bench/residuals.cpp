// SPDX-License-Identifier: Apache-2.0
// What do the distributions that a budget has to judge look like? Entropy share of every row, and
// mass and kurtosis of the weights left to sampling, without top-k, with oracle top-k and with
// 4-bit codes; and whether three classes by entropy share cover them.
#include <CLI/CLI.hpp>

#include <cstring>
#include <functional>
#include <map>
#include <mutex>

#include "../examples/support/progress.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/residual.hpp"
#include "vattention/stats/moments.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn_bench;

namespace {

struct settings : experiment_options {
  double top_k = 0.02;
  bool heads = false;
};

constexpr std::array<const char*, 3> exact_sets{"sinks and window", "and oracle top-k",
                                                "and 4-bit top-k"};

/// One row: its entropy share, and what each exact set leaves.
struct finding {
  double entropy_share = 0.0;
  std::array<double, exact_sets.size()> mass{}, kurtosis{};
};

finding look_at(const bench_row& row, const settings& s, const vattn::top_k::key_code_index& codes,
                vattn::workspace& ws) {
  const vattn::query_group query = row.query();
  const vattn::kv_view& kv = row.head->kv();
  const Eigen::VectorXd weights = vattn::softmax_weights(query, kv, 0);
  finding f;
  f.entropy_share = vattn::reference(query, kv).entropy_share[0];
  const auto note = [&](std::size_t set) {
    const residual_weights left = outside(ws.exact, weights);
    f.mass[set] = left.mass;
    f.kurtosis[set] = left.kurtosis;
  };
  const vattn::extent k = vattn::fraction(s.top_k);
  const vattn::top_k::no_index none;
  select_exact(vattn::top_k::oracle(vattn::rows(0)), none, query, kv, ws);
  note(0);
  select_exact(vattn::top_k::oracle(k), none, query, kv, ws);
  note(1);
  select_exact(vattn::top_k::key_code(4, k), codes, query, kv, ws);
  note(2);
  return f;
}

std::vector<finding> look_at_all(const settings& s, const row_set& rows) {
  std::map<const kv_head*, vattn::top_k::key_code_index> codes;
  for (const kv_head* head : rows.heads())
    codes.emplace(head, vattn::top_k::key_code_index(4, head->kv().key_dim()))
        .first->second.append(head->kv());
  std::vector<finding> found(rows.rows().size());
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  vattn_examples::progress bar(found.size(), "rows");
  std::mutex shared;
  for_each_parallel(found.size(), s.threads, [&](int thread, std::size_t r) {
    const bench_row& row = rows.rows()[r];
    found[r] = look_at(row, s, codes.at(row.head), spaces[static_cast<std::size_t>(thread)]);
    const std::lock_guard lock(shared);
    bar.step();
  });
  return found;
}

void write(const settings& s, const row_set& rows, const std::vector<finding>& found) {
  csv_file csv(s.csv,
               "row,layer,class,entropy_share,mass,kurtosis,mass_oracle,kurtosis_oracle,mass_code,"
               "kurtosis_code");
  for (std::size_t r = 0; r < found.size(); ++r) {
    const finding& f = found[r];
    csv.row(rows.rows()[r].name(), rows.rows()[r].head->layer(),
            class_names[class_of(f.entropy_share)], f.entropy_share, f.mass[0], f.kurtosis[0],
            f.mass[1], f.kurtosis[1], f.mass[2], f.kurtosis[2]);
  }
}

/// `5 % / median / 95 %`.
std::string spread_of(const std::vector<double>& x, double factor) {
  char text[64];
  std::snprintf(text, sizeof text, "%.3g / %.3g / %.3g", factor * quantile_of(x, 0.05),
                factor * quantile_of(x, 0.5), factor * quantile_of(x, 0.95));
  return text;
}

/// A line for the findings that a test chooses.
template <class Chosen>
void print_line(const std::string& name, const std::vector<finding>& found, Chosen chosen) {
  std::vector<double> entropy;
  std::array<std::vector<double>, exact_sets.size()> mass, kurtosis;
  for (std::size_t r = 0; r < found.size(); ++r) {
    if (!chosen(r)) continue;
    entropy.push_back(100 * found[r].entropy_share);
    for (std::size_t set = 0; set < exact_sets.size(); ++set) {
      mass[set].push_back(100 * found[r].mass[set]);
      kurtosis[set].push_back(found[r].kurtosis[set]);
    }
  }
  if (entropy.empty()) return;
  std::printf("%-24s %5zu %5.1f | %-22s", name.c_str(), entropy.size(),
              100.0 * static_cast<double>(entropy.size()) / static_cast<double>(found.size()),
              spread_of(entropy, 1.0).c_str());
  for (std::size_t set = 0; set < exact_sets.size(); ++set)
    std::printf(" | %-22s %-22s", spread_of(mass[set], 1.0).c_str(),
                spread_of(kurtosis[set], 1.0).c_str());
  std::puts("");
}

/// Share of the variance of log x that lies between the classes.
double explained(const std::vector<finding>& found,
                 const std::function<double(const finding&)>& x) {
  vattn::moments all;
  std::array<vattn::moments, class_names.size()> within;
  for (const finding& f : found) {
    const double value = std::log(std::max(1e-12, x(f)));
    all.add(value);
    within[class_of(f.entropy_share)].add(value);
  }
  double inside = 0.0;
  for (const vattn::moments& m : within)
    if (m.count() > 1) inside += m.variance() * static_cast<double>(m.count() - 1);
  return 1.0 - inside / (all.variance() * static_cast<double>(all.count() - 1));
}

/// How much of what differs between rows the three classes know of, and whether a head keeps its
/// class.
void print_classes(const row_set& rows, const std::vector<finding>& found) {
  std::printf(
      "\nshare of the variance of the logarithm that lies between the classes: entropy share %.2f",
      explained(found, [](const finding& f) { return f.entropy_share; }));
  for (std::size_t set = 0; set < exact_sets.size(); ++set)
    std::printf("; %s: mass %.2f, kurtosis %.2f", exact_sets[set],
                explained(found, [=](const finding& f) { return f.mass[set]; }),
                explained(found, [=](const finding& f) { return f.kurtosis[set]; }));
  std::map<std::string, std::array<int, class_names.size()>> heads;
  for (std::size_t r = 0; r < found.size(); ++r)
    ++heads[rows.rows()[r].head_name()][class_of(found[r].entropy_share)];
  const auto one_class = std::count_if(heads.begin(), heads.end(), [](const auto& head) {
    return std::count(head.second.begin(), head.second.end(), 0) == 2;
  });
  std::printf("\nquery heads that stay in one class at all positions: %td of %zu\n", one_class,
              heads.size());
}

void run(const settings& s) {
  const row_set rows(s.captures, s.positions);
  csv_file(s.csv, "");
  const std::vector<finding> found = look_at_all(s, rows);
  write(s, rows, found);
  print_build();
  std::printf(
      "%zu rows, top-k %g %%; 5 %% / median / 95 %%; shares and masses in %%\n%-24s  rows     %% |"
      " %-22s",
      found.size(), 100 * s.top_k, "", "entropy share");
  for (const char* set : exact_sets)
    std::printf(" | %s: mass, kurtosis %*s", set, static_cast<int>(29 - std::strlen(set)), "");
  std::puts("");
  for (std::size_t c = 0; c < class_names.size(); ++c)
    print_line(class_names[c], found,
               [&](std::size_t r) { return class_of(found[r].entropy_share) == c; });
  print_line(" of wide: above 10 %", found,
             [&](std::size_t r) { return found[r].entropy_share > 0.1; });
  print_line("all", found, [](std::size_t) { return true; });
  if (s.heads)
    for (std::size_t first = 0; first < found.size();) {
      const std::string name = rows.rows()[first].head_name();
      print_line(name.substr(name.find('-') + 1), found,
                 [&](std::size_t r) { return rows.rows()[r].head_name() == name; });
      while (first < found.size() && rows.rows()[first].head_name() == name) ++first;
    }
  print_classes(rows, found);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Weights that are left to sampling on captured heads.", "residuals");
  declare(app, s);
  app.add_option("--top-k", s.top_k, "share of the rows")->check(CLI::Range(0.0, 0.5));
  app.add_flag("--heads", s.heads, "a line a query head as well");
  CLI11_PARSE(app, argc, argv);
  return guarded("residuals", [&] { run(s); });
}
