// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/convert.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include "support/catch.hpp"

namespace vattn::kernels {

namespace {

/// Equal, or both NaN; tells -0 from 0.
bool same(float a, float b) {
  return std::isnan(a) ? std::isnan(b)
                       : std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Random bit patterns, every half and the middle between two of them, one float to either side.
std::vector<float> probes() {
  std::vector<float> x;
  std::mt19937 engine(1);
  for (int i = 0; i < 300000; ++i)
    x.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(engine())));
  for (std::uint32_t h = 0; h < 0x7c00u; ++h) {
    const float low = f16_to_float(static_cast<std::uint16_t>(h));
    const float high = h == 0x7bffu ? 65536.0f : f16_to_float(static_cast<std::uint16_t>(h + 1));
    const float middle = 0.5f * (low + high);
    for (const float v : {low, middle, std::nextafter(middle, 0.0f), std::nextafter(middle, high),
                          std::nextafter(low, high)}) {
      x.push_back(v);
      x.push_back(-v);
    }
  }
  const float inf = std::numeric_limits<float>::infinity();
  for (const float v : {inf, 0.0f, 1e-45f, 1e30f, 65519.99f, 65520.0f, 65504.0f, 65505.0f}) {
    x.push_back(v);
    x.push_back(-v);
  }
  x.push_back(std::numeric_limits<float>::quiet_NaN());
  return x;
}

}  // namespace

TEST_CASE("every 16-bit pattern converts exactly", "[kernels]") {
  bool halves = true, brains = true;
  for (std::uint32_t bits = 0; bits < 65536; ++bits) {
    const auto word = static_cast<std::uint16_t>(bits);
    halves =
        halves && same(f16_to_float(word), static_cast<float>(std::bit_cast<Eigen::half>(word)));
    brains = brains &&
             same(bf16_to_float(word), static_cast<float>(std::bit_cast<Eigen::bfloat16>(word)));
  }
  CHECK(halves);
  CHECK(brains);
  static_assert(f16_to_float(0x3c00) == 1.0f && f16_to_float(0x0001) == 0x1p-24f);
  static_assert(bf16_to_float(0x3f80) == 1.0f);
}

TEST_CASE("rounding to nearest agrees with Eigen", "[kernels]") {
  int wrong = 0;
  for (const float x : probes()) {
    const float half = f16_to_float(f16_nearest(x)), brain = bf16_to_float(bf16_nearest(x));
    wrong += same(half, static_cast<float>(Eigen::half(x))) ? 0 : 1;
    wrong += same(brain, static_cast<float>(Eigen::bfloat16(x))) ? 0 : 1;
  }
  CHECK(wrong == 0);
}

TEST_CASE("rounding up gives the least half that covers", "[kernels]") {
  int wrong = 0;
  for (const float x : probes()) {
    const std::uint16_t half = f16_up(x);
    const float up = f16_to_float(half);
    if (std::isnan(x)) {
      wrong += std::isnan(up) ? 0 : 1;
      continue;
    }
    wrong += up >= x ? 0 : 1;
    if (up == x) continue;
    const bool negative = (half & 0x8000u) != 0;
    const auto below = static_cast<std::uint16_t>(negative ? half + 1 : half - 1);
    wrong += f16_to_float(below) < x ? 0 : 1;
  }
  CHECK(wrong == 0);
  const float inf = std::numeric_limits<float>::infinity();
  CHECK(f16_up(65504.5f) == 0x7c00u);
  CHECK(f16_up(-1e30f) == 0xfbffu);
  CHECK(f16_up(-inf) == 0xfc00u);
  CHECK(f16_up(1e-30f) == 0x0001u);
  CHECK(f16_to_float(f16_up(-1e-30f)) == 0.0f);
}

TEST_CASE("rows load at any address", "[kernels]") {
  std::vector<unsigned char> bytes(64);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(37 * i + 11);
  for (const element type : {element::f32, element::bf16, element::f16}) {
    for (std::size_t offset = 0; offset < 3; ++offset) {
      float row[9], part[4];
      load_row(type, bytes.data() + offset, 9, row);
      load_slice(type, bytes.data() + offset, 5, 4, part);
      for (index_t j = 0; j < 9; ++j) {
        CHECK(same(row[j], to_float(type, bytes.data() + offset, j)));
        if (j >= 5) CHECK(same(row[j], part[j - 5]));
      }
    }
  }
}

}  // namespace vattn::kernels
