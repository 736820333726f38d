// SPDX-License-Identifier: Apache-2.0
/// @file
/// llama.h for the programs here: owned models and contexts, each context with its own attention, one-line errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <memory>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "llama.h"
#include "report.hpp"

namespace vattn_llama_cpp {

/// What a context's attention is: the variables of `options.hpp` without VATTN_, lower case, and their texts; and
/// `flash=off` for dense attention by matrix products.
using attention_setting = std::map<std::string, std::string>;

/// `policy[:epsilon or density][:name=value]...`, e.g. `default:0.05`, `topk:0.1`, `default:0.1:delta=0.05`.
/// @throws std::runtime_error for parts that are neither.
inline attention_setting parse_setting(const std::string& text) {
  attention_setting all;
  std::istringstream parts(text);
  std::string part;
  std::getline(parts, part, ':');
  all["policy"] = part;
  while (std::getline(parts, part, ':')) {
    const std::size_t equals = part.find('=');
    if (equals != std::string::npos) {
      all[part.substr(0, equals)] = part.substr(equals + 1);
    } else {
      const bool by_density =
          all["policy"] == "topk" || all["policy"] == "oracle" || all["policy"] == "window";
      all[by_density ? "density" : "epsilon"] = part;
    }
  }
  return all;
}

/// The environment of one context while it is made.
class environment {
public:
  explicit environment(const attention_setting& setting) {
    for (const char* name : names) ::unsetenv(variable(name).c_str());
    for (const auto& [name, value] : setting) {
      if (name == "flash") continue;
      if (std::find(std::begin(names), std::end(names), name) == std::end(names))
        throw std::runtime_error("no such setting: " + name);
      ::setenv(variable(name).c_str(), value.c_str(), 1);
    }
  }
  environment(const environment&) = delete;
  environment& operator=(const environment&) = delete;
  ~environment() {
    for (const char* name : names) ::unsetenv(variable(name).c_str());
  }

private:
  static constexpr const char* names[] = {"policy",  "epsilon", "delta",   "density",
                                          "tokens",  "audit",   "seed",    "split",
                                          "verbose", "verify",  "on_error"};
  static std::string variable(const std::string& name) {
    std::string text = "VATTN_" + name;
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    return text;
  }
};

/// The engine says what is wrong and, with `notes`, vattention what is on; nothing else.
inline void quiet_log(bool notes = true) {
  static bool with_notes = true;
  with_notes = notes;
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR ||
            (with_notes && std::string_view(text).starts_with("vattention")))
          std::fputs(text, stderr);
      },
      nullptr);
}

class model {
public:
  explicit model(const std::string& path) {
    quiet_log();
    llama_backend_init();
    llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    // Weights stay as the file has them: the layouts of this version for matrix units fail on some machines.
    params.use_extra_bufts = false;
    model_.reset(llama_model_load_from_file(path.c_str(), params));
    if (model_ == nullptr) throw std::runtime_error("no model: " + path);
  }

  llama_model* get() const noexcept { return model_.get(); }
  const llama_vocab* vocab() const noexcept { return llama_model_get_vocab(model_.get()); }
  int vocabulary() const noexcept { return llama_vocab_n_tokens(vocab()); }

  /// `special`: special tokens in the text are such.
  std::vector<llama_token> tokens_of(const std::string& text, bool special = false) const {
    std::vector<llama_token> tokens(text.size() + 8);
    const int count = llama_tokenize(vocab(), text.data(), static_cast<int>(text.size()),
                                     tokens.data(), static_cast<int>(tokens.size()), true, special);
    if (count < 0) throw std::runtime_error("the text could not be tokenized");
    tokens.resize(static_cast<std::size_t>(count));
    return tokens;
  }
  std::string text_of(std::span<const llama_token> tokens) const {
    std::string all;
    char piece[256];
    for (const llama_token token : tokens) {
      const int size = llama_token_to_piece(vocab(), token, piece, sizeof piece, 0, false);
      if (size > 0) all.append(piece, static_cast<std::size_t>(size));
    }
    return all;
  }

private:
  struct deleter {
    void operator()(llama_model* m) const noexcept { llama_model_free(m); }
  };
  std::unique_ptr<llama_model, deleter> model_;
};

struct context_setting {
  attention_setting attention{{"policy", "dense"}};
  std::uint32_t cells = 8192, sequences = 1;
  bool unified = true;
  int threads = 2;
  ggml_type type = GGML_TYPE_F16;
  ggml_backend_sched_eval_callback watch = nullptr;
  void* watcher = nullptr;
};

/// A token at a position of a sequence; do its logits matter?
struct placed_token {
  llama_token token = 0;
  llama_pos position = 0;
  llama_seq_id sequence = 0;
  bool logits = true;
};

