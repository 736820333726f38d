// SPDX-License-Identifier: Apache-2.0
// What is each predictor worth as the proposal of sampling in proportion to predicted weight? Rows and bytes that the
// output's certificate takes on captured heads, the errors of the outputs, and the (head, query) rows that miss
// epsilon more often than delta.
#include <CLI/CLI.hpp>

#include <chrono>
#include <map>
#include <mutex>
#include <set>

#include "../examples/support/progress.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/head_class.hpp"
#include "support/verdict.hpp"
#include "vattention/audit/audit_report.hpp"
#include "vattention/base_sampling/proportional.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/dynamic_sampling/proportional.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/channel_choice.hpp"
#include "vattention/top_k/double_sparsity.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/product_code.hpp"
#include "vattention/top_k/proposing.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings : experiment_options {
  double epsilon = 0.1, delta = 0.1;
  double tau = vattn::top_k::proposing<vattn::top_k::oracle>::usual_tau;
  int seeds = 60;
  std::vector<std::string> contenders;
  std::string part;
};

/// What all seeds of one row gave; sums, but for the errors.
struct finding {
  std::vector<double> errors;
  double density = 0.0, bytes = 0.0;
  int beyond = 0, beyond_bound = 0;
};

/// A predictor whose proposals a functor follows, whatever its type.
class contender {
public:
  explicit contender(std::string name) : name_(std::move(name)) {}
  virtual ~contender() = default;
  contender(const contender&) = delete;
  contender& operator=(const contender&) = delete;

  const std::string& name() const noexcept { return name_; }
  /// Builds what is kept for a KV head; before any `measure` on it. Thread-safe, as the other.
  virtual void prepare(const kv_head& head) = 0;
  virtual finding measure(const bench_row& row, const vattn::exact_attention& exact,
                          vattn::workspace& ws) const = 0;

private:
  std::string name_;
};

template <class Predictor>
auto sampled(const Predictor& predictor, const settings& s) {
  return vattn::vattention(vattn::static_indices::sink_window(32, 64), predictor,
                           vattn::base_sampling::proportional(),
                           vattn::budget::output(vattn::epsilon{s.epsilon}, vattn::delta{s.delta}),
                           vattn::dynamic_sampling::proportional());
}

/// `make_index(head, parity)` is an empty index for the rows of a head at text positions of that parity; where
/// `parities` is 1 all rows share that of parity 0.
template <class Predictor, class MakeIndex>
class sampled_contender final : public contender {
public:
  sampled_contender(std::string name, const settings& s, const Predictor& predictor,
                    MakeIndex make_index, int parities)
      : contender(std::move(name)),
        settings_(s),
        attend_(sampled(predictor, s)),
        make_index_(std::move(make_index)),
        parities_(parities) {}

  void prepare(const kv_head& head) override {
    for (int parity = 0; parity < parities_; ++parity) {
      auto index = make_index_(head, parity);
      index.append(head.kv());
      const std::lock_guard lock(building_);
      indices_.emplace(std::pair(&head, parity), std::move(index));
    }
  }

  finding measure(const bench_row& row, const vattn::exact_attention& exact,
                  vattn::workspace& ws) const override {
    const vattn::kv_view& kv = row.head->kv();
    const auto& index = indices_.at({row.head, row.position % parities_});
    const auto whole =
        static_cast<double>(row.visible() * (vattn::key_bytes(kv) + vattn::value_bytes(kv)));
    finding f;
    f.errors.reserve(static_cast<std::size_t>(settings_.seeds));
    for (int i = 0; i < settings_.seeds; ++i) {
      const auto key = row.head->draw(row.position, settings_.seed + static_cast<std::uint64_t>(i));
      const vattn::result r = attend_(row.query(), kv, index, key, ws);
      const vattn::certificate& said = r.certificates[0];
      const double error = deviation_of(r.output.row(0), r.log_sum_exp[0], exact).output;
      f.errors.push_back(error);
      f.density += said.density();
      f.bytes += static_cast<double>(said.bytes_touched) / whole;
      f.beyond += error > settings_.epsilon ? 1 : 0;
      f.beyond_bound += error > said.epsilon + vattn::audit_row::rounding ? 1 : 0;
    }
    return f;
  }

private:
  const settings& settings_;
  decltype(sampled(std::declval<Predictor>(), std::declval<settings>())) attend_;
  MakeIndex make_index_;
  int parities_;
  std::mutex building_;
  std::map<std::pair<const kv_head*, int>, typename Predictor::index_type> indices_;
};

using contenders = std::vector<std::unique_ptr<contender>>;

template <class Predictor>
void enter(contenders& all, const std::string& name, const settings& s,
           const Predictor& predictor) {
  const auto make = [predictor](const kv_head& head, int /*parity*/) {
    return predictor.make_index(head.kv().key_dim());
  };
  all.push_back(
      std::make_unique<sampled_contender<Predictor, decltype(make)>>(name, s, predictor, make, 1));
}

