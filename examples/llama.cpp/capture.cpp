// SPDX-License-Identifier: Apache-2.0
// Queries, keys and values of chosen heads of a model on a text, as a file that `real_heads` and the benchmarks read.
#include <CLI/CLI.hpp>

#include <cstdio>
#include <iostream>

#include "capture_watcher.hpp"
#include "engine_program.hpp"
#include "support/progress.hpp"
#include "support/safetensors_writer.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn_llama_cpp;
using vattn::element;

namespace {

struct settings {
  std::string model, text, type = "bf16";
  std::filesystem::path out;
  std::vector<std::string> heads;
  index_t tokens = 8000, skip = 0, queries = 64;
  int threads = 2;
  bool check = false, bar = false;
};

/// Computations have at most 512 tokens, the engine's batch, and at least 64: with fewer its operator adds values in
/// f16, with more in float.
constexpr index_t most_at_once = 512, least_at_once = 64;
/// Largest |o - o^| / |o| that `--check` lets pass, with o attention in double and o^ the operator's. Sums in float
/// stay below 1e-4 of the double ones, those in f16 would not below 1e-2.
constexpr double most_deviation = 1e-3;

/// Nothing if help was asked for and given. @throws CLI::ParseError for a wrong command line.
std::optional<settings> parse(int argc, char** argv) {
  settings s;
  CLI::App app(
      "Writes queries, keys (both after rotary embedding) and values of chosen heads of a model on a text\n"
      "as safetensors.",
      "capture");
  app.add_option("--model", s.model, "GGUF file")->required()->check(CLI::ExistingFile);
  app.add_option("--text", s.text, "file")->required()->check(CLI::ExistingFile);
  app.add_option("--tokens", s.tokens, "so many tokens of the text are read")
      ->check(CLI::Range(least_at_once, index_t{1} << 24))
      ->capture_default_str();
  app.add_option("--skip", s.skip, "tokens of the text before them that are not")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  app.add_option("--queries", s.queries, "queries are those of so many last positions")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app.add_option("--heads", s.heads, "LAYER.KV_HEAD ..., e.g. 0.0 11.0 18.2, or all")->required();
  app.add_option("--type", s.type, "of the file's numbers")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}))
      ->capture_default_str();
  app.add_option("--threads", s.threads)->check(CLI::Range(1, 512))->capture_default_str();
  app.add_option("--out", s.out, "safetensors file")->required();
  app.add_flag(
      "--check", s.check,
      "no file where attention to what was captured is not what the model's operator gave");
  app.add_flag("--progress", s.bar, "a progress bar even if stderr is no terminal");
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  }
  return s;
}

/// A layer and one of its KV heads.
using head_name = std::pair<int, int>;

/// `LAYER.KV_HEAD`. @throws std::runtime_error for another text.
head_name parse_head(const std::string& text) {
  head_name head;
  const char* const end = text.data() + text.size();
  const auto layer = std::from_chars(text.data(), end, head.first);
  if (layer.ec == std::errc{} && layer.ptr != end && *layer.ptr == '.') {
    const auto kv = std::from_chars(layer.ptr + 1, end, head.second);
    if (kv.ec == std::errc{} && kv.ptr == end && head.first >= 0 && head.second >= 0) return head;
  }
  throw std::runtime_error("--heads: want LAYER.KV_HEAD such as 11.0, or all alone, got " + text);
}

/// Empty for all. @throws std::runtime_error for a layer that the model has not.
std::set<head_name> parse_heads(const settings& s, const model& of) {
  if (s.heads == std::vector<std::string>{"all"}) return {};
  const int layers = llama_model_n_layer(of.get());
  std::set<head_name> heads;
  for (const std::string& text : s.heads) {
    heads.insert(parse_head(text));
    if (parse_head(text).first >= layers)
      throw std::runtime_error("--heads: no layer of " + text + ": the model has " +
                               std::to_string(layers) + " layers");
  }
  return heads;
}

