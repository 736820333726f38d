// SPDX-License-Identifier: Apache-2.0
// The hook: from ggml's tensors and masks to calls of an engine, on ggml's threads.
#include "vattn_llama.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "cell_list.hpp"
#include "engine.hpp"
#include "ggml-backend.h"
#include "ggml.h"
#include "report.hpp"
#include "vattention/audit/audit_table.hpp"
#include "vattention/core/workspace.hpp"

using namespace vattn_llama_cpp;

static_assert(element_of_ggml(GGML_TYPE_F32) == vattn::element::f32 &&
              element_of_ggml(GGML_TYPE_F16) == vattn::element::f16 &&
              element_of_ggml(GGML_TYPE_BF16) == vattn::element::bf16 &&
              element_of_ggml(GGML_TYPE_Q8_0) == vattn::element::q8_0);

namespace {

/// One sequence's rows, and what they were listed from last.
struct followed_sequence {
  cell_list rows;
  std::uint64_t step = 0;
  const void* mask = nullptr;
  int stream = -1;
  /// Times that rows were taken back; part of the draws' names.
  std::uint64_t turns = 0;
  /// Its tokens in the present operator, numbers within the stream.
  std::vector<int> tokens;
};

/// A model layer: what its operator is handed.
struct layer_hook {
  vattn_llama* state = nullptr;
  int layer = 0;
  float scale = 0.0F, soft_cap = 0.0F;
};

std::mutex registry_lock;
std::vector<vattn_llama*>& registry() {
  static std::vector<vattn_llama*> all;
  return all;
}

}  // namespace

struct vattn_llama {
  vattn_llama(const vattn_llama_cache& of, options what, void (*say_line)(const char*));
  ~vattn_llama();
  vattn_llama(const vattn_llama&) = delete;
  vattn_llama& operator=(const vattn_llama&) = delete;

  bool supports(const ggml_tensor& q, const ggml_tensor& k, const ggml_tensor& v,
                const ggml_tensor& mask, bool more, float alibi, int layer);
  /// Once all layers could ask: a line if some of the cache's did not.
  void tell_absent();
  layer_hook& hook_of(int layer);
  void compute(ggml_tensor& dst, const layer_hook& hook);

  const vattn_llama_cache cache;
  options asked;
  void (*const say)(const char*);
  ggml_team team;

  std::vector<cell_times> times;
  std::uint64_t step = 1;
  std::vector<std::int32_t> token_sequences;

  engine_extents extents;
  std::unique_ptr<engine> doer;
  std::vector<head_count> counts;
  vattn::index_t operators = 0;
  double seconds = 0.0;

private:
  void make_doer();
  void collect(const ggml_tensor& dst);
  void follow(followed_sequence& sequence, int number, const ggml_tensor& mask, int at);
  void answer(ggml_tensor& dst, const layer_hook& hook);
  void count(const layer_hook& hook);

  std::vector<std::unique_ptr<layer_hook>> hooks_;
  std::vector<signed char> supported_;
  /// Why layers stay dense, each said once.
  std::vector<std::string_view> told_;
  bool absent_told_ = false;
  std::map<int, followed_sequence> sequences_;
  /// Of the present operator: its sequences, heads, calls and what came of them.
  std::vector<std::pair<int, followed_sequence*>> present_;
  std::vector<head_work> works_;
  std::vector<head_call> calls_;
  std::vector<vattn::certificate> certificates_;
  std::vector<const std::uint16_t*> masks_;
};

vattn_llama::vattn_llama(const vattn_llama_cache& of, options what, void (*say_line)(const char*))
    : cache(of),
      asked(std::move(what)),
      say(say_line),
      times(of.streams, cell_times(of.cells)),
      hooks_(of.layers),
      supported_(of.layers, -1) {
  extents.sequences = static_cast<int>(of.sequences);
  extents.layers = static_cast<int>(of.layers);
  const std::lock_guard lock(registry_lock);
  registry().push_back(this);
}

vattn_llama::~vattn_llama() {
  {
    const std::lock_guard lock(registry_lock);
    std::erase(registry(), this);
  }
  if (!asked.verbose || operators == 0) return;
  const state_report all = report_of(*this);
  std::ostringstream text;
  const density_sum density = all.density();
  text << "vattention: " << density.calls << " calls of " << all.heads.size() << " KV heads, "
       << 100.0 * density.mean() << " % of the rows read, " << all.seconds << " s in "
       << all.operators << " operators\n";
  if (asked.audit > 0) text << all.audit;
  std::fputs(text.str().c_str(), stderr);
}