/// Queries of a head at positions of the other parity, `[count x d]`: none that its channels are judged by.
std::vector<float> other_queries(const kv_head& head, int parity) {
  std::vector<float> queries;
  for (int h = 0; h < head.query_heads(); ++h)
    for (int p = 1 - parity; p < head.positions(); p += 2) {
      const float* const query = head.query(h, p).data;
      queries.insert(queries.end(), query, query + head.kv().key_dim());
    }
  if (queries.empty())
    throw std::runtime_error(head.full_name() + ": want two positions to fit channels to");
  return queries;
}

/// Channels chosen by queries.
void enter_fitted(contenders& all, index_t channels, const settings& s) {
  const vattn::top_k::proposing predictor(vattn::top_k::double_sparsity(channels, vattn::rows(0)),
                                          s.tau);
  const auto make = [predictor, channels](const kv_head& head, int parity) {
    const std::vector<float> queries = other_queries(head, parity);
    const index_t dim = head.kv().key_dim();
    return predictor.predictor().make_index(
        vattn::top_k::choose_channels(queries.data(), static_cast<index_t>(queries.size()) / dim,
                                      head.kv(), std::min(channels, dim)),
        dim);
  };
  using predictor_type = std::remove_const_t<decltype(predictor)>;
  all.push_back(std::make_unique<sampled_contender<predictor_type, decltype(make)>>(
      "double_sparsity(" + std::to_string(channels) + " fitted)", s, predictor, make, 2));
}

contenders enter_all(const settings& s) {
  using namespace vattn;
  const extent none = rows(0);
  const auto proposing = [&](const auto& predictor) { return top_k::proposing(predictor, s.tau); };
  contenders all;
  enter(all, "oracle", s, top_k::proposing(top_k::oracle(none), 1.0));
  for (const int bits : {1, 2, 4, 8})
    enter(all, "key_code(" + std::to_string(bits) + ")", s, top_k::key_code(bits, none));
  enter(all, "cascade(2+4)", s, top_k::cascade(2, 4));
  for (const index_t channels : {16, 32}) {
    enter(all, "double_sparsity(" + std::to_string(channels) + ")", s,
          proposing(top_k::double_sparsity(channels, none)));
    enter_fitted(all, channels, s);
  }
  for (const auto& [parts, bits] : {std::pair{16, 8}, std::pair{32, 4}})
    enter(all, "product_code(" + std::to_string(parts) + " x " + std::to_string(bits) + ")", s,
          proposing(top_k::product_code(parts, bits, none)));
  return all;
}

contenders chosen(const settings& s) {
  contenders all = enter_all(s);
  for (const std::string& name : s.contenders)
    if (std::none_of(all.begin(), all.end(), [&](const auto& c) { return c->name() == name; }))
      throw std::runtime_error("no contender is named '" + name + "'");
  if (!s.contenders.empty())
    std::erase_if(all, [&](const auto& c) {
      return std::find(s.contenders.begin(), s.contenders.end(), c->name()) == s.contenders.end();
    });
  return all;
}

/// Everything: `[contender][row]`, the rows' classes, and seconds that all threads together took for a contender.
struct measured {
  std::vector<std::vector<finding>> findings;
  std::vector<std::size_t> classes;
  std::vector<double> seconds;
};

measured measure(const settings& s, const contenders& all, const row_set& set) {
  const std::vector<bench_row>& rows = set.rows();
  std::set<const kv_head*> used;
  for (const bench_row& row : rows) used.insert(row.head);
  const std::vector<const kv_head*> heads(used.begin(), used.end());
  for_each_parallel(heads.size(), s.threads, [&](int, std::size_t h) {
    for (const auto& c : all) c->prepare(*heads[h]);
  });
  measured m;
  m.findings.assign(all.size(), std::vector<finding>(rows.size()));
  m.classes.resize(rows.size());
  m.seconds.assign(all.size(), 0.0);
  std::vector<vattn::workspace> spaces(static_cast<std::size_t>(s.threads));
  vattn_examples::progress bar(rows.size(), "rows");
  std::mutex shared;
  for_each_parallel(rows.size(), s.threads, [&](int thread, std::size_t r) {
    using clock = std::chrono::steady_clock;
    const vattn::exact_attention exact = vattn::reference(rows[r].query(), rows[r].head->kv());
    m.classes[r] = class_of(exact.entropy_share[0]);
    std::vector<double> took;
    for (std::size_t c = 0; c < all.size(); ++c) {
      const auto start = clock::now();
      m.findings[c][r] = all[c]->measure(rows[r], exact, spaces[static_cast<std::size_t>(thread)]);
      took.push_back(std::chrono::duration<double>(clock::now() - start).count());
    }
    const std::lock_guard lock(shared);
    for (std::size_t c = 0; c < took.size(); ++c) m.seconds[c] += took[c];
    bar.step();
  });
  return m;
}

/// One contender over some rows.
struct summary {
  std::vector<double> densities, errors;
  double density = 0.0, bytes = 0.0, beyond = 0.0, beyond_bound = 0.0, worst = 0.0;
  int failing = 0, failing_bound = 0;
  std::set<std::string> failing_heads;
  std::string worst_row = "none";

