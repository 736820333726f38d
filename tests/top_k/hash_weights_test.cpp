// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/hash_weights.hpp"

#include <Eigen/Core>

#include <functional>
#include <limits>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;
using top_k::activation;
using top_k::hash_layer;
using top_k::hash_mlp;
using top_k::hash_weights;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr activation all_activations[] = {activation::none, activation::relu, activation::silu,
                                          activation::gelu, activation::tanh};

/// Layers of these widths with normal numbers.
std::vector<hash_layer> layers_of(const std::vector<index_t>& widths, std::uint64_t seed,
                                  bool biased = true) {
  vattn::detail::head_source source(seed, 3);
  std::vector<hash_layer> layers;
  layers.reserve(widths.size());
  for (std::size_t i = 0; i + 1 < widths.size(); ++i) {
    hash_layer l{widths[i], widths[i + 1], {}, {}};
    l.matrix.resize(static_cast<std::size_t>(l.in * l.out));
    l.bias.resize(biased ? static_cast<std::size_t>(l.out) : 0);
    for (float& x : l.matrix)
      x = static_cast<float>(source.normal() / std::sqrt(static_cast<double>(l.in)));
    for (float& x : l.bias) x = static_cast<float>(source.normal());
    layers.push_back(std::move(l));
  }
  return layers;
}
hash_mlp network(const std::vector<index_t>& widths, std::uint64_t seed = 1,
                 activation between = activation::silu) {
  return {layers_of(widths, seed), between};
}
std::vector<float> vector_of(index_t dim, std::uint64_t seed) {
  vattn::detail::head_source source(seed, 4);
  std::vector<float> x(static_cast<std::size_t>(dim));
  for (float& c : x) c = static_cast<float>(2.0 * source.normal());
  return x;
}

double activated(activation by, double x) {
  switch (by) {
    case activation::none: return x;
    case activation::relu: return x > 0.0 ? x : 0.0;
    case activation::silu: return x / (1.0 + std::exp(-x));
    case activation::gelu: return 0.5 * x * (1.0 + std::erf(x / std::sqrt(2.0)));
    case activation::tanh: return std::tanh(x);
  }
  return 0.0;
}

/// The outputs in double, and bounds of the error of floats.
struct plain_outputs {
  std::vector<double> value, error;

  plain_outputs(const std::vector<hash_layer>& layers, activation between,
                const std::vector<float>& x)
      : value(x.begin(), x.end()), error(x.size(), 0.0) {
    for (const hash_layer& l : layers) {
      std::vector<double> out(static_cast<std::size_t>(l.out)), off(out.size());
      for (std::size_t i = 0; i < out.size(); ++i) {
        double size = 0.0;
        for (std::size_t j = 0; j < value.size(); ++j) {
          const auto w = static_cast<double>(l.matrix[i * value.size() + j]);
          out[i] += w * value[j];
          size += std::fabs(w * value[j]);
          off[i] += std::fabs(w) * error[j];
        }
        if (!l.bias.empty()) out[i] += static_cast<double>(l.bias[i]);
        off[i] += static_cast<double>(l.in + 3) * 0x1p-24 * (size + std::fabs(out[i]));
      }
      const bool last = &l == &layers.back();
      for (std::size_t i = 0; i < out.size(); ++i) {
        const double y = last ? out[i] : activated(between, out[i]);
        // The slopes of all activations are below 1.13.
        if (!last) off[i] = 1.13 * off[i] + 32.0 * 0x1p-24 * (std::fabs(y) + 0x1p-20);
        out[i] = y;
      }
      value = std::move(out);
      error = std::move(off);
    }
  }
};

}  // namespace

