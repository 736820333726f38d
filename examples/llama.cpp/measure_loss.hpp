// SPDX-License-Identifier: Apache-2.0
/// @file
/// Teacher-forced decoding of several policies side by side: loss, agreement, density and error of each head.
#pragma once

#include <sstream>
#include <utility>

#include "evaluation.hpp"
#include "support/progress.hpp"
#include "vattention/audit/audit_table.hpp"
#include "vattention/audit/diagnosis.hpp"

namespace vattn_llama_cpp {

/// Sums over steps.
struct step_sums {
  double loss = 0.0, from_dense = 0.0, from_exact = 0.0, seconds = 0.0;
  /// Of the difference in loss to dense, and its square.
  double more = 0.0, more_square = 0.0;
  std::int64_t steps = 0, as_dense = 0, as_exact = 0;

  double mean(double sum) const { return sum / static_cast<double>(steps); }
  double share(std::int64_t count) const {
    return static_cast<double>(count) / static_cast<double>(steps);
  }
  /// Standard error of the mean difference in loss to dense, the steps taken as independent.
  double error() const {
    return std::sqrt(std::max(0.0, mean(more_square) - mean(more) * mean(more)) /
                     static_cast<double>(steps));
  }
};

/// One policy's context, and what was seen of it.
class loss_run {
public:
  /// `follows`: reads as large a share of the rows as the first policy does, step by step.
  loss_run(std::string policy, std::unique_ptr<context> engine, bool follows)
      : policy_(std::move(policy)), engine_(std::move(engine)), follows_(follows) {}

  const std::string& policy() const noexcept { return policy_; }
  context& engine() const noexcept { return *engine_; }
  bool follows() const noexcept { return follows_; }
  /// Mean share of the rows read since it was asked last.
  double take_density() {
    const density_sum before = std::exchange(read_, density_of(*engine_));
    return (read_ - before).mean();
  }
  step_sums sums;

  /// What the step at a position did: errors of its audited calls, if an epsilon is promised, and, where a bin ends,
  /// densities since its first step.
  void note_heads(std::int64_t position, bool bin_ends, tables& out) {
    if (engine_->state() == nullptr || !out.wanted()) return;
    if (bin_first_ < 0) bin_first_ = position;
    const state_report now = report_of(*engine_->state());
    if (now.asked.audit > 0 && !std::isnan(now.audit.epsilon_asked))
      note_errors(position, now.audit, out);
    if (!bin_ends) return;
    for (std::size_t i = 0; i < now.heads.size(); ++i) {
      const head_count before = i < heads_.size() ? heads_[i] : head_count{};
      const auto calls = static_cast<double>(now.heads[i].calls - before.calls);
      out.add("heads", {{"policy", policy_},
                        {"layer", now.heads[i].layer},
                        {"head", now.heads[i].kv_head},
                        {"step", bin_first_},
                        {"density", (now.heads[i].density - before.density) / calls}});
    }
    heads_ = now.heads;
    bin_first_ = -1;
  }

private:
  void note_errors(std::int64_t position, const vattn::audit_report& now, tables& out) {
    int group = 1;
    for (const vattn::audit_row& row : now.rows) group = std::max(group, row.query + 1);
    rows_.resize(now.rows.size());
    for (std::size_t i = 0; i < now.rows.size(); ++i) {
      const vattn::audit_row& row = now.rows[i];
      if (row.claims > rows_[i].claims)
        out.add("heads", {{"policy", policy_},
                          {"layer", row.layer},
                          {"head", row.kv_head * group + row.query},
                          {"step", position},
                          {"error", row.output_error - rows_[i].output_error}});
      rows_[i] = row;
    }
  }

  std::string policy_;
  std::unique_ptr<context> engine_;
  bool follows_;
  density_sum read_;
  std::vector<head_count> heads_;
  std::vector<vattn::audit_row> rows_;
  std::int64_t bin_first_ = -1;
};

/// The runs of all policies (`topk:same` reads as many rows as the first of them) with the text's beginning in their
/// caches, which is prefilled once for each layout of caches.
/// The first one is the engine's flash attention, the second one the library's dense kernel: flash attention adds up
/// f16 values in f16, which shows.
inline std::vector<loss_run> begin_runs(const evaluation& e, const model& of,
                                        std::span<const llama_token> text, std::int64_t cells) {
  std::vector<std::string> policies{"dense", "exact"};
  for (const std::string& policy : e.policies)
    if (policy != "dense" && policy != "exact") policies.push_back(policy);
  std::vector<loss_run> runs;
  runs.reserve(policies.size());
  std::map<bool, std::vector<std::uint8_t>> prefix;
  for (const std::string& policy : policies) {
    context_setting setting = setting_of(e, policy, cells);
    const auto density = setting.attention.find("density");
    const bool follows = density != setting.attention.end() && density->second == "same";
    if (follows) setting.attention.erase(density);
    if (follows && runs.size() < 3)
      throw std::runtime_error(policy + ": same as which policy? None stands before it");
    auto engine = std::make_unique<context>(of, setting);
    std::vector<std::uint8_t>& saved = prefix[parse_setting(policy).count("flash") != 0];
    if (saved.empty()) {
      engine->prefill(text);
      saved = engine->saved();
    } else {
      engine->load(saved);
    }
    runs.emplace_back(policy, std::move(engine), follows);
  }
  return runs;
}

/// One step of all runs.
inline void step_all(std::vector<loss_run>& runs, llama_token token, llama_token next,
                     std::int64_t at) {
  double density = 1.0;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    loss_run& r = runs[i];
    if (r.follows()) set_density(*r.engine().state(), density);
    r.sums.seconds += seconds_of([&] { r.engine().decode(token, static_cast<llama_pos>(at)); });
    if (i == 2) density = r.take_density();
  }
  const std::span<const float> dense = runs[0].engine().logits();
  const std::span<const float> exact = runs[1].engine().logits();
  const double dense_loss = loss_of(dense, next);
  for (loss_run& r : runs) {
    const std::span<const float> logits = r.engine().logits();
    const double loss = loss_of(logits, next);
    r.sums.loss += loss;
    r.sums.from_dense += divergence(dense, logits);
    r.sums.from_exact += divergence(exact, logits);
    r.sums.more += loss - dense_loss;
    r.sums.more_square += (loss - dense_loss) * (loss - dense_loss);
    r.sums.as_dense += best_of(logits) == best_of(dense) ? 1 : 0;
    r.sums.as_exact += best_of(logits) == best_of(exact) ? 1 : 0;
    ++r.sums.steps;
  }
}

