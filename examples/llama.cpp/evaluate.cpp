// SPDX-License-Identifier: Apache-2.0
// Dense attention and vattention in the same engine: next-token loss step by step on a text, greedy text, answers to
// tasks, speed. Results go to stdout, and to the tables that report.py reads.
#include <CLI/CLI.hpp>

#include <iostream>

#include "measure_generation.hpp"
#include "measure_loss.hpp"
#include "measure_speed.hpp"

using namespace vattn_llama_cpp;

namespace {

/// The same weights in another type. Where weights are quantised, so are activations, to 8 bits: a difference in the
/// last bit of an attention output then grows, and hides what attention does.
void convert(const evaluation& e) {
  quiet_log();
  if (e.type != "f32" && e.type != "f16") throw std::runtime_error("--type: want f16 or f32");
  llama_model_quantize_params params = llama_model_quantize_default_params();
  params.nthread = e.threads;
  params.allow_requantize = true;
  params.ftype = e.type == "f32" ? LLAMA_FTYPE_ALL_F32 : LLAMA_FTYPE_MOSTLY_F16;
  if (llama_model_quantize(e.model.c_str(), e.answers.c_str(), &params) != 0)
    throw std::runtime_error("cannot convert " + e.model);
}

}  // namespace

int main(int argc, char** argv) {
  evaluation e;
  CLI::App app("Dense attention and vattention in llama.cpp, side by side");
  app.require_subcommand(1);
  void (*work)(const evaluation&) = nullptr;
  const auto command = [&](const char* name, const char* what, void (*run)(const evaluation&)) {
    CLI::App* const sub = app.add_subcommand(name, what);
    sub->add_option("--model", e.model, "GGUF file")->required()->check(CLI::ExistingFile);
    sub->callback([&work, run] { work = run; });
    return sub;
  };
  const auto measures = [&](CLI::App* sub) {
    sub->add_option(
           "--policies", e.policies,
           "beside dense: policy[:epsilon, or density of topk, oracle, window][:name=value]")
        ->capture_default_str();
    sub->add_option("--threads", e.threads)->check(CLI::Range(1, 512))->capture_default_str();
    sub->add_option("--type", e.type, "of the cache: f16, bf16, q8_0, f32")->capture_default_str();
    sub->add_option("--tables", e.tables, "folder for the tables of report.py");
    sub->add_option("--audit", e.audit, "check one call in so many against exact attention")
        ->check(CLI::NonNegativeNumber);
  };
  CLI::App* const loss = command("loss", "next-token loss on a text", measure_loss);
  measures(loss);
  loss->add_option("--text", e.text, "file")->required()->check(CLI::ExistingFile);
  loss->add_option("--first", e.first, "tokens prefilled densely")->capture_default_str();
  loss->add_option("--last", e.last, "decode up to here")->capture_default_str();
  loss->add_option("--bin", e.bin, "steps whose densities are a row")
      ->check(CLI::Range(1, 1 << 20));
  CLI::App* const text = command("generate", "greedy text and its loss", measure_generation);
  measures(text);
  text->add_option("--prompt", e.prompt)->required();
  text->add_option("--tokens", e.tokens)->required()->check(CLI::Range(1, 1 << 20));
  CLI::App* const speed = command("speed", "tokens a second", measure_speed);
  measures(speed);
  speed->add_option("--text", e.text, "file")->required()->check(CLI::ExistingFile);
  speed->add_option("--lengths", e.lengths)->capture_default_str();
  speed->add_option("--steps", e.tokens, "the last ones up to each length")
      ->required()
      ->check(CLI::Range(2, 1 << 20));
  CLI::App* const answer = command("answer", "answers to the tasks of ruler.py", answer_tasks);
  measures(answer);
  answer->add_option("--tasks", e.tasks, "JSON lines")->required()->check(CLI::ExistingFile);
  answer->add_option("--out", e.answers, "JSON lines")->required();
  answer->add_option("--chunk", e.chunk, "tokens of the question that are read at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  answer->add_flag("--special", e.special, "prompts have special tokens (--chat)");
  command("count", "tokens of JSON strings, a line each, on stdin", count_tokens)
      ->add_flag("--special", e.special, "they have special tokens");
  CLI::App* const to = command("convert", "write the same weights in another type", convert);
  to->add_option("--out", e.answers, "GGUF file")->required();
  to->add_option("--type", e.type, "f16 or f32")->capture_default_str();
  to->add_option("--threads", e.threads)->check(CLI::Range(1, 512));
  CLI11_PARSE(app, argc, argv);
  try {
    work(e);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "evaluate: %s\n", error.what());
    return 1;
  }
}
