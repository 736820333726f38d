// SPDX-License-Identifier: Apache-2.0
// Does vattention follow llama.cpp's cache? The same operations on a dense context and on one with vattention, and the
// logits of every step compared; indices are compared with such as are built anew.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <functional>

#include "engine_program.hpp"
#include "support/progress.hpp"

using namespace vattn_llama_cpp;

namespace {

using tokens_type = std::vector<llama_token>;

/// What all scenarios use: two long texts, each with its saved cache, and what follows them.
struct material {
  tokens_type first, second, after_first, after_second;
  std::vector<std::uint8_t> saved_first, saved_second;

  llama_pos end_first() const { return static_cast<llama_pos>(first.size()); }
  llama_pos end_second() const { return static_cast<llama_pos>(second.size()); }
};

/// The logits that a scenario saw, a row a step.
class seen_logits {
public:
  void add(std::span<const float> logits) { rows_.emplace_back(logits.begin(), logits.end()); }
  const std::vector<std::vector<float>>& rows() const noexcept { return rows_; }

private:
  std::vector<std::vector<float>> rows_;
};

/// Single steps of one sequence.
void go_on(context& on, std::span<const llama_token> tokens, llama_pos from, llama_seq_id sequence,
           seen_logits& seen) {
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    on.decode(tokens[i], from + static_cast<llama_pos>(i), sequence);
    seen.add(on.logits());
  }
}
auto part(const tokens_type& of, std::size_t first, std::size_t count) {
  return std::span(of).subspan(first, count);
}

/// Both sequences in one batch, a token each.
void go_on_together(context& on, const material& m, std::size_t first, std::size_t count,
                    seen_logits& seen) {
  for (std::size_t i = first; i < first + count; ++i) {
    const placed_token both[] = {
        {m.after_first[i], m.end_first() + static_cast<llama_pos>(i), 0, true},
        {m.after_second[i], m.end_second() + static_cast<llama_pos>(i), 1, true}};
    on.decode(both);
    seen.add(on.logits(0));
    seen.add(on.logits(1));
  }
}

struct scenario {
  const char* name;
  void (*run)(context& on, const material& m, seen_logits& seen);
  bool two = false;  // sequences
};