TEST_CASE("hash_mlp: outputs and signs are those of a plain double evaluation", "[top_k]") {
  const std::vector<std::vector<index_t>> shapes{
      {64, 64},          {7, 32},          {128, 96},       {64, 64, 32}, {128, 128, 128, 32},
      {80, 200, 3, 256}, {1, 1, 1, 1, 32}, {4096, 1024, 64}};
  for (const auto& widths : shapes)
    for (const activation between : all_activations)
      for (const bool biased : {true, false}) {
        const auto layers = layers_of(widths, 5, biased);
        const hash_mlp by(layers, between);
        REQUIRE(by.dim() == widths.front());
        REQUIRE(by.bits() == widths.back());
        REQUIRE(by.layers() == static_cast<int>(widths.size()) - 1);
        REQUIRE(by.between() == between);
        REQUIRE(by.scratch() <= hash_mlp::most_scratch);
        const std::vector<float> x = vector_of(by.dim(), 6);
        const plain_outputs want(layers, between, x);
        for (const kernels::isa row : kernels::all_isas) {
          if (!kernels::supported(row)) continue;
          std::vector<float> scratch(static_cast<std::size_t>(by.scratch()));
          const float* const got = by.evaluate(kernels::get(row), x.data(), scratch.data());
          double worst = 0.0;  // in units of the bound
          for (std::size_t i = 0; i < want.value.size(); ++i)
            worst = std::max(worst, std::fabs(static_cast<double>(got[i]) - want.value[i]) /
                                        (want.error[i] + 1e-30));
          CAPTURE(widths, static_cast<int>(between), biased, kernels::get(row).name);
          CHECK(worst <= 1.0);

          std::uint64_t signature[4] = {};
          std::vector<float> again(scratch.size());
          by.hash(kernels::get(row), x.data(), again.data(), signature);
          int wrong = 0;
          for (std::size_t i = 0; i < want.value.size(); ++i)
            if (std::fabs(want.value[i]) > want.error[i])
              wrong +=
                  (signature[i / 64] >> (i % 64) & 1U) == (want.value[i] > 0.0 ? 1U : 0U) ? 0 : 1;
          CHECK(wrong == 0);
          for (std::size_t bit = want.value.size(); bit < 64 * ((want.value.size() + 63) / 64);
               ++bit)
            CHECK((signature[bit / 64] >> (bit % 64) & 1U) == 0);
        }
      }
}

TEST_CASE("activations have the values that their names promise", "[top_k]") {
  struct known {
    float x, relu, silu, gelu, tanh;
  };
  // x / (1 + exp(-x)), x Phi(x) and tanh(x) to ten digits.
  const known table[] = {{0.0F, 0.0F, 0.0F, 0.0F, 0.0F},
                         {1.0F, 1.0F, 0.7310585786F, 0.8413447461F, 0.7615941560F},
                         {-1.0F, 0.0F, -0.2689414214F, -0.1586552539F, -0.7615941560F},
                         {2.5F, 2.5F, 2.310354569F, 2.484475836F, 0.9866142982F},
                         {-3.0F, 0.0F, -0.1422776195F, -0.004049694095F, -0.9950547537F},
                         {40.0F, 40.0F, 40.0F, 40.0F, 1.0F},
                         {1e4F, 1e4F, 1e4F, 1e4F, 1.0F},
                         {-1e4F, 0.0F, 0.0F, 0.0F, -1.0F}};
  for (const kernels::isa row : kernels::all_isas) {
    if (!kernels::supported(row)) continue;
    for (const known& k : table)
      for (const index_t count : {1, 7, 16, 33})
        for (const activation by : all_activations) {
          std::vector<float> x(static_cast<std::size_t>(count), k.x), spare(x.size());
          top_k::detail::activate(kernels::get(row), by, x.data(), count, spare.data());
          const float want = by == activation::none   ? k.x
                             : by == activation::relu ? k.relu
                             : by == activation::silu ? k.silu
                             : by == activation::gelu ? k.gelu
                                                      : k.tanh;
          CAPTURE(kernels::get(row).name, static_cast<int>(by), k.x, count);
          for (const float got : x) CHECK(got == Approx(want).epsilon(2e-6).margin(1e-30));
        }
  }
}

TEST_CASE("hash_mlp evaluates without allocating, and takes any input", "[top_k]") {
  for (const activation between : all_activations) {
    const hash_mlp by = network({64, 32, 64}, 1, between);
    std::vector<float> x = vector_of(64, 2), scratch(static_cast<std::size_t>(by.scratch()));
    const std::vector<float> before = x;
    std::uint64_t signature = 0;
    CHECK(test::count_allocations(
              [&] { by.hash(kernels::active(), x.data(), scratch.data(), &signature); }) == 0);
    CHECK(x == before);
    CHECK(signature != 0);
    x[5] = not_a_number;  // no sign of NaN is positive
    by.hash(kernels::active(), x.data(), scratch.data(), &signature);
    CHECK(signature == 0);
  }
}

