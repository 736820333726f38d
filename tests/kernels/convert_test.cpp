// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/convert.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
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

TEST_CASE("blocks of int8 are their scale times them, exactly", "[kernels]") {
  unsigned char block[35];
  index_t wrong = 0;
  for (std::uint32_t h = 0; h < 65536; h += h < 0x7c00u ? 7 : 1) {
    const auto half = static_cast<std::uint16_t>(h);
    const auto scale = static_cast<double>(f16_to_float(half));
    std::memcpy(block + 1, &half, sizeof half);
    for (int j = 0; j < 32; ++j) {
      const int byte = j * 8 - 128 + static_cast<int>(h % 8);
      block[3 + j] = static_cast<unsigned char>(byte);
      const auto got = static_cast<double>(to_float(element::q8_0, block + 1, j));
      wrong += std::isfinite(scale) ? got != scale * byte : std::isfinite(got);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("any part of a row of blocks loads, and no byte beyond", "[kernels]") {
  std::vector<unsigned char> bytes(3 * 34 + 1);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<unsigned char>(37 * i + 11);
  for (std::size_t block = 0; block < 3; ++block) bytes[1 + 34 * block + 1] = 0x2c;
  for (index_t first = 0; first < 96; ++first)
    for (const index_t count : {index_t{1}, index_t{7}, index_t{33}, 96 - first}) {
      if (first + count > 96) continue;
      std::vector<float> out(static_cast<std::size_t>(count) + 1, -7.0f);
      load_slice(element::q8_0, bytes.data() + 1, first, count, out.data());
      for (index_t j = 0; j < count; ++j)
        CHECK(out[static_cast<std::size_t>(j)] ==
              to_float(element::q8_0, bytes.data() + 1, first + j));
      CHECK(out.back() == -7.0f);
    }
}

TEST_CASE("a row of blocks is quantised to half a step", "[kernels]") {
  std::mt19937 engine(4);
  std::normal_distribution<float> normal;
  for (const float size : {0.0f, 1e-7f, 3e-6f, 1.0f, 1e4f, 8e6f}) {
    std::vector<float> x(96);
    for (float& v : x) v = std::clamp(size * normal(engine), -8.2e6f, 8.2e6f);
    std::vector<char> row(3 * 34 + 1, 77);
    quantise_q8_0(x.data(), 96, row.data());
    CHECK(row.back() == 77);
    for (std::size_t j = 0; j < x.size(); ++j) {
      const std::size_t first = j / 32 * 32;
      float largest = 0;
      for (std::size_t k = first; k < first + 32; ++k) largest = std::max(largest, std::fabs(x[k]));
      const float scale = scale_of_block(row.data() + j / 32 * 34);
      const float got = to_float(element::q8_0, row.data(), static_cast<index_t>(j));
      CHECK(std::fabs(got - x[j]) <= 0.50001f * scale);
      // A step is 1 / 127 of the largest but for the grain of a half.
      CHECK(scale >= largest / 127.0f);
      CHECK(scale <= largest / 127.0f * (1.0f + 0x1p-10f) + 0x1p-24f);
    }
  }
}

TEST_CASE("a block that no half can scale is not a number", "[kernels]") {
  for (const float odd : {std::nanf(""), std::numeric_limits<float>::infinity(), -9e6f}) {
    std::vector<float> x(64, 1.0f);
    x[40] = odd;
    std::vector<char> row(2 * 34);
    quantise_q8_0(x.data(), 64, row.data());
    for (index_t j = 0; j < 64; ++j)
      CHECK(std::isfinite(to_float(element::q8_0, row.data(), j)) == (j < 32));
  }
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