/// Those tokens of the text that are read. A token that the model wants before each text stays before what is left.
std::vector<llama_token> tokens_of(const settings& s, const model& of) {
  std::vector<llama_token> all = of.tokens_of(read_text(s.text));
  const index_t kept = llama_vocab_get_add_bos(of.vocab()) && !all.empty() ? 1 : 0;
  const auto count = static_cast<index_t>(all.size());
  if (s.skip > count - kept || count - s.skip < s.tokens)
    throw std::runtime_error(s.text + ": want " + std::to_string(s.tokens) + " tokens after " +
                             std::to_string(s.skip) + ", the text has " + std::to_string(count));
  all.erase(all.begin() + kept, all.begin() + kept + s.skip);
  all.resize(static_cast<std::size_t>(s.tokens));
  return all;
}

/// Reads the text; afterwards keys and values of all its tokens are in the context's cache.
void read(context& on, const std::vector<llama_token>& tokens, capture_watcher& watcher,
          const std::set<head_name>& heads, bool bar) {
  const auto count = static_cast<index_t>(tokens.size());
  const index_t batches = (count + most_at_once - 1) / most_at_once;
  vattn_examples::progress progress(
      static_cast<std::size_t>(batches), "batches",
      bar ? vattn_examples::bar::always : vattn_examples::bar::on_terminal);
  for (index_t batch = 0; batch < batches; ++batch) {
    const index_t first = count * batch / batches;
    const index_t size = count * (batch + 1) / batches - first;
    watcher.begin(first, size);
    on.prefill(
        std::span(tokens).subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(size)),
        static_cast<llama_pos>(first));
    watcher.end();
    for (const auto& [layer, kv_head] : heads) {
      const index_t there = watcher.layers().at(layer).keys.heads;
      if (kv_head >= there)
        throw std::runtime_error("--heads: layer " + std::to_string(layer) + " has " +
                                 std::to_string(there) + " KV heads, no " +
                                 std::to_string(kv_head));
    }
    progress.step();
  }
}

/// One KV head's rows as the operator reads them: those of the cache, or copies in f16 where it rounds to that.
class rows_as_used {
public:
  rows_as_used(const cached_rows& of, index_t head, index_t rows) : view_(of.of(head, rows)) {
    if (of.used == of.type) return;
    if (of.used != element::f16) throw std::runtime_error("the operator rounds to another type");
    copy_.resize(static_cast<std::size_t>(rows * of.dim));
    std::vector<float> row(static_cast<std::size_t>(of.dim));
    for (index_t i = 0; i < rows; ++i) {
      vattn::kernels::load_row(of.type, view_.row(i), of.dim, row.data());
      std::transform(row.begin(), row.end(), copy_.begin() + i * of.dim,
                     [](float x) { return static_cast<Eigen::half>(x); });
    }
    view_ = {copy_.data(), rows, of.dim};
  }
  rows_as_used(const rows_as_used&) = delete;
  rows_as_used& operator=(const rows_as_used&) = delete;
  const vattn::rows_view& view() const noexcept { return view_; }

private:
  std::vector<Eigen::half> copy_;
  vattn::rows_view view_;
};

/// What attention in double says of a head.
struct findings {
  /// Share of the rows that the weight is spread over.
  double support = 0.0;
  /// Largest relative difference of an output of the operator.
  double deviation = 0.0;
};

/// Of numbers in any order; the mean of the two in the middle where their count is even.
double median(std::vector<double> numbers) {
  std::sort(numbers.begin(), numbers.end());
  const std::size_t half = numbers.size() / 2;
  return numbers.size() % 2 == 1 ? numbers[half] : (numbers[half - 1] + numbers[half]) / 2.0;
}

