// SPDX-License-Identifier: Apache-2.0
/// @file
/// Trained networks of `top_k::hash_attention` from a safetensors file, see examples/hash_attention/README.md: tensors
/// `layers.L.heads.H.{q|k}.I.{weight|bias}`, and `layers.L.kv_heads.K.k.I.{weight|bias}` for networks of keys that
/// query heads share.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "safetensors.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/hash_weights.hpp"

namespace vattn_examples {

/// The networks of some or all query heads of a model.
class hash_weights_file {
public:
  /// @throws std::runtime_error `<path>: <what is wrong>`, one line: no safetensors file, metadata that are missing or
  /// out of range, or a tensor of another name.
  explicit hash_weights_file(const std::filesystem::path& path)
      : file_(path),
        activation_(activation_of_file()),
        bits_(number("bits", 32, 256)),
        dim_(number("head_dim", 1, static_cast<int>(vattn::rows_view::max_dim))),
        heads_(number("heads", 1, 1 << 20)),
        kv_heads_(number("kv_heads", 1, heads_)) {
    file_.require(bits_ % 32 == 0,
                  "metadata bits: want 32, 64, ... 256, got " + std::to_string(bits_));
    file_.require(heads_ % kv_heads_ == 0, "metadata kv_heads: " + std::to_string(kv_heads_) +
                                               " do not divide " + std::to_string(heads_) +
                                               " query heads");
    for (const tensor& t : file_.tensors()) {
      const std::string name = "tensor '" + one_line(t.name) + "': ";
      const auto at = place_of(t.name);
      file_.require(at.has_value(), name +
                                        "want layers.L.heads.H.{q|k}.I.{weight|bias} or "
                                        "layers.L.kv_heads.K.k.I.{weight|bias}");
      const int most = at->part == shared_keys ? kv_heads_ : heads_;
      file_.require(at->head < most, name + "a layer has heads 0 to " + std::to_string(most - 1));
      int& count = counts_[at->layer][{at->part, at->head}];
      count = std::max(count, at->number + 1);
    }
    file_.require(!counts_.empty(), "holds no network (tensors layers.L.heads.H.q.I.weight)");
  }

  const safetensors_file& file() const noexcept { return file_; }
  int bits() const noexcept { return bits_; }
  vattn::index_t head_dim() const noexcept { return dim_; }
  /// Query heads and KV heads of a layer, and query heads that share a KV head.
  int heads() const noexcept { return heads_; }
  int kv_heads() const noexcept { return kv_heads_; }
  int group() const noexcept { return heads_ / kv_heads_; }
  /// True if there is a network of queries of any query head of that KV head.
  bool has(std::uint32_t layer, std::uint32_t kv_head) const {
    if (kv_head >= static_cast<std::uint32_t>(kv_heads_)) return false;
    for (int h = 0; h < group(); ++h)
      if (count_of(layer, queries, static_cast<int>(kv_head) * group() + h) > 0) return true;
    return false;
  }

  /// Those of the query heads that share a KV head, `group()` pairs.
  /// @throws std::runtime_error `<path>: <what is wrong>`, one line, that names the layer, query head or tensor:
  /// it is not there, has another shape, or holds a number that is not finite.
  vattn::top_k::hash_weights weights(std::uint32_t layer, std::uint32_t kv_head) const {
    file_.require(
        kv_head < static_cast<std::uint32_t>(kv_heads_),
        "no KV head " + std::to_string(kv_head) + ": a layer has " + std::to_string(kv_heads_));
    std::string known;
    for (const auto& [number, networks] : counts_)
      known += (known.empty() ? "" : ", ") + std::to_string(number);
    file_.require(counts_.contains(layer), "no network of layer " + std::to_string(layer) +
                                               ": there are those of layers " + one_line(known));
    const auto kv = static_cast<int>(kv_head);
    std::optional<vattn::top_k::hash_mlp> shared;
    if (count_of(layer, shared_keys, kv) > 0) shared = network(layer, shared_keys, kv);
    std::vector<vattn::top_k::hash_weights::pair> all;
    all.reserve(static_cast<std::size_t>(group()));
    for (int head = kv * group(); head < (kv + 1) * group(); ++head) {
      file_.require(!shared || count_of(layer, own_keys, head) == 0,
                    "networks of keys both of layer " + std::to_string(layer) + ", KV head " +
                        std::to_string(kv) + " and of its query head " + std::to_string(head));
      all.push_back(
          {network(layer, queries, head), shared ? *shared : network(layer, own_keys, head)});
    }
    return vattn::top_k::hash_weights(std::move(all));
  }

private:
  /// Whose a network is: a query head's, of queries or keys, or a KV head's, of keys.
  enum part_of : std::uint8_t { queries, own_keys, shared_keys };

  struct place {
    std::uint32_t layer = 0;
    int head = 0, number = 0;
    part_of part = queries;
  };

