// SPDX-License-Identifier: Apache-2.0
// The library's part: one engine for each policy, compiled apart from what knows ggml.
#include <array>
#include <atomic>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "engine.hpp"
#include "selected_rows.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/batch/decode.hpp"
#include "vattention/batch/dense.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/index_changes.hpp"
#include "vattention/top_k/index_file.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/oracle.hpp"

namespace vattn_llama_cpp {

namespace {

/// What all engines are handed.
struct engine_setting {
  engine_extents extents;
  int audit = 0;
  bool verify = false, split = false;
};

template <class Functor>
class engine_of final : public engine {
public:
  engine_of(Functor functor, const engine_setting& setting)
      : extents_(setting.extents),
        functor_(std::move(functor)),
        audit_every_(setting.audit),
        verify_(setting.verify),
        calls_(setting.split ? extents_.group : 1),
        heads_(static_cast<std::size_t>(extents_.sequences * extents_.layers)) {
    forget_audit();
  }

  void forget(int sequence, index_t first) noexcept override {
    for (int layer = 0; layer < extents_.layers; ++layer)
      for (head_index& head : heads_[place(sequence, layer)])
        head.intact = std::min(head.intact, first);
  }

  void attend(int layer, std::span<const head_work> heads, std::span<const head_call> calls,
              std::span<vattn::certificate> certificates, ggml_team& team) override {
    for (const head_work& work : heads) make_heads(work, layer);
    std::atomic<bool> failed{false};
    team.run(std::ssize(heads), [&](int /*worker*/, index_t item) noexcept {
      const head_work& work = heads[static_cast<std::size_t>(item)];
      try {
        follow(index_of(work, layer), work.rows);
      } catch (...) {
        failed.store(true, std::memory_order_relaxed);
      }
    });
    if (failed.load()) throw std::runtime_error("an index could not follow its cache");
    if (verify_)
      for (const head_work& work : heads)
        stale_ += bytes_of(index_of(work, layer).index) == bytes_of(functor_.make_index(work.rows))
                      ? 0
                      : 1;

    requests_.clear();
    requests_.reserve(calls.size());
    std::size_t done = 0;
    for (const head_call& call : calls) {
      const head_work& work = heads[call.work];
      requests_.push_back({.queries = call.queries,
                           .kv = work.rows,
                           .index = &index_of(work, layer).index,
                           .key = call.key,
                           .output = call.output,
                           .certificates = certificates.data() + done});
      done += static_cast<std::size_t>(call.queries.heads);
    }
    vattn::decode(*audited_, requests_, team, scratch_);
  }

  vattn::audit_report audit() const override { return audited_->report(); }
  void forget_audit() override {
    audited_.emplace(functor_, vattn::audit_plan{.every = audit_every_,
                                                 .layers = extents_.layers,
                                                 .kv_heads = extents_.kv_heads * calls_,
                                                 .group = extents_.group / calls_});
  }
  index_t rows_indexed() const noexcept override {
    index_t rows = 0;
    for (const auto& heads : heads_)
      for (const head_index& head : heads) rows += head.index.rows();
    return rows;
  }

  index_t stale() const noexcept override { return stale_; }

private:
  using audited_type = vattn::audited<Functor>;
  using index_type = typename Functor::index_type;
  /// The rows before `intact` are as the index took them in.
  struct head_index {
    index_type index;
    index_t intact = 0;
  };

  std::size_t place(int sequence, int layer) const noexcept {
    return static_cast<std::size_t>(index_t{sequence} * extents_.layers + layer);
  }
  head_index& index_of(const head_work& work, int layer) noexcept {
    return heads_[place(work.sequence, layer)][static_cast<std::size_t>(work.head)];
  }
  void make_heads(const head_work& work, int layer) {
    std::vector<head_index>& heads = heads_[place(work.sequence, layer)];
    if (!heads.empty()) return;
    heads.reserve(static_cast<std::size_t>(extents_.kv_heads));
    for (int head = 0; head < extents_.kv_heads; ++head)
      heads.push_back({functor_.make_index(work.rows.first(0)), 0});
  }
  static void follow(head_index& head, const head_cells& rows) {
    const index_t first = std::min({head.intact, head.index.rows(), rows.rows()});
    head.intact = 0;  // until all is well
    vattn::refresh(head.index, rows, first);
    head.intact = rows.rows();
  }

  static std::string bytes_of(const index_type& index) {
    std::ostringstream out;
    vattn::save_index(index, out);
    return out.str();
  }

