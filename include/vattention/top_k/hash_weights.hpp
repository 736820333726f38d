// SPDX-License-Identifier: Apache-2.0
/// @file
/// Learned hashes: small networks whose outputs' signs are the signatures of queries and of keys.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vattention/core/workspace.hpp"
#include "vattention/kernels/kernels.hpp"
#include "vattention/top_k/hash_rotation.hpp"
#include "vattention/top_k/index_file.hpp"

namespace vattn::top_k {

/// What becomes of the outputs x of a layer before the next one takes them: x itself, max(x, 0), x / (1 + exp(-x)),
/// x Phi(x) with Phi the normal distribution function (the exact form), tanh(x).
enum class activation : std::uint8_t { none, relu, silu, gelu, tanh };

/// A layer as it is handed in: `matrix` `[out x in]`, row-major (as torch.nn.Linear keeps it), and `bias` `[out]`, or
/// no number for none.
struct hash_layer {
  index_t in = 0, out = 0;
  std::vector<float> matrix, bias;
};

namespace detail {

/// Applies an activation in place, by float kernels: off by a few units in the last place of its value. `spare` is
/// scratch `[count]`.
inline void activate(const kernels::table& kernels, activation by, float* x, index_t count,
                     float* spare) noexcept {
  switch (by) {
    case activation::none: return;
    case activation::relu:
      for (index_t i = 0; i < count; ++i) x[i] = std::max(x[i], 0.0F);
      return;
    case activation::silu:
      for (index_t i = 0; i < count; ++i) spare[i] = -x[i];
      kernels.exp_shifted(spare, count, 0.0F, spare);
      for (index_t i = 0; i < count; ++i) x[i] /= 1.0F + spare[i];
      return;
    case activation::gelu:
      for (index_t i = 0; i < count; ++i) x[i] *= 0.5F * std::erfc(-0.70710678F * x[i]);
      return;
    case activation::tanh:
      for (index_t i = 0; i < count; ++i) x[i] = std::tanh(x[i]);
      return;
  }
}

}  // namespace detail

/// A network of dense layers that hashes vectors: of `dim()` inputs, an activation between its layers and none behind
/// the last, whose `bits()` outputs are taken for their signs. An immutable value; copies share their memory, 4 bytes a
/// number.
///
/// Evaluated in float by the kernels in use, so where an output is within rounding of 0 its sign may differ from one
/// kernel row to another.
class hash_mlp {
public:
  /// Outputs of a layer, at most.
  static constexpr index_t most_width = 1024;

  /// @throws std::invalid_argument that names the layer, counted from 0, for: no layer; inputs that are not 1 to 4096,
  /// or not the outputs of the layer before; outputs that are not 1 to 1024, of the last layer not 32, 64, ... 256;
  /// a matrix or bias of another size; a number that is not finite (`weight` or `bias`, with its row and column).
  hash_mlp(std::vector<hash_layer> layers, activation between) : between_(between) {
    require(!layers.empty(), "hash_mlp", "one layer or more", layers.size());
    for (std::size_t i = 0; i < layers.size(); ++i)
      check(layers[i], i, i == 0 ? layers[0].in : layers[i - 1].out);
    detail::require_hash_bits("hash_mlp", static_cast<int>(layers.back().out));
    vattn::detail::index_writer all;
    all.same("activation", static_cast<std::int64_t>(between));
    auto kept = std::make_shared<std::vector<layer>>();
    kept->reserve(layers.size());
    for (hash_layer& from : layers) {
      all.same("inputs", from.in);
      all.same("outputs", from.out);
      all.numbers(from.matrix, from.in * from.out);
      all.numbers(from.bias, static_cast<index_t>(from.bias.size()));
      widest_ = std::max(widest_, from.out);
      layer& to = kept->emplace_back(layer{std::move(from), {}});
      to.rows.reserve(static_cast<std::size_t>(to.is.out));
      for (index_t row = 0; row < to.is.out; ++row)
        to.rows.push_back(to.is.matrix.data() + row * to.is.in);
    }
    layers_ = std::move(kept);
    checksum_ = vattn::detail::checksum_of(all.bytes());
  }

  index_t dim() const noexcept { return layers_->front().is.in; }
  int bits() const noexcept { return static_cast<int>(layers_->back().is.out); }
  int layers() const noexcept { return static_cast<int>(layers_->size()); }
  activation between() const noexcept { return between_; }
  /// FNV-1a of widths, activation and all numbers.
  std::uint64_t checksum() const noexcept { return checksum_; }