namespace {

/// Why a layer's attention is not the library's; null if it can be.
const char* why_dense(const ggml_tensor& q, const ggml_tensor& k, const ggml_tensor& v,
                      const ggml_tensor& mask, bool more, float alibi) {
  const char* why = nullptr;
  const ggml_tensor* const stores[] = {k.view_src, v.view_src};
  for (const ggml_tensor* store : stores)
    if (store == nullptr ||
        (store->buffer != nullptr && !ggml_backend_buffer_is_host(store->buffer)))
      why = "its cache is not in the host's memory";
  if (more) why = "there are biases or sinks in its logits";
  if (alibi != 0.0F) why = "it has ALiBi";
  if (q.type != GGML_TYPE_F32 || q.nb[0] != sizeof(float)) why = "its queries are not f32";
  if (const char* no = why_no_view(k)) why = no;
  if (v.nb[1] > v.nb[2])
    why = "its values are transposed (flash attention is off)";
  else if (const char* no = why_no_view(v))
    why = no;
  if (mask.type != GGML_TYPE_F16) why = "its mask is not f16 (flash attention is off)";
  if (q.ne[0] != k.ne[0] || k.ne[1] < 1 || q.ne[1] % k.ne[1] != 0 || v.ne[1] != k.ne[1])
    why = "its heads do not fit each other";
  else if (q.ne[1] / k.ne[1] > vattn::workspace::most_heads)
    why = "more than 64 query heads share a KV head";
  return why;
}

}  // namespace

bool vattn_llama::supports(const ggml_tensor& q, const ggml_tensor& k, const ggml_tensor& v,
                           const ggml_tensor& mask, bool more, float alibi, int layer) {
  if (layer < 0 || layer >= extents.layers || k.view_src == nullptr) return false;
  const auto at = static_cast<std::size_t>(layer);
  if (supported_[at] >= 0) return supported_[at] == 1;
  const char* const why = why_dense(q, k, v, mask, more, alibi);
  supported_[at] = why == nullptr ? 1 : 0;
  if (why != nullptr && std::find(told_.begin(), told_.end(), why) == told_.end()) {
    const std::string line = "vattention: layer " + std::to_string(layer) + ": " + why;
    if (asked.refuse) throw std::runtime_error(line + "; refused");
    say((line + "; such layers stay dense").c_str());
    told_.emplace_back(why);
  }
  return why == nullptr;
}

void vattn_llama::tell_absent() {
  if (absent_told_) return;
  absent_told_ = true;
  const auto came = static_cast<std::size_t>(std::count_if(
      supported_.begin(), supported_.end(), [](signed char known) { return known >= 0; }));
  if (came >= cache.cached) return;
  const std::string line = "vattention: " + std::to_string(cache.cached - came) + " of " +
                           std::to_string(cache.cached) +
                           " layers of a cache have an attention of their own and stay dense";
  say(line.c_str());
}

layer_hook& vattn_llama::hook_of(int layer) {
  std::unique_ptr<layer_hook>& hook = hooks_[static_cast<std::size_t>(layer)];
  if (hook == nullptr) hook = std::make_unique<layer_hook>();
  return *hook;
}

/// Once the first graph is there, which tells the heads of all layers.
void vattn_llama::make_doer() {
  if (doer != nullptr) return;
  counts.resize(static_cast<std::size_t>(index_t{extents.layers} * extents.kv_heads));
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i].layer = static_cast<int>(i) / extents.kv_heads;
    counts[i].kv_head = static_cast<int>(i) % extents.kv_heads;
  }
  doer = make_engine(asked, extents);
}

/// The sequences that have tokens here.
void vattn_llama::collect(const ggml_tensor& dst) {
  const ggml_tensor& k = *dst.src[1];
  const ggml_tensor& mask = *dst.src[3];
  const auto per_stream = static_cast<int>(mask.ne[1]);
  const auto first = static_cast<int>(k.view_offs / k.nb[3]);
  for (auto& [number, sequence] : present_) sequence->tokens.clear();
  present_.clear();
  for (int s = 0; s < static_cast<int>(k.ne[3]); ++s)
    for (int t = 0; t < per_stream; ++t) {
      const auto token = static_cast<std::size_t>(index_t{s} * per_stream + t);
      const int named = token < token_sequences.size() ? token_sequences[token] : 0;
      const int number = std::clamp(named, 0, extents.sequences - 1);
      followed_sequence& sequence = sequences_[number];
      if (sequence.tokens.empty()) {
        present_.emplace_back(number, &sequence);
        if (sequence.stream != first + s) {
          sequence.rows = {};
          sequence.step = 0;
          sequence.stream = first + s;
          doer->forget(number, 0);
        }
      }
      // A sequence is in one stream; ids that say otherwise are not the engine's.
      if (sequence.stream != first + s) throw std::runtime_error("a sequence in two streams");
      sequence.tokens.push_back(t);
    }
}