  engine_extents extents_;
  Functor functor_;
  int audit_every_;
  bool verify_;
  /// Of a KV head and token, at most.
  int calls_;
  index_t stale_ = 0;
  std::optional<audited_type> audited_;
  std::vector<std::vector<head_index>> heads_;
  std::vector<vattn::request<head_cells, index_type>> requests_;
  vattn::decode_workspace<typename audited_type::workspace_type> scratch_;
};

/// Every row, by the library's dense kernel.
class dense_engine final : public engine {
public:
  void forget(int /*sequence*/, index_t /*first*/) noexcept override {}
  void attend(int /*layer*/, std::span<const head_work> heads, std::span<const head_call> calls,
              std::span<vattn::certificate> certificates, ggml_team& team) override {
    requests_.clear();
    requests_.reserve(calls.size());
    std::size_t done = 0;
    for (const head_call& call : calls) {
      requests_.push_back({.queries = call.queries,
                           .kv = heads[call.work].rows,
                           .output = call.output,
                           .certificates = certificates.data() + done});
      done += static_cast<std::size_t>(call.queries.heads);
    }
    vattn::dense(requests_, team, scratch_);
  }
  vattn::audit_report audit() const override { return {}; }
  void forget_audit() override {}
  index_t rows_indexed() const noexcept override { return 0; }
  index_t stale() const noexcept override { return 0; }

private:
  std::vector<vattn::request<head_cells, vattn::top_k::no_index>> requests_;
  vattn::decode_workspace<> scratch_;
};

template <class Functor>
std::unique_ptr<engine> engine_from(Functor functor, const engine_setting& setting) {
  return std::make_unique<engine_of<Functor>>(std::move(functor), setting);
}

using maker = std::unique_ptr<engine> (*)(const options&, const engine_setting&);
struct named_policy {
  const char* name;
  maker make;
};

template <const auto& Preset>
std::unique_ptr<engine> make_preset(const options& o, const engine_setting& setting) {
  return engine_from(Preset(vattn::epsilon{o.epsilon}, vattn::delta{o.delta}), setting);
}

namespace presets = vattn::presets;
namespace top_k = vattn::top_k;

constexpr std::array<named_policy, 11> policies{{
    {"default", make_preset<presets::standard>},
    {"proportional", make_preset<presets::proportional>},
    {"fast", make_preset<presets::fast>},
    {"never_slower",
     [](const options& o, const engine_setting& setting) {
       return engine_from(presets::standard(vattn::epsilon{o.epsilon}, vattn::delta{o.delta})
                              .with_cost(vattn::cost::model()),
                          setting);
     }},
    {"strict",
     [](const options& o, const engine_setting& setting) {
       return engine_from(presets::strict_output(vattn::epsilon{o.epsilon}, vattn::delta{o.delta}),
                          setting);
     }},
    {"uniform",
     [](const options& o, const engine_setting& setting) {
       return engine_from(presets::uniform_output(vattn::epsilon{o.epsilon}, vattn::delta{o.delta}),
                          setting);
     }},
    {"paper",
     [](const options& o, const engine_setting& setting) {
       return engine_from(presets::paper(vattn::epsilon{o.epsilon}, vattn::delta{o.delta},
                                         top_k::key_code(4, vattn::fraction(0.02))),
                          setting);
     }},
    {"exact",
     [](const options& /*o*/, const engine_setting& /*setting*/) -> std::unique_ptr<engine> {
       return std::make_unique<dense_engine>();
     }},
    {"topk",
     [](const options& o, const engine_setting& setting) {
       return engine_from(selected_rows(top_k::key_code(4, vattn::rows(0)), &o.density), setting);
     }},
    {"oracle",
     [](const options& o, const engine_setting& setting) {
       return engine_from(selected_rows(top_k::oracle(vattn::rows(0)), &o.density), setting);
     }},
    {"window",
     [](const options& o, const engine_setting& setting) {
       return engine_from(selected_rows(top_k::none(), &o.density), setting);
     }},
}};

const named_policy* find_policy(const std::string& name) noexcept {
  for (const named_policy& policy : policies)
    if (name == policy.name) return &policy;
  return nullptr;
}

}  // namespace

bool known_policy(const std::string& name) noexcept { return find_policy(name) != nullptr; }

std::unique_ptr<engine> make_engine(const options& options, const engine_extents& extents) {
  const named_policy* const policy = find_policy(options.policy);
  if (policy == nullptr) {
    std::string names = "dense";
    for (const named_policy& known : policies) names += std::string(", ") + known.name;
    throw option_error("VATTN_POLICY: want one of " + names + ", got " + options.policy);
  }
  return policy->make(options, {extents, options.audit, options.verify, options.split});
}

}  // namespace vattn_llama_cpp
