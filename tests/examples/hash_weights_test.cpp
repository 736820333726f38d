// SPDX-License-Identifier: Apache-2.0
#include "../../examples/support/hash_weights.hpp"

#include <bit>
#include <nlohmann/json.hpp>

#include "support/catch.hpp"
#include "support/scratch_file.hpp"

using namespace vattn_examples;
using nlohmann::json;

namespace {

/// A weights file in the making: float tensors by name, and metadata.
struct made_file {
  struct made_tensor {
    std::vector<std::int64_t> shape;
    std::vector<float> values;
  };
  std::map<std::string, made_tensor> tensors;
  json metadata{
      {"activation", "silu"}, {"bits", "32"}, {"head_dim", "4"}, {"heads", "4"}, {"kv_heads", "2"}};

  /// Two layers of 4, 3 and 32 for the four query heads of layers 5 and 7, value i of a tensor i / 64 + its place.
  made_file() {
    for (const char* layer : {"5", "7"})
      for (int head = 0; head < 4; ++head)
        for (const char* part : {"q", "k"}) {
          const std::string name =
              "layers." + std::string(layer) + ".heads." + std::to_string(head) + "." + part + ".";
          add(name + "0.weight", {3, 4});
          add(name + "0.bias", {3});
          add(name + "1.weight", {32, 3});
        }
  }
  void add(const std::string& name, std::vector<std::int64_t> shape) {
    std::size_t count = 1;
    for (const std::int64_t extent : shape) count *= static_cast<std::size_t>(extent);
    std::vector<float> values(count);
    const auto place = static_cast<float>(tensors.size());
    for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) / 64.0F + place;
    tensors[name] = {std::move(shape), std::move(values)};
  }
  /// The file, in float or bfloat16.
  std::string bytes(bool half = false) const {
    json header{{"__metadata__", metadata}};
    std::string data;
    for (const auto& [name, t] : tensors) {
      const std::size_t first = data.size();
      for (const float x : t.values) {
        const auto bits = std::bit_cast<std::uint32_t>(x);
        for (int byte = half ? 2 : 0; byte < 4; ++byte)
          data += static_cast<char>(bits >> (8 * byte) & 0xFFU);
      }
      header[name] = {{"dtype", half ? "BF16" : "F32"},
                      {"shape", t.shape},
                      {"data_offsets", {first, data.size()}}};
    }
    const std::string text = header.dump();
    std::string all;
    for (int byte = 0; byte < 8; ++byte)
      all += static_cast<char>(static_cast<std::uint64_t>(text.size()) >> (8 * byte) & 0xFFU);
    return all + text + data;
  }
};

/// With what line, less the path, a changed file is refused, by its reader or when the weights of layer 7, KV head 1
/// are asked for; empty if it is not.
template <class Change>
std::string refusal(Change change, std::uint32_t layer = 7, std::uint32_t kv_head = 1) {
  made_file made;
  change(made);
  const vattn::test::scratch_file file("hash_weights", made.bytes());
  try {
    hash_weights_file(file.path()).weights(layer, kv_head);
    return "";
  } catch (const std::runtime_error& error) {
    const std::string message = error.what(), path = file.path().string() + ": ";
    CHECK(message.starts_with(path));
    CHECK(message.find('\n') == std::string::npos);
    return message.substr(std::min(path.size(), message.size()));
  }
}

}  // namespace

TEST_CASE("a file of weights gives the networks of a KV head's query heads", "[safetensors]") {
  const made_file made;
  const vattn::test::scratch_file file("hash_weights", made.bytes());
  const hash_weights_file read(file.path());
  CHECK(read.bits() == 32);
  CHECK(read.head_dim() == 4);
  CHECK(read.heads() == 4);
  CHECK(read.kv_heads() == 2);
  CHECK(read.group() == 2);
  CHECK(read.has(5, 0));
  CHECK(read.has(7, 1));
  CHECK_FALSE(read.has(6, 0));
  CHECK_FALSE(read.has(7, 2));
  const vattn::top_k::hash_weights weights = read.weights(7, 1);
  REQUIRE(weights.heads() == 2);
  CHECK(weights.bits() == 32);
  CHECK(weights.dim() == 4);
  // Query heads 2 and 3 of layer 7, from the very numbers.
  for (int h = 0; h < 2; ++h)
    for (const std::string part : {"q", "k"}) {
      const std::string name = "layers.7.heads." + std::to_string(2 + h) + "." + part + ".";
      const auto& first = made.tensors.at(name + "0.weight").values;
      const auto& bias = made.tensors.at(name + "0.bias").values;
      const auto& second = made.tensors.at(name + "1.weight").values;
      const vattn::top_k::hash_mlp want({{4, 3, first, bias}, {3, 32, second, {}}},
                                        vattn::top_k::activation::silu);
      const auto& got = part == "q" ? weights.queries(h) : weights.keys(h);
      CHECK(got.checksum() == want.checksum());
      CHECK(got.layers() == 2);
    }
}

