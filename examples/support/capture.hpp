// SPDX-License-Identifier: Apache-2.0
/// @file
/// KV heads, mostly captured from a model: tensors `layerLL.kvK.q` [g x positions x d], `.k` [n x d],
/// `.v` [n x d_v] of a safetensors file. The queries are those of the last positions of the text, so
/// query i of P sees the first n - P + 1 + i rows. Metadata `scale`, if there, is the factor on q.k.
#pragma once

#include <charconv>
#include <cmath>
#include <optional>

#include "safetensors.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn_examples {

/// One KV head with the queries of all query heads that share it. Refers into its file.
class kv_head {
public:
  /// @throws std::runtime_error naming the file if q, k and v do not fit each other.
  kv_head(const safetensors_file& file, const std::string& name, std::uint32_t layer,
          std::uint32_t head, float scale)
      : stem_(file.stem()),
        name_(name),
        layer_(layer),
        head_(head),
        scale_(scale),
        kv_(view_of(file, name)) {
    const tensor& q = part(file, name + ".q", 3);
    query_heads_ = static_cast<int>(q.shape[0]);
    positions_ = static_cast<int>(q.shape[1]);
    file.require(q.shape[0] <= 1024 && q.shape[1] <= kv_.rows() && q.shape[2] == kv_.key_dim(),
                 name + ".q: want at most 1024 heads, a key a position, and the keys' length");
    queries_.resize(static_cast<std::size_t>(q.shape[0] * q.shape[1] * q.shape[2]));
    for (std::size_t i = 0; i < queries_.size(); ++i) queries_[i] = value_at(q, i);
  }

  /// One that comes from no file, all its queries `[g x d]` after the last row. Refers to the cache.
  kv_head(std::string stem, std::string name, const vattn::kv_view& kv, std::vector<float> queries)
      : stem_(std::move(stem)),
        name_(std::move(name)),
        layer_(0),
        head_(0),
        scale_(0.0F),
        kv_(kv),
        query_heads_(static_cast<int>(queries.size()) / static_cast<int>(kv.key_dim())),
        positions_(1),
        queries_(std::move(queries)) {}

  /// `layer07.kv1`.
  const std::string& name() const noexcept { return name_; }
  /// `<file stem>/layer07.kv1`, and `<file stem>/layer07.kv1.q2`.
  std::string full_name() const { return stem_ + "/" + name_; }
  std::string full_name(int query_head) const {
    return full_name() + ".q" + std::to_string(query_head);
  }
  /// `<file stem>/layer07.kv1.q2@63`: one query, the unit that a guarantee is about.
  std::string row_name(int query_head, int position) const {
    return full_name(query_head) + "@" + std::to_string(position);
  }

  std::uint32_t layer() const noexcept { return layer_; }
  /// Number of the KV head within its layer.
  std::uint32_t head() const noexcept { return head_; }
  const vattn::kv_view& kv() const noexcept { return kv_; }
  int query_heads() const noexcept { return query_heads_; }
  int positions() const noexcept { return positions_; }
  vattn::index_t visible_rows(int position) const noexcept {
    return kv_.rows() - positions_ + 1 + position;
  }

