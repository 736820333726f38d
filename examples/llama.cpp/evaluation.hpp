// SPDX-License-Identifier: Apache-2.0
/// @file
/// What all measurements of `evaluate` have in common: settings, contexts of a policy, tables.
#pragma once

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine_program.hpp"

namespace vattn_llama_cpp {

using nlohmann::json;

struct evaluation {
  std::string model, text, tables, type = "f16", prompt, tasks, answers;
  std::vector<std::string> policies{"default:0.05"};
  int threads = 2, audit = 0, bin = 64, chunk = 8;
  std::int64_t first = 4096, last = 8192, tokens = 0;
  std::vector<int> lengths{2048, 4096, 8192};
  bool special = false;

  /// `dense`, and what else was asked for.
  std::vector<std::string> with_dense() const {
    std::vector<std::string> all{"dense"};
    for (const std::string& policy : policies)
      if (policy != "dense") all.push_back(policy);
    return all;
  }
};

inline double seconds_of(auto work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

inline ggml_type type_of(const std::string& name) {
  if (name == "f16") return GGML_TYPE_F16;
  if (name == "bf16") return GGML_TYPE_BF16;
  if (name == "q8_0") return GGML_TYPE_Q8_0;
  if (name == "f32") return GGML_TYPE_F32;
  throw std::runtime_error("--type: want f16, bf16, q8_0 or f32, got " + name);
}

/// Of a context for one sequence. What is wrong with a policy ends the program.
inline context_setting setting_of(const evaluation& e, const std::string& policy,
                                  std::int64_t cells) {
  context_setting all;
  all.attention = parse_setting(policy);
  if (e.audit > 0 && all.attention["policy"] != "dense")
    all.attention.emplace("audit", std::to_string(e.audit));
  all.attention.emplace("on_error", "refuse");
  all.cells = static_cast<std::uint32_t>((cells + 255) / 256 * 256);
  all.threads = e.threads;
  all.type = type_of(e.type);
  return all;
}

/// Tables of JSON lines in a folder, which get longer with every run; see tasks.md. Without a folder nothing is written.
class tables {
public:
  explicit tables(std::string folder) : folder_(std::move(folder)) {
    if (!folder_.empty()) std::filesystem::create_directories(folder_);
  }
  void add(const std::string& name, const json& row) {
    if (folder_.empty()) return;
    const auto [at, fresh] = files_.try_emplace(name);
    if (fresh) at->second.open(folder_ + "/" + name + ".jsonl", std::ios::app);
    at->second << row.dump() << std::endl;
    if (!at->second) throw std::runtime_error("cannot write to " + folder_);
  }
  bool wanted() const noexcept { return !folder_.empty(); }

private:
  std::string folder_;
  std::map<std::string, std::ofstream> files_;
};

inline density_sum density_of(const context& of) {
  return of.state() == nullptr ? density_sum{} : report_of(*of.state()).density();
}

}  // namespace vattn_llama_cpp
