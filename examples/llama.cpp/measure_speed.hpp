// SPDX-License-Identifier: Apache-2.0
/// @file
/// Tokens a second, and the time that attention takes of that.
#pragma once

#include "evaluation.hpp"
#include "support/head_report.hpp"
#include "support/progress.hpp"

namespace vattn_llama_cpp {

/// Time between the end of the node before an attention operator, which is the one that writes the cache, and its own
/// end.
struct attention_watch {
  double seconds = 0.0;
  std::chrono::steady_clock::time_point before;

  static bool sees(ggml_tensor* node, bool ask, void* data) {
    auto& self = *static_cast<attention_watch*>(data);
    const bool attention = node->op == GGML_OP_FLASH_ATTN_EXT || node->op == GGML_OP_CUSTOM;
    if (ask) return attention || node->op == GGML_OP_SET_ROWS;
    const auto now = std::chrono::steady_clock::now();
    if (attention) self.seconds += std::chrono::duration<double>(now - self.before).count();
    self.before = now;
    return true;
  }
};

/// One policy at one length. The watched context is another one, for watching takes time of its own.
struct speed_run {
  std::unique_ptr<context> plain, watched;
  attention_watch watch;
  std::vector<double> times, shares;
};

/// The last steps up to each length, all policies by turns; medians over steps.
inline void measure_speed(const evaluation& e) {
  const model of(e.model);
  const std::vector<llama_token> tokens = of.tokens_of(read_text(e.text));
  tables out(e.tables);
  const std::vector<std::string> policies = e.with_dense();
  std::printf("%7s %-24s %9s %9s %13s %10s\n", "length", "policy", "tokens/s", "to dense",
              "attention", "rows read");
  for (const int length : e.lengths) {
    const std::int64_t first = length - e.tokens;
    if (first < 1 || length > std::ssize(tokens))
      throw std::runtime_error("want steps < length <= tokens of the text, which has " +
                               std::to_string(tokens.size()));
    std::vector<speed_run> runs(policies.size());
    std::vector<std::uint8_t> prefix;
    for (std::size_t i = 0; i < policies.size(); ++i) {
      context_setting setting = setting_of(e, policies[i], length);
      runs[i].plain = std::make_unique<context>(of, setting);
      setting.watch = attention_watch::sees;
      setting.watcher = &runs[i].watch;
      runs[i].watched = std::make_unique<context>(of, setting);
      if (i == 0) {
        runs[i].plain->prefill(std::span(tokens).first(static_cast<std::size_t>(first)));
        prefix = runs[i].plain->saved();
      } else {
        runs[i].plain->load(prefix);
      }
      runs[i].watched->load(prefix);
    }
    vattn_examples::progress bar(static_cast<std::size_t>(e.tokens), "tokens");
    for (std::int64_t at = first; at < length; ++at) {
      const llama_token token = tokens[static_cast<std::size_t>(at)];
      const auto position = static_cast<llama_pos>(at);
      for (speed_run& r : runs) {
        r.times.push_back(seconds_of([&] { r.plain->decode(token, position); }));
        r.watch.seconds = 0.0;
        r.watched->decode(token, position);
        r.shares.push_back(r.watch.seconds);
      }
      bar.step();
    }
    bar.finish();
    double dense = 0.0;
    for (std::size_t i = 0; i < policies.size(); ++i) {
      // The first step builds the indices.
      const auto median = [](std::vector<double> all) {
        all.erase(all.begin());
        return vattn_examples::median(all);
      };
      const double step = median(runs[i].times);
      const double attention = median(runs[i].shares);
      if (i == 0) dense = step;
      const double density = density_of(*runs[i].plain).mean();
      std::printf("%7d %-24s %9.2f %8.2fx %10.2f ms %8.2f %%\n", length, policies[i].c_str(),
                  1.0 / step, dense / step, 1e3 * attention, 100.0 * density);
      out.add("speed", {{"tokens", length},
                        {"policy", policies[i]},
                        {"threads", e.threads},
                        {"tokens_per_second", 1.0 / step},
                        {"attention_share", attention / step},
                        {"attention_seconds", attention},
                        {"first_step_seconds", runs[i].times.front()},
                        {"density", density}});
    }
  }
}

}  // namespace vattn_llama_cpp