  /// Floats of scratch that an evaluation needs; at most `most_scratch`.
  index_t scratch() const noexcept { return 3 * widest_; }
  static constexpr index_t most_scratch = 3 * most_width;

  /// The outputs `[bits]` for `x` `[d]`, which is kept; they lie in `scratch`. Every layer is a pass over its matrix.
  /// With SiLU and 128 units a layer about 1.5 us for two layers and 3 us for three, on a core that adds 16 products at
  /// a time; GELU and tanh are functions of the C library, for GELU 60 ns a unit more.
  const float* evaluate(const kernels::table& kernels, const float* x,
                        float* scratch) const noexcept {
    float* out = scratch;
    float* other = scratch + widest_;
    for (const layer& l : *layers_) {
      kernels.dot_rows(element::f32, l.rows.data(), l.is.out, 0, l.is.in, x, l.is.in, 1, out,
                       l.is.out);
      for (std::size_t i = 0; i < l.is.bias.size(); ++i) out[i] += l.is.bias[i];
      if (&l != &layers_->back())
        detail::activate(kernels, between_, out, l.is.out, scratch + 2 * widest_);
      x = out;
      std::swap(out, other);
    }
    return x;
  }

  /// Packs the signs of the outputs into 64-bit words, as many as are begun; 1 is positive, so NaN counts as negative.
  void hash(const kernels::table& kernels, const float* x, float* scratch,
            std::uint64_t* signature) const noexcept {
    const float* const outputs = evaluate(kernels, x, scratch);
    std::fill_n(signature, (bits() + 63) / 64, 0);
    for (int bit = 0; bit < bits(); ++bit)
      signature[bit / 64] |= std::uint64_t{outputs[bit] > 0.0F} << (bit % 64);
  }

private:
  struct layer {
    hash_layer is;
    /// Where the rows of the matrix are.
    std::vector<const void*> rows;
  };

  static void check(const hash_layer& l, std::size_t number, index_t wanted) {
    const std::string name = "hash_mlp: layer " + std::to_string(number);
    require(l.in >= 1 && l.in <= rows_view::max_dim, name.c_str(), "1 to 4096 inputs", l.in);
    require(l.out >= 1 && l.out <= most_width, name.c_str(), "1 to 1024 outputs", l.out);
    require(l.in == wanted, name.c_str(),
            "the outputs of the layer before as inputs (inputs, outputs)", l.in, wanted);
    require(static_cast<index_t>(l.matrix.size()) == l.in * l.out, name.c_str(),
            "a matrix of outputs x inputs (numbers, outputs, inputs)", l.matrix.size(), l.out,
            l.in);
    require(l.bias.empty() || static_cast<index_t>(l.bias.size()) == l.out, name.c_str(),
            "a bias for each output, or none (numbers, outputs)", l.bias.size(), l.out);
    require_numbers(name + ": weight", l.matrix, l.in);
    require_numbers(name + ": bias", l.bias, 1);
  }
  static void require_numbers(const std::string& name, const std::vector<float>& all,
                              index_t columns) {
    const auto odd =
        std::find_if(all.begin(), all.end(), [](float x) { return !std::isfinite(x); });
    const index_t at = odd - all.begin();
    require(odd == all.end(), name.c_str(), "finite numbers (row, column, number)", at / columns,
            at % columns, odd == all.end() ? 0.0F : *odd);
  }

  std::shared_ptr<const std::vector<layer>> layers_;
  activation between_;
  index_t widest_ = 0;
  std::uint64_t checksum_ = 0;
};

/// The hashes of one KV head: for each of its query heads a network for queries and one for keys, of the same bits.
/// Query heads may share a network of keys, and then a signature of each key; a single pair serves any number of them.
/// An immutable value, see `hash_mlp`.
class hash_weights {
public:
  struct pair {
    hash_mlp queries, keys;
  };

