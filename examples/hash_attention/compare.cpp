// SPDX-License-Identifier: Apache-2.0
// What do trained networks find, beside signs of random directions and key codes? Loads weights, hashes the keys of
// captured heads, and prints recall, the mass that is left to the sample, and whether certificates hold.
#include <cstdio>

#include "../support/capture.hpp"
#include "../support/hash_weights.hpp"
#include "../support/progress.hpp"
#include "vattention/attention/dense.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/hash_attention.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn_examples;
using vattn::index_t;
using vattn::row_t;

namespace {

constexpr double share = 0.02, epsilon = 0.05, delta = 0.05;
constexpr int seeds = 4;
const vattn::static_indices::sink_window ends(32, 64);

/// What a predictor did, over the queries of a file.
struct findings {
  explicit findings(std::string of) : name(std::move(of)) {}

  std::string name;
  double bytes_per_key = 0.0;
  std::vector<double> recall, mass_left;
  /// Outputs, those off by more than epsilon, and the shares of the rows that they read, summed.
  double outputs = 0.0, beyond = 0.0, rows_read = 0.0, worst_error = 0.0;

  /// Of each query head.
  struct of_head {
    double recall = 0.0, looks = 0.0, outputs = 0.0, beyond = 0.0;
  };
  std::map<std::string, of_head> heads;
};

/// One query head at one position.
struct question {
  const kv_head* head;
  int query_head, position;
  vattn::query_group query() const { return head->query(query_head, position); }
};

/// Leaves in ws.exact what is read for certain: sinks, window, and what the predictor picks.
template <class TopK>
void select(const TopK& top_k, const typename TopK::index_type& index, const question& asked,
            vattn::workspace& ws) {
  const vattn::query_group query = asked.query();
  const vattn::kv_view& kv = asked.head->kv();
  ws.reserve(1, kv.rows(), kv.key_dim(), kv.value_dim(), true);
  const vattn::attention_call<vattn::kv_view> call(query, kv, {});
  ends.select(call.visible, ws.exact);
  ws.exact.list();
  top_k.predict(call, index, ws.seen, ws);
  top_k.select(call, ws.seen, ws);
  ws.exact.list();
}

/// What one query head's predictor finds at the positions from `first` on.
template <class TopK>
void look(const TopK& top_k, const typename TopK::index_type& index, const kv_head& head,
          int query_head, int first, vattn::workspace& ws, findings& seen) {
  for (int p = first; p < head.positions(); ++p) {
    const question asked{&head, query_head, p};
    const index_t visible = head.visible_rows(p);
    const auto k = vattn::fraction(share).of(visible);
    const vattn::top_k::oracle oracle{vattn::rows(k)};
    select(oracle, oracle.make_index(head.kv().key_dim()), asked, ws);
    const std::vector<row_t> best(ws.exact.rows().begin(), ws.exact.rows().end());
    select(top_k, index, asked, ws);
    index_t found = 0;
    for (const row_t row : best) found += ws.exact.contains(row) ? 1 : 0;
    const auto fixed = static_cast<double>(static_cast<index_t>(best.size()) - k);
    const double recall = (static_cast<double>(found) - fixed) / static_cast<double>(k);
    seen.recall.push_back(recall);
    findings::of_head& of_head = seen.heads[head.full_name(query_head)];
    of_head.recall += recall;
    of_head.looks += 1.0;
    const Eigen::VectorXd weights = vattn::softmax_weights(asked.query(), head.kv(), 0);
    double left = 1.0;
    for (const row_t row : ws.exact.rows()) left -= weights[row];
    seen.mass_left.push_back(std::max(0.0, left));
  }
}

/// Calls of all query heads of a KV head at once, each with a few draws: how many outputs are off by more than they
/// were certified for, and rows read.
template <class TopK>
void attend(const TopK& top_k, const typename TopK::index_type& index, const kv_head& head,
            int first, vattn::workspace& ws, findings& seen) {
  const vattn::vattention functor(
      ends, top_k, vattn::base_sampling::uniform(vattn::fraction(0.01), 240),
      vattn::budget::output(vattn::epsilon{epsilon}, vattn::delta{delta}),
      vattn::dynamic_sampling::uniform());
  for (int p = first; p < head.positions(); ++p) {
    const vattn::query_group group = head.group(p);
    const Eigen::MatrixXd exact = vattn::reference(group, head.kv()).output;
    for (int seed = 1; seed <= seeds; ++seed) {
      const vattn::result got =
          functor(group, head.kv(), index, head.draw(p, static_cast<std::uint64_t>(seed)), ws);
      for (int h = 0; h < group.heads; ++h) {
        const double error = vattn::relative_error(got.output.row(h), exact.row(h));
        const double beyond = error <= epsilon ? 0.0 : 1.0;
        findings::of_head& of_head = seen.heads[head.full_name(h)];
        of_head.outputs += 1.0;
        of_head.beyond += beyond;
        seen.outputs += 1.0;
        seen.beyond += beyond;
        seen.worst_error = std::max(seen.worst_error, error);
        seen.rows_read += got.certificates[static_cast<std::size_t>(h)].density();
      }
    }
  }
}

/// One predictor on one KV head: each query head by itself, then all together.
template <class Policy>
void enter(findings& seen, const Policy& policy, const kv_head& head, int first,
           vattn::workspace& ws) {
  auto index = policy.make_index(head.kv().key_dim());
  index.append(head.kv());
  const vattn::query_group group = head.group(0);
  seen.bytes_per_key = static_cast<double>(policy.bytes_scanned(
                           vattn::attention_call<vattn::kv_view>(group, head.kv(), {}))) /
                       static_cast<double>(head.visible_rows(0));
  for (int h = 0; h < head.query_heads(); ++h) look(policy, index, head, h, first, ws, seen);
  attend(policy, index, head, first, ws, seen);
}

/// The same of networks: a query head by itself goes by its own.
void enter_trained(findings& seen, const vattn::top_k::hash_weights& weights, const kv_head& head,
                   int first, vattn::workspace& ws) {
  const vattn::extent k = vattn::fraction(share);
  const vattn::top_k::hash_attention grouped(weights.bits(), k, weights.key_hashes()),
      single(weights.bits(), k);
  auto index = grouped.make_index(weights);
  index.append(head.kv());
  seen.bytes_per_key =
      static_cast<double>(index.bytes_of(head.kv().rows())) / static_cast<double>(head.kv().rows());
  for (int h = 0; h < head.query_heads(); ++h) {
    auto own = single.make_index(weights.only(h));
    own.append(head.kv());
    look(single, own, head, h, first, ws, seen);
  }
  attend(grouped, index, head, first, ws, seen);
}

double mean_of(const std::vector<double>& x) {
  double sum = 0.0;
  for (const double one : x) sum += one;
  return sum / static_cast<double>(x.size());
}

void print(std::vector<findings>& all) {
  std::puts(
      "predictor          | bytes a key | recall % | mass left %: mean, 95 % | outputs beyond epsilon %: "
      "all, worst head | worst error % | rows read %");
  for (findings& f : all) {
    double worst = 0.0;
    for (const auto& [name, h] : f.heads) worst = std::max(worst, h.beyond / h.outputs);
    const double left = mean_of(f.mass_left);
    std::sort(f.mass_left.begin(), f.mass_left.end());
    std::printf("%-18s | %11.1f | %8.1f | %14.2f  %6.2f | %29.2f  %10.2f | %13.1f | %6.1f\n",
                f.name.c_str(), f.bytes_per_key, 100.0 * mean_of(f.recall), 100.0 * left,
                100.0 * f.mass_left[f.mass_left.size() * 95 / 100], 100.0 * f.beyond / f.outputs,
                100.0 * worst, 100.0 * f.worst_error, 100.0 * f.rows_read / f.outputs);
  }
  std::puts("recall % of each query head: trained, not trained, sign_hash of as many bits");
  for (const auto& [name, h] : all[0].heads) {
    std::printf("  %-34s", name.c_str());
    for (std::size_t i = 0; i < 3; ++i)
      std::printf(" %5.1f", 100.0 * all[i].heads.at(name).recall / h.looks);
    std::puts("");
  }
}

/// Positions of a capture that were trained on.
int positions_trained(const hash_weights_file& weights, const capture& file) {
  const auto& notes = weights.file().metadata();
  const auto trained = notes.find("capture"), kept = notes.find("held_out_positions");
  if (trained == notes.end() || kept == notes.end() || trained->second != file.file().stem())
    return 0;
  int held_out = 0;
  std::from_chars(kept->second.data(), kept->second.data() + kept->second.size(), held_out);
  return std::max(0, file.heads()[0].positions() - held_out);
}

void compare(const hash_weights_file& weights, const capture& file) {
  const vattn::extent k = vattn::fraction(share);
  const int bits = weights.bits(), group = weights.group();
  int hashes = 1;  // signatures of a key
  for (const kv_head& head : file.heads())
    if (weights.has(head.layer(), head.head()))
      hashes = std::max(hashes, weights.weights(head.layer(), head.head()).key_hashes());
  const int as_large = std::min(256, bits * (hashes > 1 ? hashes : group));
  const std::string name = "(" + std::to_string(bits) + ")";
  std::vector<findings> all;
  all.reserve(6);
  for (const std::string& one : {"hash_attention" + name, std::string("  not trained"),
                                 "sign_hash" + name, "sign_hash(" + std::to_string(as_large) + ")",
                                 std::string("key_code(2)"), std::string("key_code(4)")})
    all.emplace_back(one);
  const int first = positions_trained(weights, file);
  vattn::workspace ws;
  const auto count = static_cast<std::size_t>(
      std::count_if(file.heads().begin(), file.heads().end(),
                    [&](const kv_head& head) { return weights.has(head.layer(), head.head()); }));
  progress bar(count, "head");
  for (const kv_head& head : file.heads()) {
    if (!weights.has(head.layer(), head.head())) continue;
    file.file().require(head.kv().key_dim() == weights.head_dim() && head.query_heads() == group,
                        head.name() + ": the weights are for another dimension or group");
    enter_trained(all[0], weights.weights(head.layer(), head.head()), head, first, ws);
    enter(all[1], vattn::top_k::hash_attention(bits, k), head, first, ws);
    enter(all[2], vattn::top_k::sign_hash(bits, k), head, first, ws);
    enter(all[3], vattn::top_k::sign_hash(as_large, k), head, first, ws);
    enter(all[4], vattn::top_k::key_code(2, k), head, first, ws);
    enter(all[5], vattn::top_k::key_code(4, k), head, first, ws);
    bar.step();
  }
  bar.finish();
  std::printf("\n%s: %zu KV heads with weights, positions %d to %d%s\n", file.file().stem().c_str(),
              count, first, file.heads()[0].positions() - 1,
              first > 0 ? ", which were not trained on" : "");
  if (count > 0) print(all);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: compare WEIGHTS [CAPTURE...]    (default: ../data)\n", stderr);
    return 2;
  }
  try {
    const hash_weights_file weights(argv[1]);
    std::vector<std::filesystem::path> captures(argv + 2, argv + argc);
    if (captures.empty()) captures = default_captures();
    std::printf(
        "k = %g %% of the rows beside 32 sinks and 64 window rows; outputs: epsilon %g, delta %g, %d draws\n",
        100.0 * share, epsilon, delta, seeds);
    for (const auto& path : captures) compare(weights, capture(path));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "compare: %s\n", error.what());
    return 1;
  }
  return 0;
}
