// SPDX-License-Identifier: Apache-2.0
// A cache cut into shards, each with its part of one draw: do the merged partial results give the output
// and the certificate of the uncut cache? One line a row; exit code 1 if one is off by more than 1e-5.
#include <CLI/CLI.hpp>

#include "support/guard.hpp"
#include "support/rows.hpp"
#include "vattention/presets.hpp"

using namespace vattn_bench;
using vattn::index_t;

namespace {

struct settings {
  std::vector<std::filesystem::path> captures = vattn_examples::default_captures();
  double epsilon = 0.1, delta = 0.1;
  int seed = 1;
};

/// The rows of one call: those read exactly, and those drawn, with their thresholds.
struct rows_read {
  std::vector<vattn::row_t> exact, drawn;
  std::vector<vattn::threshold_t> thresholds;

  explicit rows_read(const vattn::workspace& ws)
      : exact(ws.exact.rows().begin(), ws.exact.rows().end()),
        drawn(ws.drawn.rows().begin(), ws.drawn.rows().end()),
        thresholds(ws.drawn.thresholds().begin(), ws.drawn.thresholds().end()) {}
};

/// What the shard [first, last) knows: its part of the rows, and nothing of the others.
vattn::partial shard_partial(const vattn::query_group& query, const vattn::kv_view& kv,
                             const rows_read& rows, index_t first, index_t last) {
  const vattn::kv_view shard = kv.shard(first, last - first);
  vattn::query_group local = query;
  local.logits.visible_rows = -1;
  vattn::workspace ws;
  ws.reserve(1, last - first, kv.key_dim(), kv.value_dim(), false);
  const vattn::attention_call<vattn::kv_view> call(local, shard, {});
  const auto here = [&](vattn::row_t row) { return row >= first && row < last; };
  for (const vattn::row_t row : rows.exact)
    if (here(row)) ws.exact.add(row - static_cast<vattn::row_t>(first));
  ws.exact.list();
  vattn::weighted_attention<vattn::kv_view> pass(call, ws);
  ws.drawn.begin_growth();
  for (std::size_t i = 0; i < rows.drawn.size(); ++i)
    if (here(rows.drawn[i]))
      ws.drawn.append(rows.drawn[i] - static_cast<vattn::row_t>(first), rows.thresholds[i]);
  pass.read_fresh();
  pass.estimate(vattn::design::fixed_size, last - first - ws.exact.size());
  const vattn::partial_view state = ws.head(0);
  state.rows_total() = static_cast<double>(last - first);
  state.rows_exact() = static_cast<double>(ws.exact.size());
  state.rows_sampled() = static_cast<double>(ws.drawn.size());
  return vattn::partial(state);
}

/// Relative deviations from the uncut cache, and whether all counts agree.
struct difference {
  double output = 0.0, bound = 0.0, denominator = 0.0;
  bool counts = true;

  bool small() const noexcept {
    return counts && output <= 1e-5 && bound <= 1e-5 && denominator <= 1e-5;
  }
};

template <class Functor>
difference compare(const Functor& attend, const vattn::result& whole,
                   std::vector<vattn::partial> shards) {
  for (std::size_t i = 1; i < shards.size(); ++i) shards[0].view().merge(shards[i].view());
  vattn::workspace ws;
  const vattn::result merged = attend.finish(std::span(shards).first(1), ws);
  const vattn::certificate &a = whole.certificates[0], &b = merged.certificates[0];
  difference d;
  d.output = static_cast<double>((merged.output.row(0) - whole.output.row(0)).norm() /
                                 whole.output.row(0).norm());
  d.bound = std::fabs(b.epsilon / a.epsilon - 1.0);
  d.denominator =
      std::fabs(b.denominator / a.denominator * std::exp(b.max_logit - a.max_logit) - 1.0);
  d.counts = a.rows_total == b.rows_total && a.rows_exact == b.rows_exact &&
             a.rows_sampled == b.rows_sampled && a.status == b.status;
  return d;
}

/// Cuts a row's cache into `count` shards, the first half as long as the others.
template <class Functor>
difference cut(const Functor& attend, const bench_row& row, const vattn::result& whole,
               const rows_read& rows, int count) {
  const index_t n = row.visible();
  std::vector<vattn::partial> shards;
  for (index_t i = 0, first = 0; i < count; ++i) {
    const index_t last = n * (2 * i + 1) / (2 * count - 1);
    shards.push_back(shard_partial(row.query(), row.head->kv(), rows, first, last));
    first = last;
  }
  return compare(attend, whole, std::move(shards));
}

bool run(const settings& s) {
  const row_set all(s.captures, 1 << 20);  // the last position of each head
  print_build();
  const auto attend =
      vattn::presets::uniform_output(vattn::epsilon{s.epsilon}, vattn::delta{s.delta});
  std::printf(
      "| row | sampled of residual | bound | shards | output off by | bound | denominator | counts |\n"
      "|---|---|---|---|---|---|---|---|\n");
  bool good = true;
  for (const bench_row& row : all.rows()) {
    const auto index = attend.make_index(row.head->kv());
    vattn::workspace ws;
    const vattn::result whole = attend(row.query(), row.head->kv(), index,
                                       {.seed = static_cast<std::uint64_t>(s.seed)}, ws);
    const vattn::certificate c = whole.certificates[0];
    if (c.status == vattn::status::exact) {
      std::printf("| %s | read whole |\n", row.name().c_str());
      continue;
    }
    const rows_read rows(ws);
    for (const int count : {2, 3, 8}) {
      const difference d = cut(attend, row, whole, rows, count);
      std::printf("| %s | %lld of %lld | %.4f | %d | %.1e | %.1e | %.1e | %s |\n",
                  row.name().c_str(), static_cast<long long>(c.rows_sampled),
                  static_cast<long long>(c.rows_total - c.rows_exact), c.epsilon, count, d.output,
                  d.bound, d.denominator, d.counts ? "equal" : "DIFFERENT");
      good = good && d.small();
    }
  }
  std::printf("\n%s\n", good ? "all hold" : "SOMETHING DOES NOT HOLD");
  return good;
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Shards of a cache, merged, against the whole.", "merge");
  app.add_option("--captures", s.captures, "safetensors files (default: examples/data)");
  app.add_option("--epsilon", s.epsilon)->check(CLI::Range(1e-9, 1.0 - 1e-9));
  app.add_option("--delta", s.delta)->check(CLI::Range(1e-9, 1.0 - 1e-9));
  app.add_option("--seed", s.seed)->check(CLI::Range(0, 1 << 30));
  CLI11_PARSE(app, argc, argv);
  bool good = true;
  const int code = guarded("merge", [&] { good = run(s); });
  return code != 0 ? code : good ? 0 : 1;
}
