// SPDX-License-Identifier: Apache-2.0
// Sparse attention with certificates on captured heads of a real model, held against the exact answer.
#include <CLI/CLI.hpp>

#include <chrono>
#include <iostream>

#include "support/capture.hpp"
#include "support/head_report.hpp"
#include "support/progress.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/vattention.hpp"

using namespace vattn_examples;

namespace {

struct settings {
  std::vector<double> epsilons{0.05, 0.1, 0.2};
  double delta = 0.1;
  std::string policy = "default";
  std::vector<std::string> heads;
  std::uint64_t seed = 1;
  int seeds = 4, queries = 32;
  bool bar = false;
  std::filesystem::path out = ".";
  std::vector<std::filesystem::path> files = default_captures();
};

/// A query head to be looked at.
struct chosen_head {
  const kv_head* kv;
  int query_head;
};

using clock = std::chrono::steady_clock;

double microseconds_since(clock::time_point start) {
  return std::chrono::duration<double, std::micro>(clock::now() - start).count();
}

std::string between_0_and_1(const std::string& text) {
  double value = 0.0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  const bool good = error == std::errc{} && stop == end && value > 0.0 && value < 1.0;
  return good ? "" : "want a number between 0 and 1, got " + text;
}

/// Nothing if help was asked for and given. @throws CLI::ParseError for a wrong command line.
std::optional<settings> parse(int argc, char** argv) {
  settings s;
  CLI::App app(
      "Attends to captured queries through vattention, one query head at a time, and compares every\n"
      "output with the exact one: how many rows were read, how large the error was, and whether the\n"
      "(epsilon, delta) that was asked for was kept.",
      "real_heads");
  const CLI::Validator share(between_0_and_1, "in (0,1)", "share");
  app.add_option("--epsilon", s.epsilons, "largest relative output errors asked for, e.g. .05,.1")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->check(share)
      ->capture_default_str();
  app.add_option("--delta", s.delta, "largest share of calls that may miss epsilon")
      ->check(share)
      ->capture_default_str();
  app.add_option("--policy", s.policy,
                 "default, fast, uniform-output: certify the output; strict: with proof; paper: "
                 "certifies the denominator alone")
      ->check(CLI::IsMember({"default", "fast", "uniform-output", "strict", "paper"}))
      ->capture_default_str();
  app.add_option("--heads", s.heads,
                 "only query heads whose name contains one of these, e.g. kv1.q0")
      ->delimiter(',')
      ->allow_extra_args(false);
  app.add_option("--seed", s.seed, "first seed")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--seeds", s.seeds, "calls per query and epsilon, each with its own seed")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_option("--queries", s.queries, "text positions of each head, evenly spaced")
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  app.add_flag("--progress", s.bar, "a progress bar even if stderr is no terminal");
  app.add_option("--out", s.out, "folder for real_heads.csv")->take_last()->capture_default_str();
  app.add_option("FILES", s.files, "captures (safetensors, see examples/data/README.md)");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  }
  std::sort(s.epsilons.begin(), s.epsilons.end());
  return s;
}

/// The heads that the filters name. @throws std::runtime_error if a filter names none.
std::vector<chosen_head> choose(const std::vector<capture>& captures, const settings& s) {
  std::vector<chosen_head> chosen;
  std::vector<bool> used(s.heads.size(), false);
  for (const capture& file : captures)
    for (const kv_head& kv : file.heads())
      for (int h = 0; h < kv.query_heads(); ++h) {
        bool wanted = s.heads.empty();
        for (std::size_t f = 0; f < s.heads.size(); ++f)
          if (kv.full_name(h).find(s.heads[f]) != std::string::npos) used[f] = wanted = true;
        if (wanted) chosen.push_back({&kv, h});
      }
  const auto idle = std::find(used.begin(), used.end(), false);
  if (idle == used.end()) return chosen;
  std::string known;
  for (const capture& file : captures)
    for (const kv_head& kv : file.heads()) known += (known.empty() ? "" : ", ") + kv.full_name();
  throw std::runtime_error("no head is named '" +
                           one_line(s.heads[static_cast<std::size_t>(idle - used.begin())]) +
                           "'; there are .q0, .q1, ... of " + known);
}

/// `count` of `positions` text positions, evenly spaced, the last one among them.
std::vector<int> spread(int positions, int count) {
  count = std::min(positions, count);
  std::vector<int> at;
  for (int i = 1; i <= count; ++i)
    at.push_back(static_cast<int>(static_cast<std::int64_t>(positions) * i / count) - 1);
  return at;
}

/// What was seen of a query head so far; `at_epsilon[e]` belongs to the e-th functor.
struct observations {
  struct of_epsilon {
    std::vector<double> errors, densities, times;
    std::array<std::size_t, vattn::status_count> statuses{};
  };
  std::vector<double> supports, dense_times;
  std::vector<of_epsilon> at_epsilon;
};