const scenario scenarios[] = {
    {"prefill and steps",
     [](context& on, const material& m, seen_logits& seen) {
       on.prefill(m.first);
       go_on(on, part(m.after_first, 0, 24), m.end_first(), 0, seen);
     }},
    {"another prefill between steps",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 6), m.end_first(), 0, seen);
       on.prefill(part(m.after_first, 6, 100), m.end_first() + 6);
       go_on(on, part(m.after_first, 106, 6), m.end_first() + 106, 0, seen);
     }},
    {"two sequences in one batch",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       on.load(m.saved_second, 1);
       go_on_together(on, m, 0, 12, seen);
     },
     true},
    {"two sequences by turns",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       on.load(m.saved_second, 1);
       for (std::size_t i = 0; i < 8; ++i) {
         const auto at = static_cast<llama_pos>(i);
         go_on(on, part(m.after_first, i, 1), m.end_first() + at, 0, seen);
         go_on(on, part(m.after_second, i, 1), m.end_second() + at, 1, seen);
       }
     },
     true},
    {"remove the end, fill anew",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       llama_memory_seq_rm(on.memory(), 0, 300, -1);
       on.prefill(part(m.second, 0, 500), 300);
       go_on(on, part(m.second, 500, 8), 800, 0, seen);
     }},
    {"remove a part, leave a hole, fill it later",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       llama_memory_seq_rm(on.memory(), 0, 200, 260);
       go_on(on, part(m.after_first, 4, 8), m.end_first() + 4, 0, seen);
     }},
    {"remove one sequence, the other fills its cells",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       on.load(m.saved_second, 1);
       go_on_together(on, m, 0, 4, seen);
       llama_memory_seq_rm(on.memory(), 0, 100, -1);
       go_on(on, part(m.after_second, 4, 8), m.end_second() + 4, 1, seen);
       on.prefill(part(m.first, 100, 700), 100, 0);
       go_on(on, part(m.first, 800, 4), 800, 0, seen);
       go_on(on, part(m.after_second, 12, 4), m.end_second() + 12, 1, seen);
     },
     true},
    {"shift of the context",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       constexpr llama_pos keep = 32, gone = 150;
       llama_memory_seq_rm(on.memory(), 0, keep, keep + gone);
       llama_memory_seq_add(on.memory(), 0, keep + gone, -1, -gone);
       go_on(on, part(m.after_first, 4, 12), m.end_first() + 4 - gone, 0, seen);
     }},
    {"positions moved, no cell removed",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       llama_memory_seq_add(on.memory(), 0, 400, -1, 3);
       go_on(on, part(m.after_first, 4, 8), m.end_first() + 7, 0, seen);
     }},
    {"copy over another sequence",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       on.load(m.saved_second, 1);
       go_on_together(on, m, 0, 3, seen);
       llama_memory_seq_rm(on.memory(), 1, -1, -1);
       llama_memory_seq_cp(on.memory(), 0, 1, -1, -1);
       go_on(on, part(m.after_second, 3, 6), m.end_first() + 3, 1, seen);
       go_on(on, part(m.after_first, 3, 6), m.end_first() + 3, 0, seen);
     },
     true},
    {"copy of a sequence, both go on",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       llama_memory_seq_cp(on.memory(), 0, 1, -1, -1);
       for (std::size_t i = 4; i < 10; ++i) {
         const placed_token both[] = {
             {m.after_first[i], m.end_first() + static_cast<llama_pos>(i), 0, true},
             {m.after_second[i], m.end_first() + static_cast<llama_pos>(i), 1, true}};
         on.decode(both);
         seen.add(on.logits(0));
         seen.add(on.logits(1));
       }
     },
     true},
    {"keep one sequence of a copy",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       go_on(on, part(m.after_first, 0, 2), m.end_first(), 0, seen);
       llama_memory_seq_cp(on.memory(), 0, 1, -1, -1);
       go_on(on, part(m.after_second, 2, 4), m.end_first() + 2, 1, seen);
       llama_memory_seq_keep(on.memory(), 1);
       go_on(on, part(m.after_second, 6, 4), m.end_first() + 6, 1, seen);
     },
     true},
    {"save and load",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_second);
       go_on(on, part(m.after_second, 0, 4), m.end_second(), 0, seen);
       const std::vector<std::uint8_t> here = on.saved();
       go_on(on, part(m.after_second, 4, 4), m.end_second() + 4, 0, seen);
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       on.load(here);
       go_on(on, part(m.after_second, 4, 4), m.end_second() + 4, 0, seen);
     }},
    {"the whole context saved and loaded",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first, 0);
       on.load(m.saved_second, 1);
       go_on_together(on, m, 0, 3, seen);
       std::vector<std::uint8_t> all(llama_state_get_size(on.get()));
       all.resize(llama_state_get_data(on.get(), all.data(), all.size()));
       llama_memory_clear(on.memory(), true);
       on.prefill(part(m.second, 0, 64));
       go_on(on, part(m.second, 64, 2), 64, 0, seen);
       if (llama_state_set_data(on.get(), all.data(), all.size()) == 0)
         throw std::runtime_error("the context could not be loaded");
       go_on_together(on, m, 3, 3, seen);
     },
     true},
    {"drafts of four tokens, two of them taken back",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       llama_pos at = m.end_first();
       for (std::size_t i = 0; i < 12; i += 2) {
         std::vector<placed_token> draft;
         for (std::size_t j = 0; j < 4; ++j)
           draft.push_back({m.after_first[i + j], at + static_cast<llama_pos>(j), 0, true});
         on.decode(draft);
         for (int j = 0; j < 4; ++j) seen.add(on.logits(j));
         at += 2;
         llama_memory_seq_rm(on.memory(), 0, at, -1);
       }
     }},
    {"cleared, and begun with another text",
     [](context& on, const material& m, seen_logits& seen) {
       on.load(m.saved_first);
       go_on(on, part(m.after_first, 0, 4), m.end_first(), 0, seen);
       llama_memory_clear(on.memory(), false);
       on.prefill(m.second);
       go_on(on, part(m.after_second, 0, 6), m.end_second(), 0, seen);
     }},
};

/// Largest and mean KL divergence, and how often the best tokens differ.
struct difference {
  double largest = 0.0, mean = 0.0;
  std::size_t steps = 0, others = 0;
};

difference compare(const seen_logits& want, const seen_logits& got) {
  if (want.rows().size() != got.rows().size()) throw std::runtime_error("steps are missing");
  difference all;
  for (std::size_t i = 0; i < want.rows().size(); ++i) {
    const double d = divergence(want.rows()[i], got.rows()[i]);
    all.largest = std::isnan(d) ? d : std::max(all.largest, d);
    all.mean += d;
    all.others += best_of(want.rows()[i]) == best_of(got.rows()[i]) ? 0 : 1;
    ++all.steps;
  }
  all.mean /= static_cast<double>(all.steps);
  return all;
}