  /// Networks of keys of equal `checksum()` count as the same one.
  /// @throws std::invalid_argument that names the head, counted from 0, for: not 1 to 64 heads; bits or dimensions
  /// that differ between the networks.
  explicit hash_weights(std::vector<pair> heads) {
    require(!heads.empty() && heads.size() <= workspace::most_heads, "hash_weights",
            "1 to 64 query heads", heads.size());
    auto kept = std::make_shared<networks>();
    kept->queries.reserve(heads.size());
    kept->keys.reserve(heads.size());
    kept->key_hash_of.reserve(heads.size());
    vattn::detail::index_writer all;
    for (std::size_t h = 0; h < heads.size(); ++h) {
      for (const hash_mlp* one : {&heads[h].queries, &heads[h].keys}) {
        require_alike(*one, heads[0].queries, h);
        std::uint64_t of_one = one->checksum();
        all.number(of_one);
      }
      kept->queries.push_back(heads[h].queries);
      std::size_t hash = 0;
      while (hash < kept->keys.size() && kept->keys[hash].checksum() != heads[h].keys.checksum())
        ++hash;
      if (hash == kept->keys.size()) kept->keys.push_back(heads[h].keys);
      kept->key_hash_of.push_back(static_cast<int>(hash));
    }
    checksum_ = vattn::detail::checksum_of(all.bytes());
    all_ = std::move(kept);
  }

  /// Hashes that are not learned: a single layer without bias for each head, the same for queries and keys, of the
  /// random directions of `hash_rotation::random`. They tell the angle between a query and a key, about 0 and not
  /// about the keys' mean.
  /// @throws std::invalid_argument for bits that are not 32, 64, ... 256, a dimension outside [1, 4096], or not 1 to 64
  /// heads.
  static hash_weights random(int bits, index_t dim, int heads = 1, std::uint64_t seed = 1) {
    require(heads >= 1 && heads <= workspace::most_heads, "hash_weights", "1 to 64 query heads",
            heads);
    std::vector<pair> all;
    all.reserve(static_cast<std::size_t>(heads));
    for (int h = 0; h < heads; ++h) {
      const auto by =
          hash_rotation::random(bits, dim, seed + (static_cast<std::uint64_t>(h) << 32U));
      hash_layer layer{dim, bits, std::vector<float>(static_cast<std::size_t>(bits * dim)), {}};
      for (int bit = 0; bit < bits; ++bit)
        for (index_t j = 0; j < dim; ++j)
          layer.matrix[static_cast<std::size_t>(bit * dim + j)] = by.at(bit, j);
      std::vector<hash_layer> layers;
      layers.push_back(std::move(layer));
      const hash_mlp network(std::move(layers), activation::none);
      all.push_back({network, network});
    }
    return hash_weights(std::move(all));
  }

  /// Query heads, and the different networks of keys that they have, as many at most.
  int heads() const noexcept { return static_cast<int>(all_->queries.size()); }
  int key_hashes() const noexcept { return static_cast<int>(all_->keys.size()); }
  int bits() const noexcept { return queries(0).bits(); }
  index_t dim() const noexcept { return queries(0).dim(); }
  const hash_mlp& queries(int head) const noexcept {
    return all_->queries[static_cast<std::size_t>(head)];
  }
  /// By number of the network, 0 .. key_hashes() - 1.
  const hash_mlp& keys(int key_hash) const noexcept {
    return all_->keys[static_cast<std::size_t>(key_hash)];
  }
  /// Which network of keys goes with a query head.
  int key_hash_of(int head) const noexcept {
    return all_->key_hash_of[static_cast<std::size_t>(head)];
  }
  /// The pair of one query head alone, for calls of that head's queries.
  /// @throws std::invalid_argument if there is no such head.
  hash_weights only(int head) const {
    require(head >= 0 && head < heads(), "hash_weights::only", "one of its heads (head, heads)",
            head, heads());
    return hash_weights({{queries(head), keys(key_hash_of(head))}});
  }
  /// What tells these weights from others, also after an index of theirs has been to a file.
  std::uint64_t checksum() const noexcept { return checksum_; }

private:
  struct networks {
    std::vector<hash_mlp> queries, keys;
    std::vector<int> key_hash_of;
  };

  static void require_alike(const hash_mlp& one, const hash_mlp& first, std::size_t head) {
    const std::string name = "hash_weights: head " + std::to_string(head);
    require(one.bits() == first.bits(), name.c_str(),
            "the same bits for queries and keys of all heads (bits, those of head 0's queries)",
            one.bits(), first.bits());
    require(one.dim() == first.dim(), name.c_str(),
            "the same dimension for queries and keys of all heads (dimension, that of head 0's "
            "queries)",
            one.dim(), first.dim());
  }

  std::shared_ptr<const networks> all_;
  std::uint64_t checksum_ = 0;
};

}  // namespace vattn::top_k