/// One query: the exact answer once, then every functor with every seed.
template <class Functor>
void observe(const chosen_head& head, int position, const std::vector<Functor>& functors,
             const typename Functor::index_type& index, const settings& s, vattn::workspace& ws,
             observations& seen) {
  const vattn::kv_view& kv = head.kv->kv();
  const vattn::query_group query = head.kv->query(head.query_head, position);
  const auto exact = vattn::reference(query, kv);
  seen.supports.push_back(exact.entropy_share[0]);
  vattn::dense(query, kv, ws);  // untimed: brings the head into the caches, for all the same
  auto start = clock::now();
  vattn::dense(query, kv, ws);
  seen.dense_times.push_back(microseconds_since(start));
  for (std::size_t e = 0; e < functors.size(); ++e)
    for (int i = 0; i < s.seeds; ++i) {
      const auto draw = head.kv->draw(position, s.seed + static_cast<std::uint64_t>(i));
      auto& here = seen.at_epsilon[e];
      start = clock::now();
      const vattn::result r = functors[e](query, kv, index, draw, ws);
      here.times.push_back(microseconds_since(start));
      const double error = vattn::relative_error(r.output, exact.output);
      here.errors.push_back(std::isnan(error) ? std::numeric_limits<double>::infinity() : error);
      here.densities.push_back(r.certificates[0].density());
      ++here.statuses[static_cast<std::size_t>(r.certificates[0].status)];
    }
}

head_row summarise(const chosen_head& head, observations& seen, std::size_t e, const settings& s) {
  auto& here = seen.at_epsilon[e];
  head_row row;
  row.kv_head = head.kv->full_name();
  row.query_head = "q" + std::to_string(head.query_head);
  row.policy = s.policy;
  row.support = median(seen.supports);
  row.epsilon = s.epsilons[e];
  row.delta = s.delta;
  row.calls = here.errors.size();
  for (const double error : here.errors) row.beyond += error > row.epsilon ? 1 : 0;
  for (const double density : here.densities)
    row.density += density / static_cast<double>(here.densities.size());
  row.error_median = median(here.errors);
  row.error_95 = quantile(here.errors, 0.95);
  row.error_worst = quantile(here.errors, 1.0);
  row.time = median(here.times);
  row.dense_time = median(seen.dense_times);
  row.statuses = here.statuses;
  return row;
}

/// `make(epsilon, delta)` gives the functor.
template <class Make>
std::vector<head_row> run(const std::vector<chosen_head>& heads, const settings& s, Make make) {
  std::vector<decltype(make(vattn::epsilon{0.5}, vattn::delta{0.5}))> functors;
  for (const double asked : s.epsilons)
    functors.push_back(make(vattn::epsilon{asked}, vattn::delta{s.delta}));
  std::size_t queries = 0;
  for (const chosen_head& head : heads) queries += spread(head.kv->positions(), s.queries).size();

  progress bar(queries, "queries", s.bar ? bar::always : bar::on_terminal);
  vattn::workspace ws;
  std::vector<head_row> rows;
  for (const chosen_head& head : heads) {
    const auto index = functors[0].make_index(head.kv->kv());
    observations seen{{}, {}, std::vector<observations::of_epsilon>(functors.size())};
    for (const int position : spread(head.kv->positions(), s.queries)) {
      observe(head, position, functors, index, s, ws, seen);
      bar.step();
    }
    for (std::size_t e = 0; e < functors.size(); ++e) rows.push_back(summarise(head, seen, e, s));
  }
  return rows;
}

void report(const std::vector<head_row>& rows, const settings& s,
            const std::filesystem::path& csv) {
  std::size_t calls = 0;
  for (const head_row& row : rows) calls = std::max(calls, row.calls);
  std::printf(
      "\n%s (certifies the %s), delta %g. Each query head alone, at %zu text positions with %d seeds "
      "each.\nTimes on one thread, with the head in the CPU's caches.\n\n",
      s.policy.c_str(), s.policy == "paper" ? "denominator only" : "output", s.delta,
      calls / static_cast<std::size_t>(s.seeds), s.seeds);
  print_table(rows);
  std::printf(
      "\nsupport: exp(entropy) / rows, median (sharp < .2 %% <= middle < 1 %% <= wide <= 10 %% < flat); "
      "error: |o^ - o| / |o|, o exact;\n"
      "beyond: calls with error > epsilon, at most delta promised (! more); time: median; met: by the "
      "bound, exact: all rows read.\n\nCSV: %s\n",
      csv.string().c_str());
}

std::vector<head_row> run_policy(const std::vector<chosen_head>& heads, const settings& s) {
  using vattn::delta;
  using vattn::epsilon;
  namespace presets = vattn::presets;
  if (s.policy == "fast") return run(heads, s, presets::fast);
  if (s.policy == "uniform-output") return run(heads, s, presets::uniform_output);
  if (s.policy == "strict")
    return run(heads, s, [](epsilon e, delta d) { return presets::strict_output(e, d); });
  if (s.policy == "paper")
    return run(heads, s, [](epsilon e, delta d) {
      return presets::paper(e, d, vattn::top_k::key_code(4, vattn::fraction(0.02)));
    });
  return run(heads, s, presets::standard);
}

void attend_to_captures(const settings& s) {
  std::vector<capture> captures;
  for (const auto& path : s.files) captures.emplace_back(path);
  const std::vector<chosen_head> heads = choose(captures, s);
  if (heads.empty()) throw std::runtime_error("no file given, and none in examples/data");
  const std::filesystem::path path = s.out / "real_heads.csv";
  std::error_code error;
  std::filesystem::create_directories(s.out, error);
  std::ofstream csv(path);
  if (!csv) throw std::runtime_error(path.string() + ": cannot be written");

  const auto rows = run_policy(heads, s);
  write_csv(rows, csv);
  report(rows, s, path);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (const auto settings = parse(argc, argv)) attend_to_captures(*settings);
    return 0;
  } catch (const std::exception& error) {
    std::cerr << "real_heads: " << error.what() << '\n';
    return 2;
  }
}