/// A head's effective support is the median of exp(H) / (rows seen), H the entropy of a query's weights [nats], over
/// all query heads of its group and every eighth of the positions, from the first on.
findings examine(const captured_layer& layer, int kv_head, index_t rows, index_t positions) {
  const rows_as_used keys(layer.keys, kv_head, rows), values(layer.values, kv_head, rows);
  const vattn::kv_view kv(keys.view(), values.view());
  const index_t first_head = kv_head * layer.group();
  findings all;
  std::vector<double> supports;
  for (index_t p = 0; p < positions; ++p) {
    const index_t first = first_head * positions + p;
    vattn::query_group group(layer.queries.data() + first * kv.key_dim(),
                             static_cast<int>(layer.group()), kv.key_dim());
    group.stride = positions * kv.key_dim();
    group.logits.scale = layer.scale;
    group.logits.visible_rows = rows - positions + 1 + p;
    const vattn::exact_attention exact = vattn::reference(group, kv);
    for (int h = 0; h < group.heads; ++h) {
      if (p % 8 == 0) supports.push_back(exact.entropy_share[h]);
      const Eigen::Map<const Eigen::RowVectorXf> got(
          layer.outputs.data() + (first + h * positions) * kv.value_dim(), kv.value_dim());
      const double deviation = vattn::relative_error(got, exact.output.row(h));
      all.deviation = std::isnan(deviation) ? deviation : std::max(all.deviation, deviation);
    }
  }
  all.support = median(std::move(supports));
  return all;
}

std::string name_of(const head_name& head) {
  char text[40];
  std::snprintf(text, sizeof text, "layer%02d.kv%d", head.first, head.second);
  return text;
}

/// `3`, or `3, 4` where layers differ.
std::string joined(const std::set<index_t>& numbers) {
  std::string text;
  for (const index_t number : numbers) text += (text.empty() ? "" : ", ") + std::to_string(number);
  return text;
}

/// Its name and what it is.
std::string description_of(const model& of) {
  char name[128] = "", kind[128] = "";
  llama_model_meta_val_str(of.get(), "general.name", name, sizeof name);
  llama_model_desc(of.get(), kind, sizeof kind);
  return std::string(name) + (*name == '\0' ? "" : ", ") + kind;
}

using all_findings = std::map<head_name, findings>;

/// @throws std::runtime_error if layers have different scales, for a file has one.
std::map<std::string, std::string> metadata_of(const settings& s, const model& of,
                                               const capture_watcher& watcher,
                                               const all_findings& heads) {
  std::set<index_t> groups, dims;
  std::set<float> scales;
  std::string remarks;
  for (const auto& [head, found] : heads) {
    const captured_layer& layer = watcher.layers().at(head.first);
    groups.insert(layer.group());
    dims.insert(layer.keys.dim);
    scales.insert(layer.scale);
    char support[48];
    std::snprintf(support, sizeof support, ": effective support %.4f of n", found.support);
    remarks += (remarks.empty() ? "" : "; ") + name_of(head) + support;
  }
  if (scales.size() != 1)
    throw std::runtime_error("these layers scale their logits differently: a file of its own each");
  char scale[32];
  const auto written = std::to_chars(std::begin(scale), std::end(scale), *scales.begin());
  return {
      {"model", description_of(of)},
      {"text", std::filesystem::path(s.text).filename().string() + ", " + std::to_string(s.tokens) +
                   " tokens after " + std::to_string(s.skip)},
      {"n", std::to_string(s.tokens)},
      {"head_dim", joined(dims)},
      {"queries", "q is [" + joined(groups) + " query heads x last " + std::to_string(s.queries) +
                      " positions x " + joined(dims) + "], post-RoPE; query i sees keys 0.." +
                      std::to_string(s.tokens - s.queries) + "+i"},
      {"scale", std::string(scale, written.ptr)},
      {"heads", remarks}};
}

