// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the engine's flash attention operators are handed while it reads a text: queries, scale, where keys and values
/// are in the cache; and what they answer.
#pragma once

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "ggml.h"
#include "ggml_view.hpp"

namespace vattn_llama_cpp {

/// Keys or values of a layer's KV heads in the engine's cache: a row a cell. Valid as long as the cache.
struct cached_rows {
  const std::byte* data = nullptr;
  vattn::element type = vattn::element::f32;
  index_t heads = 0, cells = 0, dim = 0;
  /// From one cell, and one head, to the next [bytes].
  index_t cell_stride = 0, head_stride = 0;
  /// The type that the operator was handed them in: what it rounds to.
  vattn::element used = vattn::element::f32;

  vattn::rows_view of(index_t head, index_t rows) const {
    return {data + head * head_stride, type, rows, dim, cell_stride};
  }
};

/// A layer's attention at the last positions of a text.
struct captured_layer {
  float scale = 0.0F;
  index_t query_heads = 0;
  cached_rows keys, values;
  /// `[query heads x positions x d]` after rotary embedding, and the operator's `[query heads x positions x d_v]`.
  std::vector<float> queries, outputs;
  /// Positions of the text that it has read.
  index_t read = 0;

  index_t group() const noexcept { return query_heads / keys.heads; }
};

/// Number at the end of the name that the model's graph gives its tensors, `Qcur-12`, before what operators append,
/// `Qcur-12 (view) (permuted)`.
inline std::optional<int> layer_of_name(std::string_view name) noexcept {
  name = name.substr(0, name.find(" ("));
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return std::nullopt;
  int layer = 0;
  const char* const end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + dash + 1, end, layer);
  return error == std::errc{} && stop == end && layer >= 0 ? std::optional(layer) : std::nullopt;
}

/// The callback of a context for one sequence in an empty cache. The text is read by computations that `begin` and
/// `end` enclose; each is one graph.
///
/// Row i of keys and values is cell i, and cell i is position i: at each position p of each captured layer the mask is
/// 0 for cells 0 ... p and -inf for all others; a mask tells the cells whose position is p at most, so the
/// cell that position p adds is cell p. An operator whose mask is another, or whose logits have more than a scale, is
/// refused: sliding windows that are shorter than the text, ALiBi, soft caps, sinks, attention to later positions.
class capture_watcher {
public:
  /// `tokens` of the text, queries of the last `positions`; of these layers, or of all that have the operator.
  capture_watcher(index_t tokens, index_t positions, std::set<int> layers)
      : tokens_(tokens), positions_(positions), wanted_(std::move(layers)) {}

  /// The next computation reads positions [first, first + count).
  void begin(index_t first, index_t count) noexcept {
    first_ = first;
    count_ = count;
  }
  /// @throws std::runtime_error `layer L: <what cannot be captured>`, one line.
  void end() const {
    if (!refusal_.empty()) throw std::runtime_error(refusal_);
    for (const int layer : wanted_)
      require(layers_.contains(layer), layer,
              "it has no flash attention operator that could be seen");
    for (const auto& [layer, captured] : layers_)
      require(captured.read == first_ + count_, layer, "its operator is not in every computation");
  }

  const std::map<int, captured_layer>& layers() const noexcept { return layers_; }
  index_t positions() const noexcept { return positions_; }

  /// What a context takes as `cb_eval`, with this as its data.
  static bool watch(ggml_tensor* node, bool ask, void* self) noexcept {
    auto& watcher = *static_cast<capture_watcher*>(self);
    if (node->op != GGML_OP_FLASH_ATTN_EXT || !watcher.refusal_.empty()) return !ask;
    try {
      const int layer = layer_of(*node);
      if (!watcher.wanted_.empty() && !watcher.wanted_.contains(layer)) return !ask;
      if (!ask) watcher.take(*node, layer);
    } catch (const std::exception& error) {
      watcher.refusal_ = error.what();  // end() throws it; the engine is no place for that
    }
    return true;
  }

private:
  static void require(bool holds, int layer, const char* why) {
    if (!holds) throw std::runtime_error("layer " + std::to_string(layer) + ": " + why);
  }

  /// By the names of what the queries come from: the operator itself has none.
  static int layer_of(const ggml_tensor& node) {
    for (const ggml_tensor* t = node.src[0]; t != nullptr; t = t->src[0])
      if (const auto layer = layer_of_name(t->name)) return *layer;
    throw std::runtime_error("an attention operator does not tell its layer");
  }

  static float parameter(const ggml_tensor& node, int at) noexcept {
    float value = 0.0F;
    std::memcpy(&value, node.op_params + at, sizeof value);
    return value;
  }