struct settings {
  std::string model, text;
  int threads = 2;
  double exact_limit = 5e-4, sampled_limit = 3e-3;
  std::vector<std::string> policies{"exact", "default:0.05", "proportional:0.05",
                                    "default:0.05:split=1"};
  std::string only;
};

/// One printed line a check; counts those that failed.
class checks {
public:
  void line(bool holds, const std::string& text) {
    std::printf("%-6s %s\n", holds ? "ok" : "FAILED", text.c_str());
    std::fflush(stdout);
    failed_ += holds ? 0 : 1;
  }
  int failed() const noexcept { return failed_; }

private:
  int failed_ = 0;
};

/// `unified`: for contexts whose sequences share their cells; saved caches are not for others.
material prepare(const model& of, const settings& s, bool unified) {
  const tokens_type all = of.tokens_of(read_text(s.text));
  constexpr std::size_t length = 900, more = 200;
  if (all.size() < 2 * (length + more))
    throw std::runtime_error("want a text of 2200 tokens or more, got " +
                             std::to_string(all.size()));
  const auto cut = [&](std::size_t first, std::size_t count) {
    const auto span = part(all, first, count);
    return tokens_type(span.begin(), span.end());
  };
  const std::size_t half = all.size() / 2;
  material m{
      cut(0, length), cut(half, length), cut(length, more), cut(half + length, more), {}, {}};
  context_setting plain;
  plain.cells = 2048;
  plain.threads = s.threads;
  plain.unified = unified;
  plain.sequences = unified ? 1 : 2;
  context on(of, plain);
  on.prefill(m.first);
  m.saved_first = on.saved();
  llama_memory_clear(on.memory(), true);
  on.prefill(m.second);
  m.saved_second = on.saved();
  return m;
}

void check_scenarios(const model& of, const material& shared, const material& apart,
                     const settings& s, checks& all) {
  for (const scenario& what : scenarios) {
    if (std::string(what.name).find(s.only) == std::string::npos) continue;
    for (const bool unified : {true, false}) {
      if (!what.two && !unified) continue;
      const material& m = unified ? shared : apart;
      context_setting setting;
      setting.cells = 2048;
      setting.sequences = what.two ? 2 : 1;
      setting.unified = unified;
      setting.threads = s.threads;
      seen_logits dense;
      {
        context on(of, setting);
        what.run(on, m, dense);
      }
      for (const std::string& policy : s.policies) {
        setting.attention = parse_setting(policy);
        setting.attention["verify"] = "1";
        setting.attention["on_error"] = "refuse";
        context on(of, setting);
        seen_logits sparse;
        what.run(on, m, sparse);
        const difference d = compare(dense, sparse);
        const state_report report = report_of(*on.state());
        const double limit =
            setting.attention["policy"] == "exact" ? s.exact_limit : s.sampled_limit;
        double density = 0.0;
        vattn::index_t calls = 0;
        for (const head_count& head : report.heads) {
          density += head.density;
          calls += head.calls;
        }
        char numbers[160];
        std::snprintf(
            numbers, sizeof numbers,
            "KL mean %.1e, largest %.1e, %zu of %zu best tokens differ, %.0f %% read, %lld stale",
            d.mean, d.largest, d.others, d.steps, 100.0 * density / static_cast<double>(calls),
            static_cast<long long>(report.stale));
        all.line(d.mean <= limit && report.stale == 0 && calls > 0,
                 std::string(what.name) +
                     (what.two ? unified ? ", shared cells" : ", own cells" : "") + ", " + policy +
                     ": " + numbers);
      }
    }
  }
}

/// The same bits for any number of threads.
void check_threads(const model& of, const material& m, checks& all) {
  seen_logits by[3];
  for (int i = 0; i < 3; ++i) {
    context_setting setting;
    setting.cells = 2048;
    setting.threads = i + 1;
    setting.attention = parse_setting("default:0.05");
    context on(of, setting);
    on.load(m.saved_first);
    go_on(on, part(m.after_first, 0, 6), m.end_first(), 0, by[i]);
  }
  all.line(by[0].rows() == by[1].rows() && by[0].rows() == by[2].rows(),
           "the same bits from 1, 2 and 3 threads");
}