  /// The queries of all query heads at one position.
  vattn::query_group group(int position) const noexcept {
    vattn::query_group all = query(0, position);
    all.heads = query_heads_;
    all.stride = positions_ * kv_.key_dim();
    return all;
  }
  /// One query head's alone.
  vattn::query_group query(int query_head, int position) const noexcept {
    const vattn::index_t dim = kv_.key_dim();
    vattn::query_group one(queries_.data() + (query_head * positions_ + position) * dim, 1, dim);
    one.logits.scale = scale_;
    one.logits.visible_rows = visible_rows(position);
    return one;
  }
  /// Names the randomness of a call: the text (by file stem), layer and KV head, step = text position.
  vattn::draw_key draw(int position, std::uint64_t seed) const noexcept {
    std::uint64_t text =
        0xCBF29CE484222325U;  // FNV-1a, so that the rows do not depend on file order
    for (const char c : stem_) text = (text ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
    return {.seed = seed,
            .sequence = text,
            .layer = layer_,
            .head = head_,
            .step = static_cast<std::uint64_t>(visible_rows(position) - 1)};
  }

private:
  static const tensor& part(const safetensors_file& file, const std::string& name,
                            std::size_t dimensions) {
    const tensor* t = file.find(name);
    file.require(t != nullptr, "tensor '" + name + "' is missing");
    file.require(t->shape.size() == dimensions &&
                     std::all_of(t->shape.begin(), t->shape.end(), [](auto n) { return n > 0; }),
                 name + ": want " + std::to_string(dimensions) + " dimensions, none of them 0");
    return *t;
  }
  static vattn::rows_view rows_of(const safetensors_file& file, const std::string& name) {
    const tensor& t = part(file, name, 2);
    file.require(t.shape[0] < vattn::index_t{1} << 31 && t.shape[1] <= vattn::rows_view::max_dim,
                 name + ": more rows or columns than the library takes");
    return {t.data, t.type, t.shape[0], t.shape[1], t.shape[1] * vattn::size_of(t.type)};
  }
  static vattn::kv_view view_of(const safetensors_file& file, const std::string& name) {
    const vattn::rows_view keys = rows_of(file, name + ".k");
    const vattn::rows_view values = rows_of(file, name + ".v");
    file.require(keys.rows() == values.rows(), name + ": want as many values as keys");
    return {keys, values};
  }
  static float value_at(const tensor& t, std::size_t i) noexcept {
    const void* data = t.data;
    switch (t.type) {
      case vattn::element::f32: return static_cast<const float*>(data)[i];
      case vattn::element::bf16:
        return static_cast<float>(static_cast<const Eigen::bfloat16*>(data)[i]);
      case vattn::element::f16: return static_cast<float>(static_cast<const Eigen::half*>(data)[i]);
      case vattn::element::q8_0: break;  // no dtype of a safetensors file
    }
    return 0.0F;
  }

  std::string stem_, name_;
  std::uint32_t layer_, head_;
  float scale_;
  vattn::kv_view kv_;
  int query_heads_ = 0, positions_ = 0;
  std::vector<float> queries_;
};

/// A file of captured KV heads, by layer and KV head.
class capture {
public:
  /// @throws std::runtime_error `<path>: <what is wrong>`, one line.
  explicit capture(const std::filesystem::path& path) : file_(path) {
    const float scale = scale_of_file();
    std::set<std::string> seen;
    for (const tensor& t : file_.tensors()) {
      const std::string name = t.name.substr(0, t.name.rfind('.'));
      const auto at = layer_and_head(name);
      if (!at || !seen.insert(name).second) continue;
      heads_.emplace_back(file_, name, at->first, at->second, scale);
    }
    file_.require(!heads_.empty(), "holds no KV head (tensors layerLL.kvK.q, .k and .v)");
    std::sort(heads_.begin(), heads_.end(), [](const kv_head& a, const kv_head& b) {
      return std::pair(a.layer(), a.head()) < std::pair(b.layer(), b.head());
    });
  }

  const safetensors_file& file() const noexcept { return file_; }
  const std::vector<kv_head>& heads() const noexcept { return heads_; }

private:
  float scale_of_file() const {
    const auto at = file_.metadata().find("scale");
    if (at == file_.metadata().end()) return 0.0F;  // the library's default, 1 / sqrt(d)
    float scale = 0.0F;
    const char* end = at->second.data() + at->second.size();
    const auto [stop, error] = std::from_chars(at->second.data(), end, scale);
    file_.require(error == std::errc{} && stop == end && std::isfinite(scale) && scale > 0.0F,
                  "metadata scale is no positive number: '" + one_line(at->second) + "'");
    return scale;
  }

  /// Of `layerLL.kvK`; nothing if the name is another.
  static std::optional<std::pair<std::uint32_t, std::uint32_t>> layer_and_head(
      const std::string& name) {
    std::pair<std::uint32_t, std::uint32_t> at;
    const char* p = name.data();
    const char* const end = p + name.size();
    const auto take = [&](std::string_view word, std::uint32_t& number) {
      if (!std::string_view(p, end).starts_with(word)) return false;
      const auto [stop, error] = std::from_chars(p + word.size(), end, number);
      p = stop;
      return error == std::errc{};
    };
    if (!take("layer", at.first) || !take(".kv", at.second) || p != end) return std::nullopt;
    return at;
  }

  safetensors_file file_;
  std::vector<kv_head> heads_;
};

/// The captures in examples/data/, by name.
inline std::vector<std::filesystem::path> default_captures() {
  const std::filesystem::path here(__FILE__);
  std::vector<std::filesystem::path> paths;
  std::error_code error;
  const auto folder = here.parent_path().parent_path() / "data";
  for (const auto& entry : std::filesystem::directory_iterator(folder.lexically_normal(), error))
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path());
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace vattn_examples
