// SPDX-License-Identifier: Apache-2.0
// A decoding step against a plain read of its caches, the library's own dense kernel, and other people's dense
// attention: same process, same caches, fresh queries and draws in every round.
//
// Google Benchmark runs the passes, each registered by code as one iteration. The order is ours: a round has
// every contender once, shuffled anew. Its random interleaving shuffles all repetitions of all benchmarks
// together, so that one contender's may bunch where the machine is slow; in rounds each is met by the same
// noise, and ratios within a round need no long-time steadiness of the machine. It also would not give all
// contenders of a round the same queries.
#include <benchmark/benchmark.h>
#include <CLI/CLI.hpp>

#include "support/decode_report.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/cost/calibrate.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn_bench;

namespace {

struct settings {
  std::vector<index_t> rows{32768, 4096, 16384, 65536, 131072, 262144};
  std::vector<index_t> dims{128, 64};
  std::vector<int> groups{4, 1, 8};
  std::vector<std::string> types{"bf16", "f32", "f16"};
  std::vector<double> densities{2, 5, 10, 20};
  std::vector<int> threads{1};
  std::vector<std::string> predictors{"none", "sign32"};
  std::string sweep = "star", pages = "4k", json_file;
  index_t budget_rows = 3277;
  double top_k_share = 0.5, epsilon = 0.1, delta = 0.1, cache_factor = 8.0;
  double last_level_mb = 0.0, memory_mb = 0.0;
  int repeats = 9, profiles = 3;
  std::uint64_t seed = 1;
  bool peers = true, calibrate = false;
};

/// One race.
struct course {
  decode_shape shape;
  int threads;
  bool operator==(const course& other) const {
    return shape.rows == other.shape.rows && shape.dim == other.shape.dim &&
           shape.group == other.shape.group && shape.type == other.shape.type &&
           threads == other.threads;
  }
};

/// `cross`: every combination. `star`: the first of each list, and each list varied on its own.
std::vector<course> courses(const settings& s) {
  std::vector<course> all;
  for (const int threads : s.threads)
    for (const index_t rows : s.rows)
      for (const index_t dim : s.dims)
        for (const int group : s.groups)
          for (const std::string& type : s.types) {
            const int moved = (threads != s.threads[0]) + (rows != s.rows[0]) + (dim != s.dims[0]) +
                              (group != s.groups[0]) + (type != s.types[0]);
            if (s.sweep == "star" && moved > 1) continue;
            decode_shape shape{rows, dim, 1, group, element_of_name(type)};
            all.push_back({shape, threads});
          }
  return all;
}

/// Heads of a race: enough for caches `factor` times the last level, and as many for each thread; fewer where
/// memory does not hold them and what comes with them. True if so.
bool choose_heads(course& c, const settings& s, std::int64_t last_level) {
  const auto head = static_cast<double>(c.shape.bytes());
  const auto wanted = s.cache_factor * static_cast<double>(last_level);
  // Beside the caches: copies in f16 and q8_0 for ggml, and codes of all keys.
  const double row = 2.0 * static_cast<double>(c.shape.dim * vattn::size_of(c.shape.type));
  const double copies =
      s.peers && !ggml_version().empty()
          ? (c.shape.type == element::f16 ? 1.07 : 3.07) * static_cast<double>(c.shape.dim)
          : 0.0;
  const double codes = 0.75 * static_cast<double>(c.shape.dim) + 32.0;
  const double memory =
      s.memory_mb > 0.0 ? 1e6 * s.memory_mb : 0.7 * static_cast<double>(available_bytes());
  const auto rounded = [&](double heads, auto round) {
    const double threads = c.threads;
    return heads < 8.0 * threads ? threads * round(heads / threads) : round(heads);
  };
  const double heads = rounded(wanted / head, [](double x) { return std::ceil(x); });
  const double most = rounded(memory / (head * (1.0 + (copies + codes) / row)),
                              [](double x) { return std::floor(x); });
  c.shape.heads = static_cast<int>(std::max(1.0, std::min(heads, most)));
  if (heads <= most) return false;
  std::printf(
      "\nwarning: memory for %d of %.0f heads: the caches are %.1f x the last-level cache, not "
      "%.1f x\n",
      c.shape.heads, heads, c.shape.heads * head / static_cast<double>(last_level), s.cache_factor);
  return true;
}

/// Sinks and window, `picked` rows a query by a predictor, and a uniform sample; all together `rows` of a cache
/// as long as the shape's, if the picks of query heads do not overlap.
template <class TopK>
auto fixed_budget(const decode_shape& shape, double rows, TopK top_k, double picked) {
  const double exact = 96.0 + picked * shape.group;
  const auto drawn = static_cast<index_t>(std::max(32.0, std::round(rows - exact)));
  return functor_pair(vattn::static_indices::sink_window(32, 64), std::move(top_k),
                      vattn::base_sampling::uniform(vattn::rows(drawn)),
                      vattn::budget::fixed(vattn::rows(drawn)), vattn::dynamic_sampling::uniform());
}

template <class Pair, class Indices>
void enter_functor(race& all, arena& a, const std::string& name, const Pair& functors,
                   Indices indices) {
  all.enter(std::make_unique<functor_contender<Pair>>(name, a, functors, std::move(indices)));
}

/// Fixed budgets with a predictor, which `make(rows)` makes; `share` of each budget is picked by it.
template <class Make>
void enter_fixed_budgets(race& all, arena& a, const settings& s, const std::string& name,
                         double share, Make make) {
  const decode_shape& shape = a.data.shape();
  const auto indices = make_indices(make(vattn::rows(0)), a);
  const auto enter = [&](const std::string& suffix, double budget) {
    const double picked = std::floor(share * budget / shape.group);
    const auto top_k = make(vattn::rows(static_cast<index_t>(picked)));
    enter_functor(all, a, name + " " + suffix, fixed_budget(shape, budget, top_k, picked), indices);
  };
  for (const double density : s.densities) {
    char percent[32];
    std::snprintf(percent, sizeof percent, "%g %%", density);
    enter(percent, 0.01 * density * static_cast<double>(shape.rows));
  }
  if (s.budget_rows > 0 && 2 * s.budget_rows < shape.rows)
    enter(std::to_string(s.budget_rows) + " rows", static_cast<double>(s.budget_rows));
}

void enter_predictor(race& all, arena& a, const settings& s, const std::string& name) {
  using vattn::extent;
  if (name == "none")
    enter_fixed_budgets(all, a, s, "uniform", 0.0, [](extent) { return vattn::top_k::none(); });
  else if (name == "code4")
    enter_fixed_budgets(all, a, s, "key_code(4)", s.top_k_share,
                        [](extent k) { return vattn::top_k::key_code(4, k); });
  else
    enter_fixed_budgets(
        all, a, s, name == "sign32" ? "sign_hash(32)" : "sign_hash(64)", s.top_k_share,
        [bits = name == "sign32" ? 32 : 64](extent k) { return vattn::top_k::sign_hash(bits, k); });
}

/// The policies of a preset and others beside them, and their twin that looks at the clock.
template <class TopK, class... More>
auto preset_pair(const settings& s, TopK top_k, More... more) {
  return functor_pair(vattn::static_indices::sink_window(32, 64), std::move(top_k),
                      vattn::base_sampling::proportional(),
                      vattn::budget::output(vattn::epsilon{s.epsilon}, vattn::delta{s.delta}),
                      vattn::dynamic_sampling::proportional(), more...);
}

template <class Pair, class Preset>
inline constexpr bool is_preset =
    std::same_as<std::remove_cvref_t<decltype(std::declval<Pair>().plain)>,
                 std::invoke_result_t<Preset, vattn::epsilon, vattn::delta>>;

/// `presets::standard`, the same with a cost model, of the constants given and of this machine's, and
/// `presets::proportional`.
void enter_verified(race& all, arena& a, const settings& s) {
  using vattn::top_k::cascade, vattn::top_k::key_code;
  const auto standard = preset_pair(s, cascade(2, 4));
  const auto proportional = preset_pair(s, key_code(4, vattn::rows(0)));
  static_assert(is_preset<decltype(standard), decltype(vattn::presets::standard)>);
  static_assert(is_preset<decltype(proportional), decltype(vattn::presets::proportional)>);
  const auto indices = make_indices(standard.plain.top_k(), a);
  enter_functor(all, a, "standard", standard, indices);
  enter_functor(all, a, "standard or dense", preset_pair(s, cascade(2, 4), vattn::cost::model()),
                indices);
  enter_functor(all, a, "proportional", proportional, make_indices(proportional.plain.top_k(), a));
  if (!s.calibrate) return;
  const decode_shape& shape = a.data.shape();
  const vattn::cost_profile mine = vattn::calibrate(
      {.key_dim = shape.dim, .value_dim = shape.dim, .group = shape.group, .type = shape.type});
  enter_functor(all, a, "calibrated or dense",
                preset_pair(s, cascade(2, 4), vattn::cost::model(mine)), indices);
}

void enter_peers(race& all, arena& a, int threads) {
  if (!torch_version().empty()) all.enter_peer(torch_peers(a.data, threads));
  for (peer_family& family : ggml_peers(a.data, threads)) all.enter_peer(std::move(family));
}

/// Passes of all contenders, in the order in which Google Benchmark is to run them.
void register_passes(race& all, const settings& s, const std::string& where) {
  for (int round = -1; round < s.repeats; ++round)  // the first one does not count
    for (const std::size_t c : all.order(round)) {
      const std::string name = where + "/" + all.at(c).name();
      benchmark::RegisterBenchmark(name.c_str(),
                                   [&all, c, round](benchmark::State& state) {
                                     for (auto _ : state) state.SetIterationTime(all.run(c, round));
                                   })
          ->Iterations(1)
          ->Repetitions(1)
          ->UseManualTime();
    }
}

/// Our own table says what there is to say.
class silent : public benchmark::BenchmarkReporter {
public:
  bool ReportContext(const Context& /*context*/) override { return true; }
  void ReportRuns(const std::vector<Run>& /*runs*/) override {}
};

json race_on(const course& c, const settings& s, std::int64_t last_level, bool capped) {
  arena a(c.shape, s.seed, s.pages == "2m", c.threads);
  race all(a, static_cast<std::size_t>(2 * last_level), s.seed, s.profiles);
  for (const std::string& name : s.predictors) enter_predictor(all, a, s, name);
  enter_verified(all, a, s);
  if (s.peers) enter_peers(all, a, c.threads);
  register_passes(all, s,
                  "n" + std::to_string(c.shape.rows) + "/d" + std::to_string(c.shape.dim) + "/g" +
                      std::to_string(c.shape.group) + "/" + name_of(c.shape.type) + "/t" +
                      std::to_string(c.threads));
  silent reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  benchmark::ClearRegisteredBenchmarks();
  all.finish();
  return describe(all, last_level, capped);
}

json describe(const settings& s, std::int64_t last_level) {
  const auto peer = [&](const std::string& version) {
    return s.peers && !version.empty() ? version : "none";
  };
  json options{{"rows", s.rows},
               {"dim", s.dims},
               {"group", s.groups},
               {"type", s.types},
               {"density", s.densities},
               {"threads", s.threads},
               {"sweep", s.sweep},
               {"pages", s.pages},
               {"budget_rows", s.budget_rows},
               {"predictors", s.predictors},
               {"top_k_share", s.top_k_share},
               {"epsilon", s.epsilon},
               {"delta", s.delta},
               {"repeats", s.repeats},
               {"profiles", s.profiles},
               {"seed", s.seed},
               {"cache_factor", s.cache_factor},
               {"calibrate", s.calibrate},
               {"last_level_cache_bytes", last_level}};
  return {{"machine", describe_machine()},
          {"peers", {{"torch", peer(torch_version())}, {"ggml", peer(ggml_version())}}},
          {"options", options},
          {"races", json::array()}};
}

void write(const std::string& file, const json& all) {
  std::ofstream out(file);
  out << all.dump(1) << '\n';
  if (!out) throw std::runtime_error(file + ": cannot be written");
}

void run_all(const settings& s) {
  const std::int64_t last_level =
      s.last_level_mb > 0.0 ? static_cast<std::int64_t>(1e6 * s.last_level_mb) : last_level_bytes();
  json all = describe(s, last_level);
  print_build();
  std::printf(
      "%s, %u cores, last-level cache %.0f MB; median of %d rounds; peers: torch %s, ggml %s\n",
      cpu_model().c_str(), std::thread::hardware_concurrency(),
      1e-6 * static_cast<double>(last_level), s.repeats,
      all["peers"]["torch"].get<std::string>().c_str(),
      all["peers"]["ggml"].get<std::string>().c_str());
  if (!s.json_file.empty()) write(s.json_file, all);
  for (course c : courses(s)) {
    const bool capped = choose_heads(c, s, last_level);
    all["races"].push_back(race_on(c, s, last_level, capped));
    print(all["races"].back());
    all["growth"] = growth(all["races"], 32768);
    if (!s.json_file.empty()) write(s.json_file, all);
  }
  for (const json& g : all["growth"])
    std::printf("%s%-24s %6lld -> %6lld keys: time a head x %.2f\n",
                &g == &all["growth"][0] ? "\n" : "", g["name"].get<std::string>().c_str(),
                g["from"].get<long long>(), g["to"].get<long long>(), g["time"].get<double>());
}

void declare(CLI::App& app, settings& s) {
  const auto members = [](std::vector<std::string> names) {
    return CLI::IsMember(std::move(names));
  };
  list_option(app, "--rows", s.rows, "keys a head")->check(CLI::Range(256, 1 << 24));
  list_option(app, "--dim", s.dims, "key and value dimension")->check(CLI::Range(16, 1024));
  list_option(app, "--group", s.groups, "queries a KV head")->check(CLI::Range(1, 64));
  list_option(app, "--type", s.types, "f32, bf16, f16")->check(members({"f32", "bf16", "f16"}));
  list_option(app, "--threads", s.threads,
              "threads, heads are shared out among them (default: 1, all)")
      ->check(CLI::Range(1, 1024));
  app.add_option("--sweep", s.sweep,
                 "star: first of each list, and each varied on its own; or cross")
      ->check(members({"star", "cross"}));
  list_option(app, "--density", s.densities, "shares of the rows that fixed budgets read [%]")
      ->check(CLI::Range(0.1, 90.0));
  app.add_option("--budget-rows", s.budget_rows,
                 "a budget that is the same at every length; 0: none");
  list_option(app, "--predictors", s.predictors,
              "of the fixed budgets: none, sign32, sign64, code4")
      ->check(members({"none", "sign32", "sign64", "code4"}));
  app.add_option("--top-k-share", s.top_k_share, "share of a budget that a predictor picks")
      ->check(CLI::Range(0.0, 0.95));
  app.add_option("--epsilon", s.epsilon, "of the verified default");
  app.add_option("--delta", s.delta, "of the verified default");
  app.add_option("--repeats", s.repeats, "rounds")->check(CLI::Range(1, 10000));
  app.add_option("--profiles", s.profiles, "rounds that look at the clock, for the shares of time");
  app.add_option("--pages", s.pages, "4k or 2m (faster to gather from)")
      ->check(members({"4k", "2m"}));
  app.add_option("--cache-factor", s.cache_factor, "size of all caches over the last-level cache");
  app.add_option("--llc-mb", s.last_level_mb, "last-level cache, if this machine does not tell");
  app.add_option("--memory-mb", s.memory_mb, "memory to use (default: 70 % of what is available)");
  app.add_option("--seed", s.seed);
  app.add_flag("--calibrate", s.calibrate,
               "race the default with a cost model of constants measured here, too");
  app.add_flag("--peers,!--no-peers", s.peers, "race torch and ggml, where built in");
  app.add_option("--json", s.json_file, "file for everything that was measured");
  app.footer("Options of Google Benchmark work too: --benchmark_filter='dense|uniform'");
}

/// Google Benchmark gets what is not ours; false if it does not know it either.
bool pass_on(const CLI::App& app, char* program) {
  std::vector<std::string> rest = app.remaining();
  std::vector<char*> words{program};
  for (std::string& word : rest) words.push_back(word.data());
  int count = static_cast<int>(words.size());
  words.push_back(nullptr);
  benchmark::Initialize(&count, words.data());
  return !benchmark::ReportUnrecognizedArguments(count, words.data());
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  const int cores = static_cast<int>(std::thread::hardware_concurrency());
  if (cores > 1) s.threads.push_back(cores);
  CLI::App app("A decoding step against a plain read, the dense kernel and other libraries.",
               "decode");
  app.allow_extras();
  declare(app, s);
  CLI11_PARSE(app, argc, argv);
  if (!pass_on(app, argv[0])) return 2;
  return guarded("decode", [&] { run_all(s); });
}