  void add(const finding& f, const bench_row& row, const settings& s) {
    const int most = allowed(s.seeds, s.delta);
    const double each = 1.0 / s.seeds;
    densities.push_back(each * f.density);
    errors.insert(errors.end(), f.errors.begin(), f.errors.end());
    density += each * f.density;
    bytes += each * f.bytes;
    beyond += each * f.beyond;
    beyond_bound += each * f.beyond_bound;
    failing_bound += f.beyond_bound > most ? 1 : 0;
    if (f.beyond > most) {
      ++failing;
      failing_heads.insert(row.head_name());
    }
    if (each * f.beyond > worst) {
      worst = each * f.beyond;
      worst_row = row.name();
    }
  }
  /// In percent of the rows.
  double mean(double sum) const { return 100.0 * sum / static_cast<double>(densities.size()); }
};

void print(const std::string& name, const char* group, const summary& a) {
  std::printf(
      "%-27s %-5s | %5.2f %6.2f | %5.2f %6.2f | %5.2f %6.2f %6.1f %6.0f | %6.2f %5d of %zu, %2zu "
      "heads | %6.2f %5d | %5.1f %s\n",
      name.c_str(), group, a.mean(a.density), 100.0 * quantile_of(a.densities, 0.95),
      a.mean(a.bytes) - a.mean(a.density), a.mean(a.bytes), 100.0 * quantile_of(a.errors, 0.5),
      100.0 * quantile_of(a.errors, 0.95), 100.0 * quantile_of(a.errors, 0.999),
      100.0 * quantile_of(a.errors, 1.0), a.mean(a.beyond), a.failing, a.densities.size(),
      a.failing_heads.size(), a.mean(a.beyond_bound), a.failing_bound, 100.0 * a.worst,
      a.worst_row.c_str());
}

void report(const settings& s, const contenders& all, const row_set& set, const measured& m,
            csv_file& csv) {
  std::printf(
      "%zu rows x %d seeds, epsilon %g, delta %g, tau %g of proposing predictors; a row fails if more than %d of its "
      "seeds are beyond\n"
      "predictor                   class | rows read %%: mean, 95 %% | bytes %%: index, all | output error %%: 50, 95, "
      "99.9, 100 %% | beyond epsilon %%, rows and query heads failing | beyond its own bound %%, rows failing | worst row\n",
      set.rows().size(), s.seeds, s.epsilon, s.delta, s.tau, allowed(s.seeds, s.delta));
  for (std::size_t c = 0; c < all.size(); ++c) {
    for (std::size_t group = 0; group <= class_names.size(); ++group) {
      const bool whole = group == class_names.size();
      summary a;
      for (std::size_t r = 0; r < set.rows().size(); ++r)
        if (whole || m.classes[r] == group) a.add(m.findings[c][r], set.rows()[r], s);
      if (a.densities.empty()) continue;
      const char* const name = whole ? "all" : class_names[group];
      print(all[c]->name(), name, a);
      csv.row(all[c]->name(), name, a.densities.size(), s.seeds, s.epsilon, s.delta,
              a.mean(a.density), 100.0 * quantile_of(a.densities, 0.95),
              a.mean(a.bytes) - a.mean(a.density), a.mean(a.bytes),
              100.0 * quantile_of(a.errors, 0.5), 100.0 * quantile_of(a.errors, 0.95),
              100.0 * quantile_of(a.errors, 0.999), 100.0 * quantile_of(a.errors, 1.0),
              a.mean(a.beyond), a.failing, a.failing_heads.size(), a.mean(a.beyond_bound),
              a.failing_bound, 100.0 * a.worst, a.worst_row);
    }
    const double calls = static_cast<double>(set.rows().size()) * s.seeds;
    std::printf("%-27s       | %.0f us of a thread a call\n", "", 1e6 * m.seconds[c] / calls);
  }
}

void run_all(const settings& s) {
  const row_set set(s.captures, s.positions, s.part);
  csv_file csv(s.csv,
               "predictor,class,rows,seeds,epsilon,delta,density,density_95,index_bytes,bytes,"
               "error_50,error_95,error_999,error_worst,beyond,rows_failing,heads_failing,"
               "beyond_bound,rows_failing_bound,worst_row_beyond,worst_row");
  const contenders all = chosen(s);
  const measured m = measure(s, all, set);
  print_build();
  report(s, all, set, m, csv);
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Predictors as proposals of sampling by predicted weight.", "proposals");
  declare(app, s);
  const auto share = CLI::Range(1e-9, 1.0 - 1e-9);
  app.add_option("--epsilon", s.epsilon, "asked of the output")->check(share);
  app.add_option("--delta", s.delta, "share of misses allowed")->check(share);
  app.add_option("--seeds", s.seeds, "draws a row")->check(CLI::Range(1, 1'000'000));
  app.add_option("--tau", s.tau, "factor on scores of predictors without proposals of their own")
      ->check(CLI::Range(0.01, 1.0));
  app.add_option("--rows", s.part, "only rows whose name contains this, e.g. layer08.kv0.q0@");
  list_option(app, "--contenders", s.contenders, "any of the names in the table (default: all)");
  CLI11_PARSE(app, argc, argv);
  return guarded("proposals", [&] { run_all(s); });
}
