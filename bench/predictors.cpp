// SPDX-License-Identifier: Apache-2.0
// What does a predictor find, and what does it cost? For each of them, on captured heads and on generated ones: the
// share of the true top-k among its picks, the mass that is left to the sample, the rows that the output's
// certificate then needs with a uniform sample, the time of its selection beside the dense kernel's, the time to
// build and to append to its index, and what the index keeps of a key.
#include <CLI/CLI.hpp>

#include <chrono>
#include <functional>
#include <map>
#include <sstream>

#include "../examples/support/hash_weights.hpp"
#include "../examples/support/progress.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/residual.hpp"
#include "support/synthetic.hpp"
#include "vattention/attention/dense.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/channel_choice.hpp"
#include "vattention/top_k/double_sparsity.hpp"
#include "vattention/top_k/fit_hash_rotation.hpp"
#include "vattention/top_k/hash_attention.hpp"
#include "vattention/top_k/index_file.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/none.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/page_bounds.hpp"
#include "vattention/top_k/product_code.hpp"
#include "vattention/top_k/rotation_hash.hpp"
#include "vattention/top_k/sign_hash.hpp"
#include "vattention/top_k/socket.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  std::vector<index_t> lengths{8192, 32768, 131072};
  int heads = 4, dim = 128, repeats = 5, seeds = 3;
  double top_k = 0.02, epsilon = 0.05, delta = 0.05;
  std::vector<std::filesystem::path> hash_weights;
};

/// What a predictor did on one row.
struct finding {
  double recall = 0.0, mass_left = 0.0, rows_needed = 0.0, error = 0.0, select_over_dense = 0.0;
};

/// What its index costs, over the heads of a set.
struct index_cost {
  double bytes_per_key = 0.0, build_ns = 0.0, append_us = 0.0;
};

/// Rows of one kind.
struct head_set {
  std::string name;
  std::vector<bench_row> rows;
};