TEST_CASE("hash_mlp: copies share their numbers and outlive the original", "[top_k]") {
  auto first = std::make_unique<hash_mlp>(network({64, 48, 64}));
  const hash_mlp copy = *first;
  const std::vector<float> x = vector_of(64, 2);
  std::vector<float> scratch(static_cast<std::size_t>(copy.scratch()));
  std::uint64_t before = 0, after = 0;
  first->hash(kernels::active(), x.data(), scratch.data(), &before);
  first.reset();
  copy.hash(kernels::active(), x.data(), scratch.data(), &after);
  CHECK(before == after);
  CHECK(before != 0);
}

TEST_CASE("checksums tell weights apart", "[top_k]") {
  const auto sum = [](const std::function<void(std::vector<hash_layer>&)>& change,
                      activation between = activation::silu) {
    auto layers = layers_of({16, 24, 32}, 1);
    change(layers);
    return hash_mlp(std::move(layers), between).checksum();
  };
  const std::uint64_t same = sum([](auto&) {});
  CHECK(same == sum([](auto&) {}));
  CHECK(same != sum([](auto&) {}, activation::gelu));
  CHECK(same != sum([](auto& l) { l[1].matrix[767] += 0.5F; }));
  CHECK(same != sum([](auto& l) { l[0].bias[3] += 0.5F; }));
  CHECK(same != sum([](auto& l) { l[0].bias.clear(); }));
  const hash_mlp a = network({16, 32}, 1), b = network({16, 32}, 2);
  const std::uint64_t ab = hash_weights({{a, b}}).checksum();
  CHECK(ab == hash_weights({{a, b}}).checksum());
  CHECK(ab != hash_weights({{b, a}}).checksum());
  CHECK(ab != hash_weights({{a, b}, {a, b}}).checksum());
  const hash_weights two({{b, a}, {a, b}});
  CHECK(two.only(1).checksum() == ab);
  CHECK(two.only(1).heads() == 1);
}

TEST_CASE("query heads that share a network of keys are told", "[top_k]") {
  const hash_mlp a = network({16, 32}, 1), b = network({16, 32}, 2), c = network({16, 32}, 3);
  const hash_weights own({{a, b}, {b, c}, {c, a}});
  CHECK(own.heads() == 3);
  CHECK(own.key_hashes() == 3);
  // Made again from the same numbers, it is the same network.
  const hash_weights shared({{a, c}, {b, network({16, 32}, 3)}, {c, b}, {a, c}});
  CHECK(shared.heads() == 4);
  REQUIRE(shared.key_hashes() == 2);
  const int wanted[] = {0, 0, 1, 0};
  for (int h = 0; h < 4; ++h) CHECK(shared.key_hash_of(h) == wanted[h]);
  CHECK(shared.keys(0).checksum() == c.checksum());
  CHECK(shared.keys(1).checksum() == b.checksum());
  CHECK(shared.queries(1).checksum() == b.checksum());
  CHECK(shared.only(2).checksum() == hash_weights({{c, b}}).checksum());
}

TEST_CASE("hash_weights without training: random directions, one layer a head", "[top_k]") {
  for (const int bits : {32, 256})
    for (const index_t dim : {7, 64}) {
      const hash_weights by = hash_weights::random(bits, dim, 3);
      CHECK(by.heads() == 3);
      CHECK(by.key_hashes() == 3);
      CHECK(by.bits() == bits);
      CHECK(by.dim() == dim);
      CHECK(by.checksum() == hash_weights::random(bits, dim, 3).checksum());
      CHECK(by.checksum() != hash_weights::random(bits, dim, 3, 2).checksum());
      CHECK(by.only(0).checksum() == hash_weights::random(bits, dim).checksum());
      CHECK(by.only(0).checksum() != by.only(1).checksum());
      const auto want = top_k::hash_rotation::random(bits, dim, 1);
      std::vector<float> x(static_cast<std::size_t>(dim)), scratch(hash_mlp::most_scratch);
      for (index_t j = 0; j < dim; ++j) {
        std::fill(x.begin(), x.end(), 0.0F);
        x[static_cast<std::size_t>(j)] = 1.0F;
        for (const hash_mlp* one : {&by.queries(0), &by.keys(0)}) {
          CHECK(one->layers() == 1);
          const float* const got = one->evaluate(kernels::active(), x.data(), scratch.data());
          for (int bit = 0; bit < bits; ++bit) REQUIRE(got[bit] == want.at(bit, j));
        }
      }
    }
}