inline void print_losses(const std::vector<loss_run>& runs) {
  std::printf("%-24s %8s %19s %16s %16s %7s %8s %9s\n", "", "", "", "agreement, KL",
              "agreement, KL", "rows", "", "attention");
  std::printf("%-24s %8s %19s %16s %16s %7s %8s %9s\n", "policy", "loss", "more than dense",
              "with dense", "with exact", "read", "tokens/s", "of time");
  const double dense = runs[0].sums.mean(runs[0].sums.loss);
  for (const loss_run& r : runs) {
    const step_sums& all = r.sums;
    std::printf("%-24s %8.5f %+7.3f %% +- %5.3f %% %6.2f %% %7.1e %6.2f %% %7.1e %5.1f %% %8.2f",
                r.policy().c_str(), all.mean(all.loss), 100.0 * all.mean(all.more) / dense,
                100.0 * all.error() / dense, 100.0 * all.share(all.as_dense),
                all.mean(all.from_dense), 100.0 * all.share(all.as_exact), all.mean(all.from_exact),
                100.0 * density_of(r.engine()).mean(), 1.0 / all.mean(all.seconds));
    if (r.engine().state() != nullptr)
      std::printf(" %7.1f %%", 100.0 * report_of(*r.engine().state()).seconds / all.seconds);
    std::printf("\n");
  }
}

/// The audit's table and its findings, to stdout and to the tables, of a policy that promises an epsilon.
inline void tell_audit(const loss_run& r, tables& out) {
  if (r.engine().state() == nullptr) return;
  const state_report all = report_of(*r.engine().state());
  if (all.audit.total.calls == 0 || std::isnan(all.audit.epsilon_asked)) return;
  const vattn::diagnosis found = vattn::diagnose(all.audit);
  std::ostringstream text;
  text << '\n' << r.policy() << ": " << all.audit << found;
  std::fputs(text.str().c_str(), stdout);
  int group = 1;
  for (const vattn::audit_row& row : all.audit.rows) group = std::max(group, row.query + 1);
  for (const vattn::found& f : found.findings)
    out.add("findings", {{"policy", r.policy()},
                         {"layer", f.layer},
                         {"head", f.kv_head * group + f.query},
                         {"what", to_string(f.what)},
                         {"seen", f.seen},
                         {"threshold", f.threshold},
                         {"advice", advice(f.what)}});
}

/// Loss on [first, last) of a text, after a dense prefill of what is before.
inline void measure_loss(const evaluation& e) {
  const model of(e.model);
  const std::vector<llama_token> tokens = of.tokens_of(read_text(e.text));
  const auto last = std::min<std::int64_t>(e.last, std::ssize(tokens) - 1);
  if (e.first < 1 || last <= e.first)
    throw std::runtime_error("want 1 <= first < last < tokens of the text, which has " +
                             std::to_string(tokens.size()));
  tables out(e.tables);
  std::vector<loss_run> runs =
      begin_runs(e, of, std::span(tokens).first(static_cast<std::size_t>(e.first)), last + 1);
  vattn_examples::progress bar(static_cast<std::size_t>(last - e.first), "tokens");
  for (std::int64_t at = e.first; at < last; ++at) {
    step_all(runs, tokens[static_cast<std::size_t>(at)], tokens[static_cast<std::size_t>(at + 1)],
             at);
    const bool bin_ends = (at + 1 - e.first) % e.bin == 0 || at + 1 == last;
    for (loss_run& r : runs) r.note_heads(at, bin_ends, out);
    bar.step();
  }
  bar.finish();
  print_losses(runs);
  const double dense = runs[0].sums.mean(runs[0].sums.loss);
  for (const loss_run& r : runs) {
    const step_sums& all = r.sums;
    out.add("losses", {{"text", std::filesystem::path(e.text).stem().string()},
                       {"policy", r.policy()},
                       {"first", e.first},
                       {"last", last},
                       {"loss", all.mean(all.loss)},
                       {"dense_loss", dense},
                       {"agreement", all.share(all.as_dense)},
                       {"density", density_of(r.engine()).mean()},
                       {"difference_error", all.error()},
                       {"agreement_exact", all.share(all.as_exact)},
                       {"divergence", all.mean(all.from_dense)},
                       {"divergence_exact", all.mean(all.from_exact)},
                       {"seconds", all.mean(all.seconds)}});
    tell_audit(r, out);
  }
}

}  // namespace vattn_llama_cpp