void check_types(const model& of, const material& m, const settings& s, checks& all) {
  for (const auto& [type, name] :
       {std::pair(GGML_TYPE_F32, "f32"), std::pair(GGML_TYPE_BF16, "bf16"),
        std::pair(GGML_TYPE_Q8_0, "q8_0")}) {
    context_setting setting;
    setting.cells = 2048;
    setting.threads = s.threads;
    setting.type = type;
    seen_logits dense;
    std::vector<std::uint8_t> saved;
    {
      context on(of, setting);
      on.prefill(m.first);
      saved = on.saved();
      go_on(on, part(m.after_first, 0, 8), m.end_first(), 0, dense);
    }
    for (const std::string& policy : {std::string("exact"), std::string("default:0.05")}) {
      setting.attention = parse_setting(policy);
      setting.attention["verify"] = "1";
      setting.attention["on_error"] = "refuse";
      context on(of, setting);
      on.load(saved);
      seen_logits sparse;
      go_on(on, part(m.after_first, 0, 8), m.end_first(), 0, sparse);
      const difference d = compare(dense, sparse);
      char numbers[96];
      std::snprintf(numbers, sizeof numbers, "KL mean %.1e, largest %.1e", d.mean, d.largest);
      all.line(d.mean <= (policy == "exact" ? s.exact_limit : s.sampled_limit) &&
                   report_of(*on.state()).stale == 0,
               std::string("cache of ") + name + ", " + policy + ": " + numbers);
    }
  }
}

/// Wrong settings: one line and dense, or no context.
void check_refusals(const model& of, checks& all) {
  const auto made = [&](attention_setting attention, ggml_type type = GGML_TYPE_F16) {
    context_setting setting;
    setting.cells = 512;
    setting.attention = std::move(attention);
    setting.type = type;
    try {
      const context on(of, setting);
      if (on.state() == nullptr) return std::string("dense");
      return std::string("on");
    } catch (const std::exception&) {
      return std::string("refused");
    }
  };
  const attention_setting wrong[] = {
      {{"policy", "nonsense"}},
      {{"policy", "default"}, {"epsilon", "1.5"}},
      {{"policy", "default"}, {"epsilon", "0.1x"}},
      {{"policy", "default"}, {"delta", "0"}},
      {{"policy", "topk"}, {"density", "-1"}},
      {{"policy", "default"}, {"tokens", "0"}},
      {{"policy", "default"}, {"audit", "-3"}},
  };
  for (attention_setting setting : wrong) {
    std::string name;
    for (const auto& [key, value] : setting) name.append(" ").append(key).append("=").append(value);
    all.line(made(setting) == "dense", "dense after a line:" + name);
    setting["on_error"] = "refuse";
    all.line(made(setting) == "refused", "refused:" + name);
  }
  all.line(made({{"policy", "default"}, {"on_error", "refuse"}}) == "on", "on: default");
  all.line(made({{"policy", "default"}, {"on_error", "refuse"}}, GGML_TYPE_Q4_0) == "refused",
           "refused: a cache of q4_0");
}

/// A layer that is not supported stays dense, to the bit.
void check_unsupported(const model& of, const material& m, const settings& s, checks& all) {
  seen_logits by[2];
  for (int i = 0; i < 2; ++i) {
    context_setting setting;
    setting.cells = 2048;
    setting.threads = s.threads;
    setting.type = GGML_TYPE_Q4_0;
    if (i == 1) setting.attention = parse_setting("default:0.1");
    context on(of, setting);
    on.prefill(part(m.first, 0, 300));
    go_on(on, part(m.first, 300, 4), 300, 0, by[i]);
  }
  all.line(by[0].rows() == by[1].rows(), "a cache of q4_0 stays dense, bit for bit");
}

}  // namespace

int main(int argc, char** argv) {
  settings s;
  CLI::App app("Does vattention follow llama.cpp's cache?");
  app.add_option("--model", s.model, "GGUF file")->required();
  app.add_option("--text", s.text, "file of 2200 tokens or more")->required();
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 512))->capture_default_str();
  app.add_option("--policies", s.policies)->capture_default_str();
  app.add_option("--only", s.only, "scenarios with this in their name");
  app.add_option("--exact-limit", s.exact_limit, "mean KL divergence from dense, of policy exact")
      ->capture_default_str();
  app.add_option("--sampled-limit", s.sampled_limit, "the same, of others")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  try {
    checks all;
    const model of(s.model);
    if (s.only.empty()) check_refusals(of, all);
    quiet_log(false);
    const material m = prepare(of, s, true);
    check_scenarios(of, m, prepare(of, s, false), s, all);
    if (s.only.empty()) {
      check_threads(of, m, all);
      check_types(of, m, s, all);
      check_unsupported(of, m, s, all);
    }
    std::printf("%d checks failed\n", all.failed());
    return all.failed() == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "check_cache: %s\n", error.what());
    return 1;
  }
}