void write(const settings& s, const model& of, const capture_watcher& watcher,
           const all_findings& heads, vattn_examples::safetensors_writer& to) {
  std::vector<vattn_examples::planned_tensor> plan;
  for (const auto& [head, found] : heads) {
    const captured_layer& layer = watcher.layers().at(head.first);
    const std::string name = name_of(head);
    plan.push_back({name + ".q", {layer.group(), s.queries, layer.keys.dim}});
    plan.push_back({name + ".k", {s.tokens, layer.keys.dim}});
    plan.push_back({name + ".v", {s.tokens, layer.values.dim}});
  }
  const element type = s.type == "f32"   ? element::f32
                       : s.type == "f16" ? element::f16
                                         : element::bf16;
  to.begin(type, std::move(plan), metadata_of(s, of, watcher, heads));
  for (const auto& [head, found] : heads) {
    const captured_layer& layer = watcher.layers().at(head.first);
    const auto queries = static_cast<std::size_t>(layer.group() * s.queries) *
                         static_cast<std::size_t>(layer.keys.dim);
    to.add(
        std::span(layer.queries).subspan(static_cast<std::size_t>(head.second) * queries, queries));
    for (const cached_rows* rows : {&layer.keys, &layer.values}) {
      const vattn::rows_view view = rows->of(head.second, s.tokens);
      std::vector<float> values(static_cast<std::size_t>(s.tokens * rows->dim));
      for (index_t i = 0; i < s.tokens; ++i)
        vattn::kernels::load_row(rows->type, view.row(i), rows->dim, values.data() + i * rows->dim);
      to.add(values);
    }
  }
  to.commit();
}

void capture(const settings& s) {
  if (s.queries > s.tokens)
    throw std::runtime_error("--queries: want at most the " + std::to_string(s.tokens) +
                             " tokens that are read, got " + std::to_string(s.queries));
  vattn_examples::safetensors_writer out(s.out);
  const model model(s.model);
  std::set<head_name> heads = parse_heads(s, model);
  const std::vector<llama_token> tokens = tokens_of(s, model);
  if (const int trained = llama_model_n_ctx_train(model.get()); s.tokens > trained)
    std::fprintf(stderr, "capture: note: the model was trained for %d positions\n", trained);

  std::set<int> layers;
  for (const auto& [layer, kv_head] : heads) layers.insert(layer);
  capture_watcher watcher(s.tokens, s.queries, std::move(layers));
  context_setting setting;
  setting.cells = static_cast<std::uint32_t>((s.tokens + 255) / 256 * 256);
  setting.threads = s.threads;
  setting.type = GGML_TYPE_F32;  // nothing is rounded before the file
  setting.watch = capture_watcher::watch;
  setting.watcher = &watcher;
  context on(model, setting);
  read(on, tokens, watcher, heads, s.bar);
  if (heads.empty())
    for (const auto& [layer, captured] : watcher.layers())
      for (int kv_head = 0; kv_head < captured.keys.heads; ++kv_head) heads.emplace(layer, kv_head);
  if (heads.empty()) throw std::runtime_error("the model has no flash attention operator");

  all_findings found;
  double largest = 0.0;
  {
    vattn_examples::progress progress(
        heads.size(), "heads",
        s.bar ? vattn_examples::bar::always : vattn_examples::bar::on_terminal);
    for (const head_name& head : heads) {
      const findings& one = found[head] =
          examine(watcher.layers().at(head.first), head.second, s.tokens, s.queries);
      largest = one.deviation <= largest ? largest : one.deviation;
      progress.step();
    }
  }
  for (const auto& [head, one] : found)
    std::printf("%-12s effective support %.4f of n, deviation %.1e\n", name_of(head).c_str(),
                one.support, one.deviation);
  std::printf(
      "largest relative deviation of the operator's output from attention in double: %.1e\n",
      largest);
  if (s.check && !(largest <= most_deviation)) {
    char text[96];
    std::snprintf(text, sizeof text, "--check: the largest deviation is %.1e, above %.0e", largest,
                  most_deviation);
    throw std::runtime_error(text);
  }
  write(s, model, watcher, found, out);
  std::printf("%s: %zu KV heads, %lld rows, %.1f MB\n", s.out.string().c_str(), found.size(),
              static_cast<long long>(s.tokens),
              static_cast<double>(std::filesystem::file_size(s.out)) * 1e-6);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (const auto settings = parse(argc, argv)) capture(*settings);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "capture: %s\n", error.what());
    return 1;
  }
}