class context {
public:
  context(const model& of, const context_setting& setting) : vocabulary_(of.vocabulary()) {
    const environment environment(setting.attention);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = setting.cells * (setting.unified ? 1 : setting.sequences);
    params.n_batch = params.n_ubatch = 512;
    params.n_seq_max = setting.sequences;
    params.kv_unified = setting.unified;
    params.n_threads = params.n_threads_batch = setting.threads;
    const auto flash = setting.attention.find("flash");
    params.flash_attn_type = flash != setting.attention.end() && flash->second == "off"
                                 ? LLAMA_FLASH_ATTN_TYPE_DISABLED
                                 : LLAMA_FLASH_ATTN_TYPE_ENABLED;
    params.type_k = params.type_v = setting.type;
    params.cb_eval = setting.watch;
    params.cb_eval_user_data = setting.watcher;
    params.no_perf = true;
    const std::vector<vattn_llama*> before = live_states();
    context_.reset(llama_init_from_model(of.get(), params));
    if (context_ == nullptr) throw std::runtime_error("no context");
    for (vattn_llama* state : live_states())
      if (std::find(before.begin(), before.end(), state) == before.end()) state_ = state;
  }

  llama_context* get() const noexcept { return context_.get(); }
  llama_memory_t memory() const noexcept { return llama_get_memory(context_.get()); }
  /// Null where all is dense.
  vattn_llama* state() const noexcept { return state_; }

  /// One computation of at most 512 tokens.
  void decode(std::span<const placed_token> tokens) {
    const auto count = static_cast<std::int32_t>(tokens.size());
    llama_batch batch = llama_batch_init(count, 0, 1);
    batch.n_tokens = count;
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      batch.token[i] = tokens[i].token;
      batch.pos[i] = tokens[i].position;
      batch.n_seq_id[i] = 1;
      batch.seq_id[i][0] = tokens[i].sequence;
      batch.logits[i] = tokens[i].logits ? 1 : 0;
    }
    const int failed = llama_decode(context_.get(), batch);
    llama_batch_free(batch);
    if (failed != 0) throw std::runtime_error("llama_decode returned " + std::to_string(failed));
  }
  void decode(llama_token token, llama_pos position, llama_seq_id sequence = 0) {
    const placed_token one{token, position, sequence, true};
    decode(std::span(&one, 1));
  }
  /// A text from a position on; logits of its last token.
  void prefill(std::span<const llama_token> tokens, llama_pos position = 0,
               llama_seq_id sequence = 0) {
    std::vector<placed_token> some;
    for (std::size_t at = 0; at < tokens.size(); ++at) {
      some.push_back(
          {tokens[at], position + static_cast<llama_pos>(at), sequence, at + 1 == tokens.size()});
      if (some.size() == 512 || at + 1 == tokens.size()) {
        decode(some);
        some.clear();
      }
    }
  }

  /// Of the i-th token of the last computation; -1: of the last token.
  std::span<const float> logits(int i = -1) const {
    const float* const all = llama_get_logits_ith(context_.get(), i);
    if (all == nullptr) throw std::runtime_error("no logits");
    return {all, static_cast<std::size_t>(vocabulary_)};
  }

  std::vector<std::uint8_t> saved(llama_seq_id sequence = 0) const {
    std::vector<std::uint8_t> bytes(llama_state_seq_get_size(context_.get(), sequence));
    if (llama_state_seq_get_data(context_.get(), bytes.data(), bytes.size(), sequence) !=
        bytes.size())
      throw std::runtime_error("the state could not be saved");
    return bytes;
  }
  void load(const std::vector<std::uint8_t>& bytes, llama_seq_id sequence = 0) {
    if (llama_state_seq_set_data(context_.get(), bytes.data(), bytes.size(), sequence) == 0)
      throw std::runtime_error("the state could not be loaded");
  }

private:
  struct deleter {
    void operator()(llama_context* c) const noexcept { llama_free(c); }
  };
  std::unique_ptr<llama_context, deleter> context_;
  int vocabulary_;
  vattn_llama* state_ = nullptr;
};

inline llama_token best_of(std::span<const float> logits) noexcept {
  return static_cast<llama_token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}
/// log sum exp, in double.
inline double log_sum_exp(std::span<const float> logits) noexcept {
  const auto top = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
  double sum = 0.0;
  for (const float x : logits) sum += std::exp(static_cast<double>(x) - top);
  return top + std::log(sum);
}
/// -log p of a token [nats].
inline double loss_of(std::span<const float> logits, llama_token token) noexcept {
  return log_sum_exp(logits) - static_cast<double>(logits[static_cast<std::size_t>(token)]);
}
/// KL(p || q) of two rows of logits [nats].
inline double divergence(std::span<const float> p, std::span<const float> q) noexcept {
  const double sum_p = log_sum_exp(p);
  const double sum_q = log_sum_exp(q);
  double all = 0.0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    const double log_p = static_cast<double>(p[i]) - sum_p;
    all += std::exp(log_p) * (log_p - static_cast<double>(q[i]) + sum_q);
  }
  return std::max(0.0, all);  // rounding
}

inline std::string read_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw std::runtime_error("cannot read " + path);
  std::ostringstream all;
  all << in.rdbuf();
  return all.str();
}

}  // namespace vattn_llama_cpp