TEST_CASE("query heads may share the network of keys of their KV head", "[safetensors]") {
  const auto share = [](made_file& made) {
    for (const char* head : {"2", "3"})
      std::erase_if(made.tensors, [&](const auto& t) {
        return t.first.starts_with("layers.7.heads." + std::string(head) + ".k.");
      });
    made.add("layers.7.kv_heads.1.k.0.weight", {32, 4});
    made.add("layers.7.kv_heads.1.k.0.bias", {32});
  };
  made_file made;
  share(made);
  const vattn::test::scratch_file file("hash_weights", made.bytes());
  const hash_weights_file read(file.path());
  CHECK(read.has(7, 1));
  const auto weights = read.weights(7, 1);
  CHECK(weights.heads() == 2);
  CHECK(weights.key_hashes() == 1);
  CHECK(weights.queries(0).checksum() != weights.queries(1).checksum());
  const auto& matrix = made.tensors.at("layers.7.kv_heads.1.k.0.weight").values;
  const auto& bias = made.tensors.at("layers.7.kv_heads.1.k.0.bias").values;
  CHECK(weights.keys(0).checksum() ==
        vattn::top_k::hash_mlp({{4, 32, matrix, bias}}, vattn::top_k::activation::silu).checksum());
  CHECK(read.weights(5, 1).key_hashes() == 2);  // as it was

  CHECK(refusal([&](made_file& both) {
          share(both);
          both.add("layers.7.heads.3.k.0.weight", {32, 4});
        }) == "networks of keys both of layer 7, KV head 1 and of its query head 3");
  CHECK(refusal([](made_file& beyond) { beyond.add("layers.7.kv_heads.2.k.0.weight", {32, 4}); }) ==
        "tensor 'layers.7.kv_heads.2.k.0.weight': a layer has heads 0 to 1");
  CHECK(refusal([&](made_file& narrow) {
          share(narrow);
          narrow.add("layers.7.kv_heads.1.k.0.weight", {32, 5});
        }) == "layers.7.kv_heads.1.k.0.weight: want [outputs, 4], got [32, 5]");
  // A network of keys alone is of no use.
  CHECK(refusal([&](made_file& keys) {
          share(keys);
          std::erase_if(keys.tensors,
                        [](const auto& t) { return t.first.starts_with("layers.7.heads."); });
        }) == "no network of queries of layer 7, query head 2");
}

TEST_CASE("a file of weights may be in half precision", "[safetensors]") {
  made_file made;
  made.tensors.clear();
  for (const char* part : {"q", "k"})
    made.add("layers.0.heads.0." + std::string(part) + ".0.weight", {32, 4});
  made.metadata["heads"] = made.metadata["kv_heads"] = "1";
  const std::uint64_t want = [&] {
    const vattn::test::scratch_file file("hash_weights", made.bytes());
    return hash_weights_file(file.path()).weights(0, 0).checksum();
  }();
  // The numbers, at most 191 / 64, are bfloat16 numbers too.
  const vattn::test::scratch_file file("hash_weights", made.bytes(true));
  CHECK(hash_weights_file(file.path()).weights(0, 0).checksum() == want);
}

TEST_CASE("a file of weights that lacks something is refused, and it is named", "[safetensors]") {
  const auto none = [](made_file&) {};
  REQUIRE(refusal(none).empty());
  CHECK(refusal(none, 6, 0) == "no network of layer 6: there are those of layers 5, 7");
  CHECK(refusal(none, 7, 2) == "no KV head 2: a layer has 2");
  const auto without = [](const std::string& part) {
    return [=](made_file& made) {
      std::erase_if(made.tensors, [&](const auto& t) { return t.first.starts_with(part); });
    };
  };
  CHECK(refusal(without("layers.7.heads.3.")) == "no network of queries of layer 7, query head 3");
  CHECK(refusal(without("layers.7.heads.1.")).empty());  // of the other KV head
  CHECK(refusal(without("layers.7.heads.2.k.")) == "no network of keys of layer 7, query head 2");
  CHECK(refusal(without("layers.7.heads.2.k.0.weight")) ==
        "tensor 'layers.7.heads.2.k.0.weight' is missing");
  CHECK(refusal(without("layers.7.heads.2.k.0.bias")).empty());
  CHECK(refusal(without("layers.")) == "holds no network (tensors layers.L.heads.H.q.I.weight)");
  for (const char* name : {"activation", "bits", "head_dim", "heads", "kv_heads"})
    CHECK(refusal([&](made_file& made) { made.metadata.erase(name); }) ==
          "metadata " + std::string(name) + " is missing");
}