  /// Of the name of a tensor; nothing if it is another name.
  static std::optional<place> place_of(std::string_view name) {
    place at;
    const auto word = [&](std::string_view wanted) {
      if (!name.starts_with(wanted)) return false;
      name.remove_prefix(wanted.size());
      return true;
    };
    const auto take = [&](auto& number) {
      const auto [stop, error] = std::from_chars(name.data(), name.data() + name.size(), number);
      if (error != std::errc{} || number > 1 << 20) return false;
      name.remove_prefix(static_cast<std::size_t>(stop - name.data()));
      return true;
    };
    if (!word("layers.") || !take(at.layer)) return {};
    const bool of_kv_head = word(".kv_heads.");
    if (!(of_kv_head || word(".heads.")) || !take(at.head)) return {};
    const bool of_keys = word(".k.");
    if (!(of_keys || (!of_kv_head && word(".q."))) || !take(at.number)) return {};
    at.part = of_kv_head ? shared_keys : of_keys ? own_keys : queries;
    if (name != ".weight" && name != ".bias") return {};
    if (at.head < 0 || at.number < 0) return {};
    return at;
  }

  const std::string& text(const char* name) const {
    const auto at = file_.metadata().find(name);
    file_.require(at != file_.metadata().end(), "metadata " + std::string(name) + " is missing");
    return at->second;
  }
  int number(const char* name, int least, int most) const {
    const std::string& digits = text(name);
    int value = 0;
    const char* const end = digits.data() + digits.size();
    const auto [stop, error] = std::from_chars(digits.data(), end, value);
    file_.require(error == std::errc{} && stop == end && value >= least && value <= most,
                  "metadata " + std::string(name) + ": want " + std::to_string(least) + " to " +
                      std::to_string(most) + ", got '" + one_line(digits) + "'");
    return value;
  }
  vattn::top_k::activation activation_of_file() const {
    using vattn::top_k::activation;
    constexpr std::pair<std::string_view, activation> known[] = {{"none", activation::none},
                                                                 {"relu", activation::relu},
                                                                 {"silu", activation::silu},
                                                                 {"gelu", activation::gelu},
                                                                 {"tanh", activation::tanh}};
    const std::string& wanted = text("activation");
    const auto* const at = std::find_if(std::begin(known), std::end(known),
                                        [&](const auto& one) { return one.first == wanted; });
    file_.require(
        at != std::end(known),
        "metadata activation: want none, relu, silu, gelu or tanh, got '" + one_line(wanted) + "'");
    return at->second;
  }

  /// Layers of a network; 0 if there is none.
  int count_of(std::uint32_t layer, part_of part, int head) const {
    const auto at = counts_.find(layer);
    if (at == counts_.end()) return 0;
    const auto count = at->second.find({part, head});
    return count == at->second.end() ? 0 : count->second;
  }

  vattn::top_k::hash_mlp network(std::uint32_t layer, part_of part, int head) const {
    const std::string name = "layers." + std::to_string(layer) +
                             (part == shared_keys ? ".kv_heads." : ".heads.") +
                             std::to_string(head) + (part == queries ? ".q" : ".k");
    const int count = count_of(layer, part, head);
    file_.require(count > 0, "no network of " + std::string(part == queries ? "queries" : "keys") +
                                 " of layer " + std::to_string(layer) + ", query head " +
                                 std::to_string(head));
    std::vector<vattn::top_k::hash_layer> layers;
    layers.reserve(static_cast<std::size_t>(count));
    for (int i = 0; i < count; ++i) {
      const vattn::index_t in = i == 0 ? dim_ : layers.back().out;
      const std::string of_layer = name + "." + std::to_string(i);
      const tensor* weight = file_.find(of_layer + ".weight");
      file_.require(weight != nullptr, "tensor '" + of_layer + ".weight' is missing");
      file_.require(weight->shape.size() == 2 && weight->shape[1] == in,
                    of_layer + ".weight: want [outputs, " + std::to_string(in) + "], got " +
                        shape_of(*weight));
      file_.require(i + 1 < count || weight->shape[0] == bits_,
                    of_layer + ".weight: want [" + std::to_string(bits_) + ", " +
                        std::to_string(in) + "], for it is the last, got " + shape_of(*weight));
      const tensor* bias = file_.find(of_layer + ".bias");
      file_.require(bias == nullptr || bias->shape == std::vector{weight->shape[0]},
                    of_layer + ".bias: want [" + std::to_string(weight->shape[0]) + "], got " +
                        (bias == nullptr ? "" : shape_of(*bias)));
      layers.push_back({in, weight->shape[0], numbers(*weight),
                        bias == nullptr ? std::vector<float>() : numbers(*bias)});
    }
    try {
      return {std::move(layers), activation_};
    } catch (const std::invalid_argument& error) {
      file_.require(false, name + ": " + error.what());
      throw;
    }
  }

  static std::string shape_of(const tensor& t) {
    std::string all;
    for (const std::int64_t extent : t.shape)
      all += (all.empty() ? "" : ", ") + std::to_string(extent);
    return "[" + all + "]";
  }
  static std::vector<float> numbers(const tensor& t) {
    std::size_t count = 1;
    for (const std::int64_t extent : t.shape) count *= static_cast<std::size_t>(extent);
    std::vector<float> all(count);
    vattn::kernels::load_row(t.type, t.data, static_cast<vattn::index_t>(count), all.data());
    return all;
  }

  safetensors_file file_;
  vattn::top_k::activation activation_;
  int bits_;
  vattn::index_t dim_;
  int heads_, kv_heads_;
  /// Layers of each network, by layer of the model, whose it is and of which head.
  std::map<std::uint32_t, std::map<std::pair<part_of, int>, int>> counts_;
};

}  // namespace vattn_examples