TEST_CASE("networks that cannot be are refused, and the fault is named", "[top_k]") {
  const auto refuses = [](const std::function<void(std::vector<hash_layer>&)>& spoil,
                          const std::string& why) {
    auto layers = layers_of({16, 24, 64}, 1);
    spoil(layers);
    CHECK_THROWS_WITH(hash_mlp(layers, activation::silu), "vattention: hash_mlp: " + why);
  };
  refuses([](auto& l) { l.clear(); }, "want one layer or more, got 0");
  refuses([](auto& l) { l[0].in = 0; }, "layer 0: want 1 to 4096 inputs, got 0");
  refuses([](auto& l) { l[0].in = 4097; }, "layer 0: want 1 to 4096 inputs, got 4097");
  refuses([](auto& l) { l[1].out = -1; }, "layer 1: want 1 to 1024 outputs, got -1");
  refuses([](auto& l) { l[1].out = 1025; }, "layer 1: want 1 to 1024 outputs, got 1025");
  refuses([](auto& l) { l[1].in = 25; },
          "layer 1: want the outputs of the layer before as inputs (inputs, outputs), got 25, 24");
  refuses([](auto& l) { l[0].matrix.pop_back(); },
          "layer 0: want a matrix of outputs x inputs (numbers, outputs, inputs), got 383, 24, 16");
  refuses([](auto& l) { l[1].bias.push_back(0.0F); },
          "layer 1: want a bias for each output, or none (numbers, outputs), got 65, 64");
  refuses([](auto& l) { l[1].matrix[24 * 5 + 7] = not_a_number; },
          "layer 1: weight: want finite numbers (row, column, number), got 5, 7, nan");
  refuses([](auto& l) { l[0].bias[9] = -infinity; },
          "layer 0: bias: want finite numbers (row, column, number), got 9, 0, -inf");
  for (const index_t bits : {16, 33, 288}) {
    CHECK_THROWS_WITH(network({16, bits}), "vattention: hash_mlp: want 32, 64, ... 256 bits, got " +
                                               std::to_string(bits));
  }
  CHECK_NOTHROW(network({16, 1024, 256}));
}

TEST_CASE("networks that do not go together are refused, and the head is named", "[top_k]") {
  using Catch::Contains;
  const hash_mlp fits = network({16, 64}), narrow = network({16, 32}), longer = network({17, 64});
  CHECK_THROWS_WITH(hash_weights({}), "vattention: hash_weights: want 1 to 64 query heads, got 0");
  CHECK_THROWS_WITH(hash_weights(std::vector<hash_weights::pair>(65, {fits, fits})),
                    Contains("got 65"));
  CHECK_THROWS_WITH(hash_weights({{fits, narrow}}),
                    Contains("hash_weights: head 0: want the same bits") && Contains("got 32, 64"));
  CHECK_THROWS_WITH(hash_weights({{fits, fits}, {narrow, narrow}}),
                    Contains("hash_weights: head 1: want the same bits"));
  CHECK_THROWS_WITH(hash_weights({{fits, fits}, {fits, fits}, {fits, longer}}),
                    Contains("head 2: want the same dimension") && Contains("got 17, 16"));
  const hash_weights two({{fits, fits}, {fits, fits}});
  for (const int head : {-1, 2})
    CHECK_THROWS_WITH(two.only(head), Contains("hash_weights::only") &&
                                          Contains("got " + std::to_string(head) + ", 2"));
  CHECK_THROWS_WITH(hash_weights::random(48, 16), Contains("32, 64, ... 256 bits, got 48"));
  CHECK_THROWS_WITH(hash_weights::random(32, 0), Contains("1 <= key dimension <= 4096"));
  for (const int heads : {0, 65})
    CHECK_THROWS_WITH(hash_weights::random(32, 16, heads), Contains("1 to 64 query heads"));
}