TEST_CASE("a file of weights that does not fit together is refused, and the tensor is named",
          "[safetensors]") {
  const auto with = [](const char* name, const char* value) {
    return refusal([&](made_file& made) { made.metadata[name] = value; });
  };
  for (const char* bits : {"288", "512", "16", "-32", "", "32.0", "many"})
    CHECK(with("bits", bits) == "metadata bits: want 32 to 256, got '" + std::string(bits) + "'");
  CHECK(with("bits", "48") == "metadata bits: want 32, 64, ... 256, got 48");
  CHECK(with("bits", "64") ==
        "layers.7.heads.2.q.1.weight: want [64, 3], for it is the last, got [32, 3]");
  CHECK(with("head_dim", "5") == "layers.7.heads.2.q.0.weight: want [outputs, 5], got [3, 4]");
  CHECK(with("kv_heads", "3") == "metadata kv_heads: 3 do not divide 4 query heads");
  CHECK(with("kv_heads", "5") == "metadata kv_heads: want 1 to 4, got '5'");
  CHECK(with("heads", "3") == "metadata kv_heads: 2 do not divide 3 query heads");
  CHECK(with("heads", "2") == "tensor 'layers.5.heads.2.k.0.bias': a layer has heads 0 to 1");
  CHECK(with("activation", "swish\n") ==
        "metadata activation: want none, relu, silu, gelu or tanh, got 'swish?'");

  const std::string of = "layers.7.heads.3.k.";
  const auto reshaped = [&](const std::string& name, std::vector<std::int64_t> shape) {
    return refusal([&](made_file& made) { made.add(of + name, std::move(shape)); });
  };
  CHECK(reshaped("0.weight", {12}) == of + "0.weight: want [outputs, 4], got [12]");
  CHECK(reshaped("0.weight", {4, 3}) == of + "0.weight: want [outputs, 4], got [4, 3]");
  CHECK(reshaped("0.weight", {2, 4}) == of + "0.bias: want [2], got [3]");
  CHECK(reshaped("0.bias", {3, 1}) == of + "0.bias: want [3], got [3, 1]");
  CHECK(reshaped("1.weight", {32, 4}) == of + "1.weight: want [outputs, 3], got [32, 4]");
  CHECK(reshaped("1.weight", {64, 3}) ==
        of + "1.weight: want [32, 3], for it is the last, got [64, 3]");
  CHECK(reshaped("3.weight", {32, 32}) == "tensor '" + of + "2.weight' is missing");
  const auto odd = [&](const std::string& name, std::size_t at, float value) {
    return refusal([&](made_file& made) { made.tensors.at(of + name).values[at] = value; });
  };
  CHECK(odd("1.weight", 7, std::numeric_limits<float>::quiet_NaN()) ==
        "layers.7.heads.3.k: vattention: hash_mlp: layer 1: weight: want finite numbers (row, "
        "column, number), got 2, 1, nan");
  CHECK(odd("0.bias", 2, std::numeric_limits<float>::infinity()) ==
        "layers.7.heads.3.k: vattention: hash_mlp: layer 0: bias: want finite numbers (row, "
        "column, number), got 2, 0, inf");
}

TEST_CASE("a file of weights has no tensors of other names", "[safetensors]") {
  for (const char* name :
       {"layers.0.heads.0.q.0.wieght", "layers.0.heads.0.v.0.weight", "layers.0.heads.0.q.weight",
        "layers.0.heads.-1.q.0.weight", "layers.0.heads.0.q.-1.weight",
        "layer.0.heads.0.q.0.weight", "layers.99999999999.heads.0.q.0.weight",
        "layers.0.heads.0.q.0.weight.more", "layers.0.kv_heads.0.q.0.weight"}) {
    CHECK(refusal([&](made_file& made) { made.add(name, {32, 4}); }) ==
          "tensor '" + std::string(name) +
              "': want layers.L.heads.H.{q|k}.I.{weight|bias} or "
              "layers.L.kv_heads.K.k.I.{weight|bias}");
  }
}

TEST_CASE("a dtype that is not read is refused", "[safetensors]") {
  made_file made;
  std::string bytes = made.bytes();
  const auto at = bytes.find("F32");
  bytes.replace(at, 3, "I32");
  const vattn::test::scratch_file file("hash_weights", bytes);
  CHECK_THROWS_WITH(hash_weights_file(file.path()),
                    Catch::Contains("want dtype F32, BF16 or F16, got I32"));
}
