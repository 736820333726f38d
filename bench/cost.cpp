// SPDX-License-Identifier: Apache-2.0
// The constants of the cost model, as this machine has them: what calibrate() finds for all shapes together, and
// how well they foretell the time of dense and of verified sparse calls of a decoding step. The first table is to
// be pasted into cost/cost_profile.hpp where the defaults are to be those of this machine.
//
// Prices are told from made-up heads; they are checked on those of the bench `decode`, whose queries are as sharp
// as captured ones. One thread; its CPU time; every call finds its cache in memory.
#include <CLI/CLI.hpp>

#include "support/contender.hpp"
#include "support/experiment.hpp"
#include "support/guard.hpp"
#include "support/race.hpp"
#include "vattention/cost/calibrate.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/presets.hpp"

using namespace vattn_bench;

namespace {

struct settings {
  std::vector<index_t> rows{256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072};
  std::vector<index_t> dims{64, 128, 256};
  std::vector<int> groups{1, 4, 8};
  std::vector<std::string> types{"bf16", "f32"};
  std::vector<double> epsilons{0.02, 0.05, 0.1, 0.3};
  double mb = 96.0;
  int repeats = 5;
  bool check = true;
};

vattn::cost_profile measure_prices(const settings& s) {
  std::vector<vattn::calibration> all;
  for (const std::string& type : s.types)
    for (const index_t dim : s.dims)
      for (const int group : s.groups)
        if (group > 1 || s.groups.size() == 1)  // one query is measured beside every group
          all.push_back({.key_dim = dim,
                         .value_dim = dim,
                         .group = group,
                         .type = element_of_name(type),
                         .repeats = s.repeats});
  const vattn::cost_profile prices = vattn::calibrate(all);
  for (const vattn::cost_item& item : vattn::cost_items)
    std::printf("  double %s = %.3g;\n", item.name, prices.*item.price);
  return prices;
}

/// Times and counts of one kind of call, the mean over heads and rounds.
struct observed {
  double time = 0.0, calls = 0.0, exact = 0.0;
  vattn::sample_outcome sample{.looks = 0.0};