void vattn_llama::follow(followed_sequence& sequence, int number, const ggml_tensor& mask, int at) {
  if (sequence.step == step && sequence.mask == mask.data) return;
  masks_.clear();
  for (const int token : sequence.tokens)
    masks_.push_back(reinterpret_cast<const std::uint16_t*>(
        static_cast<const std::byte*>(mask.data) + static_cast<std::size_t>(token) * mask.nb[1] +
        static_cast<std::size_t>(at) * mask.nb[3]));
  const index_t had = sequence.rows.size();
  const index_t first =
      sequence.rows.follow(masks_, mask.ne[0], times[static_cast<std::size_t>(sequence.stream)]);
  if (first < had) ++sequence.turns;
  doer->forget(number, first);
  sequence.step = step;
  sequence.mask = mask.data;
}

void vattn_llama::answer(ggml_tensor& dst, const layer_hook& hook) {
  const ggml_tensor& q = *dst.src[0];
  const ggml_tensor& k = *dst.src[1];
  const ggml_tensor& v = *dst.src[2];
  const ggml_tensor& mask = *dst.src[3];
  const auto first = static_cast<int>(k.view_offs / k.nb[3]);
  const auto per_stream = static_cast<int>(mask.ne[1]);
  const auto kv_heads = static_cast<int>(k.ne[1]);
  const auto group = static_cast<int>(q.ne[1] / k.ne[1]);
  const int together = asked.split ? 1 : group;
  make_doer();
  collect(dst);
  works_.clear();
  calls_.clear();
  for (auto& [number, sequence] : present_) {
    const int stream = sequence->stream - first;
    follow(*sequence, number, mask, stream);
    for (int head = 0; head < kv_heads; ++head) {
      works_.push_back({number, head,
                        head_cells(rows_of(k, head, stream), rows_of(v, head, stream),
                                   sequence->rows.cells(), sequence->rows.size())});
      for (std::size_t i = 0; i < sequence->tokens.size(); ++i) {
        const auto token =
            static_cast<std::size_t>(index_t{stream} * per_stream + sequence->tokens[i]);
        const token_sight& sight = sequence->rows.sight(i);
        for (int h = head * group; h < (head + 1) * group; h += together) {
          auto* const out = static_cast<float*>(dst.data) +
                            token * static_cast<std::size_t>(dst.ne[0]) +
                            static_cast<std::size_t>(h) * static_cast<std::size_t>(v.ne[0]);
          if (sight.visible == 0) {
            std::fill_n(out, together * v.ne[0], 0.0F);
            continue;
          }
          const auto* const queries = reinterpret_cast<const float*>(
              static_cast<const std::byte*>(q.data) + token * q.nb[2] +
              static_cast<std::size_t>(h) * q.nb[1]);
          head_call call;
          call.work = works_.size() - 1;
          call.queries = vattn::query_group(queries, together, q.ne[0],
                                            {.scale = hook.scale,
                                             .softcap = hook.soft_cap,
                                             .bias = sight.bias,
                                             .visible_rows = sight.visible});
          call.queries.stride = static_cast<index_t>(q.nb[1] / sizeof(float));
          call.key = {.seed = asked.seed,
                      .sequence = static_cast<std::uint64_t>(number),
                      .layer = static_cast<std::uint32_t>(hook.layer),
                      .head = static_cast<std::uint32_t>(h / together),
                      .step = sequence->turns << 32U | static_cast<std::uint64_t>(sight.visible)};
          call.output = out;
          calls_.push_back(call);
        }
      }
    }
  }
  certificates_.resize(calls_.size() * static_cast<std::size_t>(together));
  doer->attend(hook.layer, works_, calls_, certificates_, team);
}

void vattn_llama::count(const layer_hook& hook) {
  std::size_t at = 0;
  for (const head_call& call : calls_) {
    const auto head =
        static_cast<std::size_t>(index_t{hook.layer} * extents.kv_heads + works_[call.work].head);
    head_count& sum = counts[head];
    const vattn::certificate& of_group = certificates_[at];
    ++sum.calls;
    sum.rows_read += of_group.rows_exact + of_group.rows_sampled;
    sum.rows_total += of_group.rows_total;
    sum.looks += of_group.looks;
    sum.bytes += of_group.bytes_touched;
    sum.density += of_group.density();
    for (int h = 0; h < call.queries.heads; ++h)
      ++sum.statuses[static_cast<std::size_t>(certificates_[at++].status)];
  }
}