  /// Of an operand `[dim, cells, heads, 1]`. A cache of f32 is handed to the operator as a copy in f16: the cache
  /// itself is taken.
  static cached_rows rows_of_cache(const ggml_tensor& operand, int layer) {
    const ggml_tensor& t = operand.op == GGML_OP_CPY ? *operand.src[0] : operand;
    const ggml_tensor* const store = t.view_src;
    require(store != nullptr && std::string_view(store->name).starts_with("cache_"), layer,
            "its keys or values are not in a cache");
    const auto type = element_of_ggml(static_cast<int>(t.type));
    const auto used = element_of_ggml(static_cast<int>(operand.type));
    require(type && used && *type != vattn::element::q8_0, layer,
            "its cache is none of f32, f16, bf16");
    require(t.nb[0] == ggml_type_size(t.type), layer, "its rows are not contiguous in the cache");
    return {static_cast<const std::byte*>(t.data),
            *type,
            t.ne[2],
            t.ne[1],
            t.ne[0],
            static_cast<index_t>(t.nb[1]),
            static_cast<index_t>(t.nb[2]),
            *used};
  }

  void require_plain(const ggml_tensor& node, int layer) const {
    const ggml_tensor& q = *node.src[0];
    const ggml_tensor& k = *node.src[1];
    const ggml_tensor& v = *node.src[2];
    require(parameter(node, 1) == 0.0F, layer, "its logits have ALiBi, which a capture cannot say");
    require(parameter(node, 2) == 0.0F, layer,
            "its logits have a soft cap, which a capture cannot say");
    require(node.src[4] == nullptr, layer, "it has sinks, which a capture cannot say");
    require(q.type == GGML_TYPE_F32 && q.nb[0] == sizeof(float), layer, "its queries are not f32");
    require(q.ne[1] == count_ && q.ne[3] == 1 && k.ne[3] == 1, layer,
            "its operator reads other tokens than the computation");
    require(k.ne[1] >= first_ + count_ && v.ne[1] == k.ne[1] && k.ne[2] > 0 && v.ne[2] == k.ne[2] &&
                q.ne[0] == k.ne[0] && q.ne[2] % k.ne[2] == 0,
            layer, "its queries, keys and values do not fit each other");
    require(
        sees_rows_before(node.src[3]), layer,
        "a position does not see all rows up to its own and no other (a sliding window?), which "
        "a capture cannot say");
  }

  /// Does each position p see cells 0 ... p and no others?
  bool sees_rows_before(const ggml_tensor* mask) const noexcept {
    constexpr std::uint16_t seen = 0, hidden = 0xFC00;  // 0 and -inf, f16
    if (mask == nullptr || mask->type != GGML_TYPE_F16 || mask->ne[1] < count_) return false;
    for (index_t t = 0; t < count_; ++t) {
      const auto* const row = reinterpret_cast<const std::uint16_t*>(
          static_cast<const std::byte*>(mask->data) + static_cast<std::size_t>(t) * mask->nb[1]);
      const auto* const next = row + std::min(first_ + t + 1, mask->ne[0]);
      if (!std::all_of(row, next, [](std::uint16_t x) { return x == seen; }) ||
          !std::all_of(next, row + mask->ne[0], [](std::uint16_t x) { return x == hidden; }))
        return false;
    }
    return true;
  }

  /// Copies rows `[tokens x heads]` of the text's last positions to `[heads x positions x dim]`.
  void copy_last(const std::byte* from, std::size_t token_stride, std::size_t head_stride,
                 index_t heads, index_t dim, std::vector<float>& to) const {
    to.resize(static_cast<std::size_t>(heads * positions_ * dim));
    for (index_t t = std::max<index_t>(0, tokens_ - positions_ - first_); t < count_; ++t)
      for (index_t h = 0; h < heads; ++h) {
        const index_t at = h * positions_ + first_ + t - (tokens_ - positions_);
        std::memcpy(to.data() + at * dim,
                    from + static_cast<std::size_t>(t) * token_stride +
                        static_cast<std::size_t>(h) * head_stride,
                    static_cast<std::size_t>(dim) * sizeof(float));
      }
  }

  void take(const ggml_tensor& node, int layer) {
    require_plain(node, layer);
    const ggml_tensor& q = *node.src[0];
    captured_layer& to = layers_[layer];
    require(to.read == first_, layer, "it has more than one attention operator");
    to.read = first_ + count_;
    to.scale = parameter(node, 0);
    to.query_heads = q.ne[2];
    to.keys = rows_of_cache(*node.src[1], layer);
    to.values = rows_of_cache(*node.src[2], layer);
    copy_last(static_cast<const std::byte*>(q.data), q.nb[1], q.nb[2], q.ne[2], q.ne[0],
              to.queries);
    copy_last(static_cast<const std::byte*>(node.data), node.nb[2], node.nb[1], node.ne[1],
              node.ne[0], to.outputs);
  }

  index_t tokens_, positions_;
  std::set<int> wanted_;
  index_t first_ = 0, count_ = 0;
  std::map<int, captured_layer> layers_;
  std::string refusal_;
};

}  // namespace vattn_llama_cpp