  void add(const vattn::certificate& c, double refined) {
    const auto drawn = static_cast<double>(c.rows_sampled);
    calls += 1.0;
    exact += c.status == vattn::status::exact ? 1.0 : 0.0;
    sample.rows += drawn;
    sample.records += refined;
    sample.looks += c.looks;
    sample.summed += drawn * (c.looks == 1 ? 1.0 : 0.75 * c.looks);
  }
  void average() {
    for (double* x : {&time, &exact, &sample.rows, &sample.records, &sample.looks, &sample.summed})
      *x /= calls;
  }
};

/// Quotients of predicted and measured times, and what a decision by the forecast would cost.
struct verdicts {
  std::vector<double> dense, sparse, forecast;
  std::vector<double> taken;  // time of what the model chooses over that of dense
};

vattn::call_prospect prospect_of(const decode_shape& s, const vattn::kv_view& kv, double asked) {
  const vattn::query_group queries(nullptr, s.group, s.dim);
  const vattn::top_k::cascade predictor(2, 4);
  return {.heads = s.group,
          .rows = s.rows,
          .key_dim = s.dim,
          .value_dim = s.dim,
          .row_bytes = key_bytes(kv) + value_bytes(kv),
          .scanned_bytes = predictor.bytes_proposed(vattn::attention_call(queries, kv, {}), 0),
          .levels = 2,
          .exact = 96,
          .base = vattn::base_sampling::proportional().size(s.rows - 96),
          .epsilon = asked};
}

/// Nanoseconds that `body` takes.
template <class Body>
double timed(Body body) {
  const double start = seconds_now(1);
  body();
  return 1e9 * (seconds_now(1) - start);
}

void check_shape(decode_shape shape, const settings& s, const vattn::cost_profile& prices,
                 verdicts& all) {
  shape.heads = std::max(2, static_cast<int>(1e6 * s.mb / static_cast<double>(shape.bytes())));
  arena a(shape, 1, false, 1);
  const auto indices = make_indices(vattn::top_k::cascade(2, 4), a);
  observed dense;
  std::vector<observed> sparse(s.epsilons.size());
  vattn::workspace& ws = a.spaces[0];
  for (int round = 0; round < s.repeats; ++round) {
    a.data.new_step(a.pool);
    dense.calls += shape.heads;
    dense.time += timed([&] {
      for (index_t h = 0; h < shape.heads; ++h)
        vattn::dense(a.data.queries(h), a.data.cache(h), ws);
    });
    for (std::size_t e = 0; e < sparse.size(); ++e) {
      const auto functor =
          vattn::presets::standard(vattn::epsilon{s.epsilons[e]}, vattn::delta{0.1});
      sparse[e].time += timed([&] {
        for (index_t h = 0; h < shape.heads; ++h) {
          const auto r = functor(a.data.queries(h), a.data.cache(h),
                                 (*indices)[static_cast<std::size_t>(h)], a.data.key(h), ws);
          sparse[e].add(r.certificates[0], static_cast<double>(ws.draws.refined));
        }
      });
    }
  }
  dense.average();
  const vattn::kv_view kv = a.data.cache(0);
  const vattn::cost::model model(prices);
  std::printf("%6lld %4lld %2d %-4s %8.1f", static_cast<long long>(shape.rows),
              static_cast<long long>(shape.dim), shape.group, name_of(shape.type),
              1e-3 * dense.time);
  all.dense.push_back(model.dense_time(prospect_of(shape, kv, 0.1)) / dense.time);
  std::printf(" (%4.2f)", all.dense.back());
  for (std::size_t e = 0; e < sparse.size(); ++e) {
    observed& o = sparse[e];
    o.average();
    const vattn::call_prospect call = prospect_of(shape, kv, s.epsilons[e]);
    const double foretold = time_of(sparse_work(call, o.sample), prices) / o.time;
    const double expected = model.sparse_time(call) / o.time;
    const bool chosen = !model.dense_at_once(call);
    std::printf(" | %5.2f (%4.2f %4.2f)%c", o.time / dense.time, foretold, expected,
                chosen ? '*' : ' ');
    if (o.exact > 0.05) continue;  // a dense call on top
    all.sparse.push_back(foretold);
    all.forecast.push_back(expected);
    all.taken.push_back(chosen ? o.time / dense.time : 1.0);
  }
  std::puts("");
  std::fflush(stdout);
}

void print_spread(const char* what, const std::vector<double>& x) {
  std::printf("%-58s", what);
  for (const double q : {0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0})
    std::printf(" %5.2f", quantile_of(x, q));
  std::puts("");
}

void run_all(const settings& s) {
  print_build();
  const vattn::cost_profile prices = measure_prices(s);
  if (!s.check) return;
  std::printf(
      "\nA row a shape: keys, dimension, queries, type, time of a dense call [us] (foretold over "
      "measured). For each epsilon:\ntime of presets::standard over dense (foretold of the sample "
      "as it came out, and beforehand, over measured);\n*: the model takes it.\nepsilon");
  for (const double e : s.epsilons) std::printf(" %g", e);
  std::puts("");
  verdicts all;
  for (const std::string& type : s.types)
    for (const index_t dim : s.dims)
      for (const int group : s.groups)
        for (const index_t rows : s.rows)
          check_shape({rows, dim, 1, group, element_of_name(type)}, s, prices, all);
  std::puts("\nover all, quantiles 0, .05, .25, .5, .75, .95, 1");
  print_spread("dense calls, foretold over measured", all.dense);
  print_spread("sparse calls, foretold of their sample over measured", all.sparse);
  print_spread("sparse calls, foretold beforehand over measured", all.forecast);
  print_spread("what the model takes at once, over dense", all.taken);
}

void declare(CLI::App& app, settings& s) {
  list_option(app, "--rows", s.rows, "keys a head")->check(CLI::Range(128, 1 << 24));
  list_option(app, "--dim", s.dims, "key and value dimension")->check(CLI::Range(16, 1024));
  list_option(app, "--group", s.groups, "queries a KV head")->check(CLI::Range(1, 64));
  list_option(app, "--type", s.types, "f32, bf16, f16")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  list_option(app, "--epsilon", s.epsilons, "asked of presets::standard");
  app.add_option("--repeats", s.repeats, "rounds")->check(CLI::Range(1, 1000));
  app.add_option("--mb", s.mb, "keys and values of a shape, in MB");
  app.add_flag("--check,!--no-check", s.check, "compare with the calls of a decoding step");
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("The constants of the cost model on this machine, and how well they foretell.",
               "cost");
  declare(app, s);
  CLI11_PARSE(app, argc, argv);
  return guarded("cost", [&] { run_all(s); });
}
