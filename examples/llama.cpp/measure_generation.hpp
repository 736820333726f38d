// SPDX-License-Identifier: Apache-2.0
/// @file
/// Greedy text of each policy, and how likely the dense model finds it; answers to tasks.
#pragma once

#include <iostream>

#include "evaluation.hpp"
#include "support/progress.hpp"

namespace vattn_llama_cpp {

/// Mean loss of the tokens from `first` on under dense attention, by a prefill with all logits.
inline double dense_loss_of(const evaluation& e, const model& of, std::span<const llama_token> all,
                            std::size_t first) {
  context judge(of, setting_of(e, "dense", std::ssize(all)));
  double loss = 0.0;
  for (std::size_t at = 0; at + 1 < all.size();) {
    std::vector<placed_token> some;
    for (; some.size() < 512 && at + some.size() + 1 < all.size();)
      some.push_back({all[at + some.size()], static_cast<llama_pos>(at + some.size()), 0, true});
    judge.decode(some);
    for (std::size_t i = 0; i < some.size(); ++i)
      if (at + i + 1 >= first) loss += loss_of(judge.logits(static_cast<int>(i)), all[at + i + 1]);
    at += some.size();
  }
  return loss / static_cast<double>(all.size() - first);
}

inline void measure_generation(const evaluation& e) {
  const model of(e.model);
  const std::vector<llama_token> prompt = of.tokens_of(e.prompt);
  const auto cells = std::ssize(prompt) + e.tokens;
  tables out(e.tables);
  std::vector<llama_token> of_dense;
  double dense_loss = 0.0;
  std::printf("%-24s %9s %9s %12s %9s %9s\n", "policy", "loss", "to dense", "same tokens",
              "rows read", "tokens/s");
  for (const std::string& policy : e.with_dense()) {
    std::vector<llama_token> all = prompt;
    double density = 1.0, seconds = 0.0;
    {
      context engine(of, setting_of(e, policy, cells));
      engine.prefill(prompt);
      vattn_examples::progress bar(static_cast<std::size_t>(e.tokens), "tokens");
      for (std::int64_t i = 0; i < e.tokens; ++i) {
        all.push_back(best_of(engine.logits()));
        const auto at = static_cast<llama_pos>(std::ssize(all) - 1);
        seconds += seconds_of([&] { engine.decode(all.back(), at); });
        bar.step();
      }
      density = density_of(engine).mean();
    }
    const double loss = dense_loss_of(e, of, all, prompt.size());
    if (policy == "dense") {
      of_dense = all;
      dense_loss = loss;
    }
    const auto same = std::mismatch(all.begin(), all.end(), of_dense.begin()).first - all.begin() -
                      std::ssize(prompt);
    const double speed = static_cast<double>(e.tokens) / seconds;
    std::printf("%-24s %9.5f %+8.3f%% %12td %8.2f%% %9.2f\n", policy.c_str(), loss,
                100.0 * (loss / dense_loss - 1.0), same, 100.0 * density, speed);
    out.add("generation", {{"policy", policy},
                           {"prompt", e.prompt},
                           {"tokens", e.tokens},
                           {"loss_under_dense", loss},
                           {"dense_generation_loss", dense_loss},
                           {"same_tokens", same},
                           {"density", density},
                           {"tokens_per_second", speed},
                           {"text", of.text_of(all)}});
  }
}

/// The tokens of a text, and how many of them are those of its first characters.
inline std::pair<std::vector<llama_token>, std::size_t> cut_tokens(const model& of,
                                                                   const std::string& text,
                                                                   std::size_t characters,
                                                                   bool special) {
  std::vector<llama_token> all = of.tokens_of(text, special);
  const std::vector<llama_token> first = of.tokens_of(text.substr(0, characters), special);
  const auto common =
      std::mismatch(all.begin(), all.end(), first.begin(), first.end()).first - all.begin();
  return {std::move(all), static_cast<std::size_t>(common)};
}

/// Bytes of the first so many characters of UTF-8.
inline std::size_t bytes_of_characters(const std::string& text, std::size_t characters) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0U) != 0x80U && characters-- == 0) break;
  return at;
}

/// Answers the tasks of `ruler.py`: the context is prefilled densely, once for all policies; the question is read in
/// chunks small enough for vattention, and the answer is greedy. `dense` is a policy like others here.
inline void answer_tasks(const evaluation& e) {
  const model of(e.model);
  std::ifstream in(e.tasks);
  if (!in) throw std::runtime_error("cannot read " + e.tasks);
  std::vector<json> tasks;
  std::int64_t cells = 0;
  for (std::string line; std::getline(in, line);) {
    if (line.empty()) continue;
    tasks.push_back(json::parse(line));
    cells = std::max(cells, std::ssize(of.tokens_of(tasks.back().at("prompt"), e.special)) +
                                tasks.back().at("answer_tokens").get<std::int64_t>());
  }
  std::ofstream out(e.answers);
  if (!out) throw std::runtime_error("cannot write " + e.answers);
  std::vector<std::unique_ptr<context>> engines;
  engines.reserve(e.policies.size());
  for (const std::string& policy : e.policies)
    engines.push_back(std::make_unique<context>(of, setting_of(e, policy, cells)));
  vattn_examples::progress bar(tasks.size(), "tasks");
  for (const json& task : tasks) {
    const std::string prompt = task.at("prompt");
    const std::size_t before =
        bytes_of_characters(prompt, task.at("question_at").get<std::size_t>());
    const auto [tokens, context_size] = cut_tokens(of, prompt, before, e.special);
    const std::size_t first = std::clamp<std::size_t>(context_size, 1, tokens.size() - 1);
    std::vector<std::uint8_t> saved;
    for (std::size_t i = 0; i < e.policies.size(); ++i) {
      context& engine = *engines[i];
      llama_memory_clear(engine.memory(), true);
      if (i == 0) {
        engine.prefill(std::span(tokens).first(first));
        saved = engine.saved();
      } else {
        engine.load(saved);
      }
      const auto chunk = static_cast<std::size_t>(e.chunk);
      for (std::size_t at = first; at < tokens.size(); at += chunk)
        engine.prefill(std::span(tokens).subspan(at, std::min(chunk, tokens.size() - at)),
                       static_cast<llama_pos>(at));
      std::vector<llama_token> answer;
      for (auto at = std::ssize(tokens);
           std::ssize(answer) < task.at("answer_tokens").get<std::int64_t>(); ++at) {
        const llama_token next = best_of(engine.logits());
        if (llama_vocab_is_eog(of.vocab(), next)) break;
        answer.push_back(next);
        engine.decode(next, static_cast<llama_pos>(at));
      }
      out << json{{"id", task.at("id")}, {"policy", e.policies[i]}, {"output", of.text_of(answer)}}
                 .dump(-1, ' ', false, json::error_handler_t::replace)
          << std::endl;
    }
    bar.step();
  }
  bar.finish();
  for (std::size_t i = 0; i < e.policies.size(); ++i)
    std::printf("%-24s %8.2f %% of the rows read\n", e.policies[i].c_str(),
                100.0 * density_of(*engines[i]).mean());
}

/// For `ruler.py --count`: one JSON string a line in, its number of tokens out.
inline void count_tokens(const evaluation& e) {
  const model of(e.model);
  for (std::string line; std::getline(std::cin, line);)
    std::cout << of.tokens_of(json::parse(line).get<std::string>(), e.special).size() << std::endl;
}

}  // namespace vattn_llama_cpp
