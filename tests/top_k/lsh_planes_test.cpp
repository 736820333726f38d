// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/lsh_planes.hpp"

#include <array>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/vector_angle.hpp"

using namespace vattn;
using top_k::lsh_planes;

namespace {

std::vector<float> some_vector(index_t dim, std::uint64_t seed) {
  const random_stream stream({.seed = seed}, 31);
  std::vector<float> x;
  for (index_t j = 0; j < dim; ++j)
    x.push_back(static_cast<float>(stream.u32(static_cast<std::uint64_t>(j))) * 0x1p-31F - 1.0F);
  return x;
}

/// Signature words of a turned vector under a pattern.
std::vector<std::uint64_t> hash(const lsh_planes& planes, const std::vector<float>& turned,
                                int pattern) {
  std::vector<float> room(turned.size());
  std::vector<std::uint64_t> words(static_cast<std::size_t>(planes.words()));
  planes.hash(turned.data(), pattern, room.data(), words.data());
  return words;
}

bool bit(const std::vector<std::uint64_t>& words, int i) {
  return (words[static_cast<std::size_t>(i / 64)] >> (i % 64) & 1U) != 0;
}

}  // namespace

TEST_CASE("vectors agree in a bit as often as their angle says, and in two independently",
          "[top_k]") {
  // 600 seeds of 64 planes a half: 38,400 bits an angle. A count is within 5 standard errors of its mean, and so is a
  // count of pairs of neighbouring bits: each false once in 1.7e6, 20 of them.
  constexpr index_t dim = 24;
  constexpr int seeds = 600;
  std::vector<float> x = some_vector(dim, 1);
  std::vector<std::vector<float>> others;
  for (const float part : {0.1F, 0.6F, 1.0F, 2.0F, -0.7F}) {
    std::vector<float> y = some_vector(dim, 2);
    for (std::size_t j = 0; j < x.size(); ++j) y[j] += part * x[j];
    others.push_back(y);
  }
  std::vector<std::array<double, 4>> counts(others.size());
  for (int seed = 0; seed < seeds; ++seed) {
    const lsh_planes planes(64, dim, static_cast<std::uint64_t>(seed));
    for (const std::size_t half : {0U, 1U}) {
      const auto of_x = hash(planes, x, static_cast<int>(half));
      for (std::size_t k = 0; k < others.size(); ++k) {
        const auto of_y = hash(planes, others[k], static_cast<int>(half));
        const std::uint64_t same = ~(of_x[0] ^ of_y[0]);
        counts[k][half] += std::popcount(same);
        counts[k][2 + half] += std::popcount(same & same >> 1U & 0x5555555555555555U);
      }
    }
  }
  for (std::size_t k = 0; k < others.size(); ++k) {
    const double p = 1.0 - angle_between(x.data(), others[k].data(), dim) / std::numbers::pi;
    for (std::size_t which = 0; which < 4; ++which) {
      const double trials = which < 2 ? 64.0 * seeds : 32.0 * seeds;
      const double chance = which < 2 ? p : p * p;
      CAPTURE(k, which, p, counts[k][which] / trials);
      CHECK(std::fabs(counts[k][which] - trials * chance) <=
            5.0 * std::sqrt(trials * chance * (1.0 - chance)));
    }
  }
}

TEST_CASE("a vector and its opposite differ in every bit, whatever their length", "[top_k]") {
  constexpr index_t dim = 33;
  const lsh_planes planes(128, dim, 7);
  // Also where the products of floats are too small or too large for one.
  for (const float scale : {1.0F, 1e-42F, 1e-20F, 3e37F}) {
    std::vector<float> x = some_vector(dim, 3);
    for (float& c : x) c *= scale;
    for (const int pattern : {0, 1, 5, 127}) {
      const auto words = hash(planes, x, pattern);
      std::vector<float> opposite = x;
      for (float& c : opposite) c = -c;
      const auto others = hash(planes, opposite, pattern);
      int equal = 0;
      for (int i = 0; i < 128; ++i) equal += bit(words, i) == bit(others, i) ? 1 : 0;
      CAPTURE(scale, pattern);
      CHECK(equal == 0);
    }
  }
  const std::vector<float> zero(dim, 0.0F);
  for (const std::uint64_t word : hash(planes, zero, 3)) CHECK(word == 0);
}

TEST_CASE("lengths do not matter, seeds and halves do, and patterns are other planes", "[top_k]") {
  constexpr index_t dim = 64;
  const lsh_planes planes(256, dim, 7), again(256, dim, 7), other(256, dim, 8);
  const std::vector<float> x = some_vector(dim, 5);
  std::vector<float> longer = x;
  for (float& c : longer) c *= 8.0F;
  CHECK(hash(planes, x, 4) == hash(planes, longer, 4));
  CHECK(hash(planes, x, 4) == hash(again, x, 4));
  const auto differing = [&](const lsh_planes& a, int p, const lsh_planes& b, int q) {
    const auto u = hash(a, x, p), v = hash(b, x, q);
    int count = 0;
    for (std::size_t w = 0; w < u.size(); ++w) count += std::popcount(u[w] ^ v[w]);
    return count;
  };
  // Half of 256 unrelated bits differ, within 6 standard deviations.
  for (const int count : {differing(planes, 4, other, 4), differing(planes, 4, planes, 5),
                          differing(planes, 4, planes, 6), differing(planes, 0, planes, 126)})
    CHECK(std::abs(count - 128) <= 48);
}

TEST_CASE("rows are dealt evenly to patterns and halves", "[top_k]") {
  std::array<int, lsh_planes::patterns> counts{};
  int odd = 0;
  for (index_t row = 0; row < 128 * 256; ++row) {
    const int pattern = lsh_planes::pattern_of(row);
    REQUIRE((pattern >= 0 && pattern < lsh_planes::patterns));
    ++counts[static_cast<std::size_t>(pattern)];
    odd += lsh_planes::half_of(pattern);
  }
  for (const int count : counts) CHECK(std::abs(count - 256) <= 96);
  CHECK(std::abs(odd - 64 * 256) <= 600);
}

TEST_CASE("turning keeps the angle, and hashing allocates nothing", "[top_k]") {
  for (const index_t dim : {1, 7, 64, 80}) {
    const lsh_planes planes(64, dim, 1);
    std::vector<float> x = some_vector(dim, 1), y = some_vector(dim, 2), room(x.size());
    const double before = angle_between(x.data(), y.data(), dim);
    std::uint64_t word = 0;
    CHECK(test::count_allocations([&] {
            planes.turn(x.data());
            planes.turn(y.data());
            planes.hash(x.data(), 9, room.data(), &word);
          }) == 0);
    CHECK(angle_between(x.data(), y.data(), dim) == Approx(before).margin(1e-6));
  }
}