void vattn_llama::compute(ggml_tensor& dst, const layer_hook& hook) {
  const auto start = std::chrono::steady_clock::now();
  answer(dst, hook);
  count(hook);
  ++operators;
  seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

namespace {

/// What ggml's threads call.
void run_operator(ggml_tensor* dst, int ith, int nth, void* userdata) {
  const layer_hook& hook = *static_cast<const layer_hook*>(userdata);
  ggml_team& team = hook.state->team;
  if (ith == 0) {
    team.begin(nth);
    try {
      hook.state->compute(*dst, hook);
    } catch (const std::exception& error) {
      // Nobody above can be told, and an answer that nobody vouches for is worse than none.
      std::fprintf(stderr, "vattention: layer %d: %s\n", hook.layer, error.what());
      std::abort();
    }
    team.end();
  } else {
    team.help(ith);
  }
  team.leave(nth);
}

}  // namespace

std::shared_ptr<vattn_llama> vattn_llama_create(const vattn_llama_cache& cache,
                                                void (*say)(const char* line)) {
  try {
    const options asked = read_options();
    if (asked.policy == "dense" || asked.policy == "off") return nullptr;
    make_engine(asked, {});  // for its message
    if (!cache.has_values)
      throw option_error("the model keeps no values of their own (MLA), which is not supported");
    if (cache.window) {
      if (cache.cached > 0) say("vattention: layers with a sliding window stay dense");
      return nullptr;
    }
    if (cache.cached == 0) throw option_error("no layer is without a sliding window");
    if (cache.shared) throw option_error("the cache is another context's, which is not supported");
    std::ostringstream line;
    line << "vattention: " << asked.policy << " attention for decode steps of up to "
         << asked.tokens << " tokens, epsilon " << asked.epsilon << ", delta " << asked.delta;
    if (asked.audit > 0) line << ", one call in " << asked.audit << " audited";
    say(line.str().c_str());
    return std::make_shared<vattn_llama>(cache, asked, say);
  } catch (const option_error& error) {
    const std::string line = std::string("vattention: ") + error.what();
    if (refuses()) throw std::runtime_error(line + "; refused");
    say((line + "; all attention is dense").c_str());
    return nullptr;
  }
}

void vattn_llama_written(vattn_llama* state, std::uint32_t stream, const std::uint32_t* cells,
                         std::size_t count) {
  if (state != nullptr && stream < state->times.size()) state->times[stream].write({cells, count});
}

void vattn_llama_rewritten(vattn_llama* state, std::uint32_t stream) {
  if (state != nullptr && stream < state->times.size()) state->times[stream].rewrite();
}

void vattn_llama_tokens(vattn_llama* state, const std::int32_t* const* sequences,
                        std::size_t tokens) {
  if (state == nullptr) return;
  state->tell_absent();
  ++state->step;
  state->token_sequences.resize(tokens);
  for (std::size_t i = 0; i < tokens; ++i) state->token_sequences[i] = sequences[i][0];
}

ggml_tensor* vattn_llama_attend(vattn_llama* state, ggml_context* ctx, ggml_tensor* q,
                                ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask, bool more,
                                float scale, float soft_cap, float alibi, int layer) {
  if (state == nullptr || mask == nullptr) return nullptr;
  if (!state->supports(*q, *k, *v, *mask, more, alibi, layer)) return nullptr;
  if (mask->ne[1] > state->asked.tokens) return nullptr;
  engine_extents& extents = state->extents;
  if (state->doer == nullptr) {
    extents.kv_heads = std::max(extents.kv_heads, static_cast<int>(k->ne[1]));
    extents.group = std::max(extents.group, static_cast<int>(q->ne[1] / k->ne[1]));
  }
  layer_hook& hook = state->hook_of(layer);
  hook = {state, layer, scale, soft_cap};
  ggml_tensor* args[] = {q, k, v, mask};
  return ggml_custom_4d(ctx, GGML_TYPE_F32, v->ne[0] * q->ne[1], q->ne[2], 1, 1, args, 4,
                        run_operator, GGML_N_TASKS_MAX, &hook);
}

namespace vattn_llama_cpp {

std::vector<vattn_llama*> live_states() {
  const std::lock_guard lock(registry_lock);
  return registry();
}

state_report report_of(const vattn_llama& state) {
  state_report all;
  all.asked = state.asked;
  for (const head_count& head : state.counts)
    if (head.calls > 0) all.heads.push_back(head);
  all.operators = state.operators;
  all.seconds = state.seconds;
  if (state.doer != nullptr) {
    if (state.asked.audit > 0) all.audit = state.doer->audit();
    all.rows_indexed = state.doer->rows_indexed();
    all.stale = state.doer->stale();
  }
  return all;
}

void set_density(vattn_llama& state, double density) noexcept { state.asked.density = density; }

void forget_counts(vattn_llama& state) {
  for (head_count& head : state.counts) head = {.layer = head.layer, .kv_head = head.kv_head};
  state.operators = 0;
  state.seconds = 0.0;
  if (state.doer != nullptr) state.doer->forget_audit();
}

}  // namespace vattn_llama_cpp