class stop_watch {
public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Rows of the exact weights' top-k, beside sinks and window.
std::vector<vattn::row_t> true_top(const bench_row& row, index_t k, vattn::workspace& ws) {
  select_exact(vattn::top_k::oracle(vattn::rows(k)), {}, row.query(), row.head->kv(), ws);
  return {ws.exact.rows().begin(), ws.exact.rows().end()};
}

/// A predictor as this experiment sees it, whatever its type.
struct contender {
  std::string name;
  std::function<index_cost(const head_set&)> prepare;
  std::function<finding(const bench_row&, vattn::workspace&)> look;
  bool captured_only = false;
};

/// Vectors of one head to fit an index to, `[count x d]`.
struct fit_sample {
  std::vector<float> queries, keys;
  index_t query_count = 0, key_count = 0;
};

/// Queries of all positions but the row's own, and the first 2,048 keys; of a head with one position keys stand in for
/// queries, the next 1,024 of them.
fit_sample sample_of(const bench_row& row) {
  const vattn::kv_view& kv = row.head->kv();
  const auto dim = static_cast<std::size_t>(kv.key_dim());
  fit_sample all;
  std::vector<float> x(dim);
  const auto add_keys = [&](index_t first, index_t last, std::vector<float>& to) {
    for (index_t r = first; r < std::min(last, kv.rows()); ++r) {
      vattn::kernels::load_row(kv.key_type(), kv.key_row(static_cast<vattn::row_t>(r)),
                               kv.key_dim(), x.data());
      to.insert(to.end(), x.begin(), x.end());
    }
    return static_cast<index_t>(to.size() / dim);
  };
  all.key_count = add_keys(0, 2048, all.keys);
  for (int h = 0; h < row.head->query_heads(); ++h)
    for (int p = 0; p < row.head->positions(); ++p) {
      if (p == row.position) continue;
      const float* query = row.head->query(h, p).data;
      all.queries.insert(all.queries.end(), query, query + dim);
    }
  all.query_count = static_cast<index_t>(all.queries.size() / dim);
  if (all.query_count == 0) all.query_count = add_keys(2048, 3072, all.queries);
  return all;
}

/// Indices by KV head; by query head too where an index knows query heads, for a row is a call of one.
template <class Index>
class index_map {
public:
  bool contains(const bench_row& row) const { return all_.contains(key_of(row)); }
  Index& add(const bench_row& row, Index index) {
    return all_.emplace(key_of(row), std::move(index)).first->second;
  }
  const Index& at(const bench_row& row) const { return all_.at(key_of(row)); }
  void clear() { all_.clear(); }

private:
  static std::pair<const kv_head*, int> key_of(const bench_row& row) {
    return {row.head, vattn::knows_heads<Index> ? row.query_head : 0};
  }
  std::map<std::pair<const kv_head*, int>, Index> all_;
};

/// Builds the indices of all heads, made by `make(policy, row)`; the last 64 rows of each one by one.
template <class Policy, class MakeIndex>
index_cost build_indices(const Policy& policy, const head_set& set, MakeIndex make,
                         index_map<typename Policy::index_type>& indices) {
  indices.clear();
  index_cost cost;
  double keys = 0.0, built = 0.0, build_seconds = 0.0, appended = 0.0, append_seconds = 0.0;
  double bytes = 0.0;
  for (const bench_row& row : set.rows) {
    if (indices.contains(row)) continue;
    const vattn::kv_view& kv = row.head->kv();
    auto& index = indices.add(row, make(policy, row));
    const index_t last = std::max<index_t>(0, kv.rows() - 64);
    const stop_watch build;
    index.append(kv.shard(0, last));
    build_seconds += build.seconds();
    const stop_watch append;
    for (index_t n = last + 1; n <= kv.rows(); ++n) index.append(kv.shard(0, n));
    append_seconds += append.seconds();
    std::ostringstream file;
    vattn::save_index(index, file);
    keys += static_cast<double>(kv.rows());
    built += static_cast<double>(last);
    appended += static_cast<double>(kv.rows() - last);
    bytes += static_cast<double>(file.str().size());
  }
  cost.bytes_per_key = bytes / keys;
  cost.build_ns = 1e9 * build_seconds / built;
  cost.append_us = 1e6 * append_seconds / appended;
  return cost;
}

/// Median time of a selection over that of the dense kernel, in turn.
template <class Policy>
double selection_time(const Policy& policy, const typename Policy::index_type& index,
                      const bench_row& row, int repeats, vattn::workspace& ws) {
  std::vector<double> ratios;
  for (int r = 0; r <= repeats; ++r) {
    const stop_watch selecting;
    select_exact(policy, index, row.query(), row.head->kv(), ws);
    const double selected = selecting.seconds();
    const stop_watch attending;
    vattn::dense(row.query(), row.head->kv(), ws);
    if (r > 0) ratios.push_back(selected / attending.seconds());
  }
  return quantile_of(ratios, 0.5);
}

/// `make(k)` is a policy, `make_index(policy, row)` an index for the row's head, empty.
template <class Make, class MakeIndex>
contender enter(const std::string& name, const settings& s, Make make, MakeIndex make_index) {
  using policy = decltype(make(vattn::rows(1)));
  auto indices = std::make_shared<index_map<typename policy::index_type>>();
  const policy picks = make(vattn::fraction(s.top_k));
  const auto base = static_cast<index_t>(std::clamp(std::ceil(12.0 / s.epsilon), 32.0, 240.0));
  const vattn::vattention attend(
      vattn::static_indices::sink_window(32, 64), picks,
      vattn::base_sampling::uniform(vattn::fraction(0.01), base),
      vattn::budget::output(vattn::epsilon{s.epsilon}, vattn::delta{s.delta}),
      vattn::dynamic_sampling::uniform());
  return {name,
          [=](const head_set& set) { return build_indices(picks, set, make_index, *indices); },
          [=](const bench_row& row, vattn::workspace& ws) {
            const vattn::kv_view& kv = row.head->kv();
            const vattn::query_group query = row.query();
            const auto& index = indices->at(row);
            const index_t visible = row.visible();
            const index_t k = vattn::fraction(s.top_k).of(visible);
            finding f;
            const std::vector<vattn::row_t> best = true_top(row, k, ws);
            select_exact(picks, index, query, kv, ws);
            index_t hits = 0;
            for (const vattn::row_t r : best) hits += ws.exact.contains(r) ? 1 : 0;
            const auto ends = static_cast<double>(std::min<index_t>(96, visible));
            f.recall = (static_cast<double>(hits) - ends) /
                       std::max(1.0, static_cast<double>(best.size()) - ends);
            const Eigen::VectorXd weights = vattn::softmax_weights(query, kv, 0);
            f.mass_left = outside(ws.exact, weights).mass;
            const Eigen::MatrixXd exact = vattn::reference(query, kv).output;
            for (int seed = 0; seed < s.seeds; ++seed) {
              const vattn::result r =
                  attend(query, kv, index, {.seed = s.seed + static_cast<std::uint64_t>(seed)}, ws);
              f.rows_needed += r.certificates[0].density() / s.seeds;
              f.error = std::max(f.error, vattn::relative_error(r.output, exact.row(0)));
            }
            f.select_over_dense = selection_time(picks, index, row, s.repeats, ws);
            return f;
          }};
}

template <class Make>
contender enter(const std::string& name, const settings& s, Make make) {
  return enter(name, s, make, [](const auto& policy, const bench_row& row) {
    return policy.make_index(row.head->kv().key_dim());
  });
}

/// HashAttention by networks trained on each of the captures, in their order.
contender trained_hash(const settings& s) {
  if (s.hash_weights.size() != s.captures.size())
    throw std::runtime_error("--hash-weights: want a file for each of the captures");
  auto files = std::make_shared<std::map<std::string, vattn_examples::hash_weights_file>>();
  for (std::size_t i = 0; i < s.captures.size(); ++i)
    files->emplace(s.captures[i].stem().string(),
                   vattn_examples::hash_weights_file(s.hash_weights[i]));
  const int bits = files->begin()->second.bits();
  contender c = enter(
      "hash_attention(" + std::to_string(bits) + " trained)", s,
      [=](vattn::extent k) { return vattn::top_k::hash_attention(bits, k); },
      [files](const auto& policy, const bench_row& row) {
        const std::string name = row.head->full_name();
        const vattn_examples::hash_weights_file& file = files->at(name.substr(0, name.find('/')));
        return policy.make_index(
            file.weights(row.head->layer(), row.head->head()).only(row.query_head));
      });
  c.captured_only = true;
  return c;
}

std::vector<contender> enter_all(const settings& s) {
  using namespace vattn;
  std::vector<contender> all;
  all.push_back(enter("none", s, [](extent /*k*/) { return top_k::none(); }));
  all.push_back(enter("oracle", s, [](extent k) { return top_k::oracle(k); }));
  for (const int bits : {1, 2, 4, 8})
    all.push_back(enter("key_code(" + std::to_string(bits) + ")", s,
                        [=](extent k) { return top_k::key_code(bits, k); }));
  all.push_back(enter("cascade(2+4)", s, [](extent k) { return top_k::cascade(2, 4, k); }));
  for (const int bits : {32, 64, 128, 256})
    all.push_back(enter("sign_hash(" + std::to_string(bits) + ")", s,
                        [=](extent k) { return top_k::sign_hash(bits, k); }));
  all.push_back(enter("page_bounds(16)", s, [](extent k) { return top_k::page_bounds(16, k); }));
  for (const index_t channels : {16, 32})
    all.push_back(enter("double_sparsity(" + std::to_string(channels) + ")", s,
                        [=](extent k) { return top_k::double_sparsity(channels, k); }));
  all.push_back(enter(
      "double_sparsity(16 fitted)", s, [](extent k) { return top_k::double_sparsity(16, k); },
      [](const auto& policy, const bench_row& row) {
        const fit_sample of = sample_of(row);
        const kv_view& kv = row.head->kv();
        return policy.make_index(top_k::choose_channels(of.queries.data(), of.query_count, kv,
                                                        std::min<index_t>(16, kv.key_dim())),
                                 kv.key_dim());
      }));
  all.push_back(enter(
      "rotation_hash(64 fitted)", s, [](extent k) { return top_k::rotation_hash(64, k); },
      [](const auto& policy, const bench_row& row) {
        const fit_sample of = sample_of(row);
        return policy.make_index(top_k::fit_hash_rotation(of.queries.data(), of.query_count,
                                                          of.keys.data(), of.key_count,
                                                          row.head->kv().key_dim(), 64));
      }));
  for (const auto& [parts, bits] : {std::pair{16, 8}, std::pair{32, 4}})
    all.push_back(enter(
        "product_code(" + std::to_string(parts) + " x " + std::to_string(bits) + ")", s,
        [parts = parts, bits = bits](extent k) { return top_k::product_code(parts, bits, k); }));
  all.push_back(enter("socket(20 x 8)", s, [](extent k) { return top_k::socket(20, 8, k); }));
  if (!s.hash_weights.empty()) all.push_back(trained_hash(s));
  return all;
}

std::vector<head_set> captured_sets(const row_set& rows) {
  std::vector<head_set> sets(class_names.size());
  for (std::size_t c = 0; c < sets.size(); ++c)
    sets[c].name = "captured " + std::string(class_names[c]);
  for (const bench_row& row : rows.rows()) {
    const double share = vattn::reference(row.query(), row.head->kv()).entropy_share[0];
    sets[class_of(share)].rows.push_back(row);
  }
  return sets;
}

void measure(const head_set& set, bool captured, std::vector<contender>& all, csv_file& csv) {
  if (set.rows.empty()) return;
  std::vector<double> lengths;
  for (const bench_row& row : set.rows) lengths.push_back(static_cast<double>(row.visible()));
  std::printf("\n%s: %zu rows, %.0f keys, d = %lld, cache of %lld bytes a key\n", set.name.c_str(),
              set.rows.size(), quantile_of(lengths, 0.5),
              static_cast<long long>(set.rows[0].head->kv().key_dim()),
              static_cast<long long>(vattn::key_bytes(set.rows[0].head->kv()) +
                                     vattn::value_bytes(set.rows[0].head->kv())));
  std::puts(
      "predictor                  | recall % | mass left %: mean, 95 % | rows needed % | worst error % | "
      "selection, % of dense | bytes a key | build ns, append us a key");
  vattn::workspace ws;
  for (contender& c : all) {
    if (c.captured_only && !captured) continue;
    const index_cost cost = c.prepare(set);
    std::vector<double> recall, left, needed, error, time;
    for (const bench_row& row : set.rows) {
      const finding f = c.look(row, ws);
      recall.push_back(f.recall);
      left.push_back(f.mass_left);
      needed.push_back(f.rows_needed);
      error.push_back(f.error);
      time.push_back(f.select_over_dense);
    }
    const auto mean = [](const std::vector<double>& x) {
      double sum = 0.0;
      for (const double value : x) sum += value;
      return 100.0 * sum / static_cast<double>(x.size());
    };
    std::printf(
        "%-26s | %8.1f | %14.2f  %6.2f | %13.2f | %13.2f | %21.2f | %11.1f | %8.0f  %8.1f\n",
        c.name.c_str(), mean(recall), mean(left), 100.0 * quantile_of(left, 0.95), mean(needed),
        100.0 * quantile_of(error, 1.0), 100.0 * quantile_of(time, 0.5), cost.bytes_per_key,
        cost.build_ns, cost.append_us);
    csv.row(set.name, c.name, mean(recall), mean(left), 100.0 * quantile_of(left, 0.95),
            mean(needed), 100.0 * quantile_of(error, 1.0), 100.0 * quantile_of(time, 0.5),
            cost.bytes_per_key, cost.build_ns, cost.append_us);
  }
}

void run_all(const settings& s) {
  print_build();
  csv_file csv(
      s.csv,
      "set,predictor,recall,mass_left,mass_left_95,rows_needed,worst_error,select_over_dense,"
      "bytes_per_key,build_ns,append_us");
  std::printf(
      "k = %.3g %% of the rows beside 32 sinks and 64 window rows; rows needed: uniform sample, "
      "epsilon %.3g, delta %.3g, %d seeds\n",
      100.0 * s.top_k, s.epsilon, s.delta, s.seeds);
  std::vector<contender> all = enter_all(s);
  const row_set captured(s.captures, s.positions);
  for (const head_set& set : captured_sets(captured)) measure(set, true, all, csv);
  for (const index_t length : s.lengths) {
    if (length == 0) continue;
    for (const auto& [kind, name] :
         {std::pair{vattn::head_kind::sharp, "sharp"}, std::pair{vattn::head_kind::mixed, "mixed"},
          std::pair{vattn::head_kind::flat, "flat"}}) {
      synthetic_rows generated;
      for (int h = 0; h < s.heads; ++h)
        generated.add_narrow(name, vattn::make_head(kind, length, s.dim, s.dim, 1,
                                                    s.seed + static_cast<std::uint64_t>(h)));
      measure({std::string(name) + " " + std::to_string(length), generated.rows()}, false, all,
              csv);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  s.positions = 64;
  CLI::App app("What predictors find and cost.", "predictors");
  declare(app, s);
  list_option(app, "--lengths", s.lengths, "keys of the generated heads; 0: captures alone");
  app.add_option("--heads", s.heads, "generated heads a kind and length");
  app.add_option("--dim", s.dim, "their key and value dimension");
  app.add_option("--top-k", s.top_k, "share of the rows that is picked")
      ->check(CLI::Range(0.0001, 0.5));
  app.add_option("--hash-weights", s.hash_weights,
                 "networks of examples/hash_attention trained on each capture, in their order");
  app.add_option("--epsilon", s.epsilon, "asked of the output");
  app.add_option("--delta", s.delta, "share of misses allowed");
  app.add_option("--repeats", s.repeats, "of a selection that is timed")
      ->check(CLI::Range(1, 1000));
  app.add_option("--seeds", s.seeds, "draws a row")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  return guarded("predictors", [&] { run_all(s); });
}
