// SPDX-License-Identifier: Apache-2.0
/// @file
/// Every kernel of a table row against a reference in double, by the error bounds of kernels.hpp,
/// over element types, heads, lengths around the register sizes and misalignments.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "support/catch.hpp"
#include "vattention/core/rng.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/kernels/kernels.hpp"
#include "vattention/kernels/scalar_proposals.hpp"

namespace vattn::test {

inline constexpr double round_off = 0x1p-24;
inline constexpr element all_elements[] = {element::f32, element::bf16, element::f16,
                                           element::q8_0};
inline constexpr int all_heads[] = {1, 2, 3, 4, 5, 8};
/// {0, 1, 3, 7, L - 1, L, L + 1, 4 L + 3} for the register lengths L = 8, 16 and 32.
inline constexpr index_t all_lengths[] = {0, 1, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 35, 67, 131};

/// Memory that ends `gap` bytes before a page that must not be touched.
class fenced_memory {
public:
  fenced_memory(index_t bytes, index_t gap) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const auto used = static_cast<std::size_t>(bytes + gap);
    size_ = (used + page - 1) / page * page + page;
    base_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    REQUIRE(base_ != MAP_FAILED);
    char* fence = static_cast<char*>(base_) + size_ - page;
    REQUIRE(mprotect(fence, page, PROT_NONE) == 0);
    data_ = fence - used;
  }
  ~fenced_memory() {
    if (base_ != nullptr) munmap(base_, size_);
  }
  fenced_memory(const fenced_memory&) = delete;
  fenced_memory(fenced_memory&& other) noexcept
      : base_(std::exchange(other.base_, nullptr)), data_(other.data_), size_(other.size_) {}
  fenced_memory& operator=(const fenced_memory&) = delete;
  char* data() const { return data_; }

private:
  void* base_;
  char* data_;
  std::size_t size_;
};

/// Rows of random elements, one after the other up to a fence, addressed in a shuffled order.
struct random_rows {
  random_rows(element type, index_t count, index_t dim, index_t misalignment, unsigned seed)
      : memory(std::max<index_t>(count, 1) * row_bytes(type, dim), misalignment) {
    std::mt19937 engine(seed);
    std::normal_distribution<float> normal;
    if (type == element::q8_0)
      fill_blocks(count * dim / 32, engine);
    else
      for (index_t i = 0; i < count * dim; ++i) put(type, i, normal(engine));
    for (index_t i = 0; i < count; ++i) rows.push_back(memory.data() + i * row_bytes(type, dim));
    std::shuffle(rows.begin(), rows.end(), engine);
    for (const void* row : rows) {
      for (index_t j = 0; j < dim; ++j) {
        value.push_back(static_cast<double>(kernels::to_float(type, row, j)));
      }
    }
  }
  fenced_memory memory;
  std::vector<const void*> rows;
  std::vector<double> value;  ///< `[count x dim]`, in the order of `rows`

private:
  void put(element type, index_t i, float x) const {
    const std::uint16_t half =
        type == element::bf16 ? kernels::bf16_nearest(x) : kernels::f16_nearest(x);
    const void* from = type == element::f32 ? static_cast<const void*>(&x) : &half;
    std::memcpy(memory.data() + i * size_of(type), from, static_cast<std::size_t>(size_of(type)));
  }
  /// Every byte, -128 among them, under scales of both signs about 1/64, and a subnormal one at times.
  void fill_blocks(index_t blocks, std::mt19937& engine) const {
    std::normal_distribution<float> normal;
    for (index_t i = 0; i < blocks; ++i) {
      char* block = memory.data() + 34 * i;
      const std::uint16_t bits =
          kernels::f16_nearest(normal(engine) * (i % 7 == 6 ? 1e-6F : 0.015F));
      std::memcpy(block, &bits, sizeof bits);
      for (int k = 0; k < 32; ++k) block[2 + k] = static_cast<char>(engine() % 256);
    }
  }
};

inline std::vector<float> random_floats(index_t count, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<std::size_t>(count), 0.0f);
  for (float& v : x) v = normal(engine);
  return x;
}

/// What `out` holds where a kernel must not write.
inline constexpr float untouched = 12345.0f;

/// One shape of a row kernel.
struct shape {
  element type;
  index_t count, dim;
  int heads;
  index_t misalignment;
};

/// Numbers as a bfloat16 holds them.
inline std::vector<float> rounded_to_bf16(std::vector<float> x) {
  for (float& v : x) v = std::bit_cast<float>(std::uint32_t{kernels::bf16_nearest(v)} << 16U);
  return x;
}

/// With queries that are bfloat16 (`held`) or any floats.
inline void check_dot_shape(const kernels::table& row, const shape& s, bool held = false) {
  CAPTURE(row.name, static_cast<int>(s.type), s.count, s.dim, s.heads, s.misalignment, held);
  const random_rows data(s.type, s.count, s.dim, s.misalignment, 1);
  const index_t x_stride = s.dim + 3, out_stride = s.count + 2;
  const std::vector<float> floats = random_floats(s.heads * x_stride, 2);
  const std::vector<float> x = held ? rounded_to_bf16(floats) : floats;
  std::vector<float> out(static_cast<std::size_t>(s.heads * out_stride), untouched);
  row.dot_rows(s.type, data.rows.data(), s.count, 0, s.dim, x.data(), x_stride, s.heads, out.data(),
               out_stride);
  double worst = 0;
  bool clean = true;
  for (index_t h = 0; h < s.heads; ++h) {
    for (index_t i = 0; i < s.count; ++i) {
      double dot = 0, size = 0;
      for (index_t j = 0; j < s.dim; ++j) {
        const double product = data.value[static_cast<std::size_t>(i * s.dim + j)] *
                               static_cast<double>(x[static_cast<std::size_t>(h * x_stride + j)]);
        dot += product;
        size += std::abs(product);
      }
      const double bound = static_cast<double>(s.dim + 2) * round_off * size;
      const double got = static_cast<double>(out[static_cast<std::size_t>(h * out_stride + i)]);
      worst = std::max(worst, std::isfinite(got) ? std::abs(got - dot) / bound : 1e9);
    }
    for (index_t i = s.count; i < out_stride; ++i) {
      clean = clean && out[static_cast<std::size_t>(h * out_stride + i)] == untouched;
    }
  }
  CHECK(worst <= 1);
  CHECK(clean);
}

inline void check_norms(const shape& s, const random_rows& data, const std::vector<float>& norms) {
  double worst = 0;
  for (index_t i = 0; i < s.count; ++i) {
    double norm = 0;
    for (index_t j = 0; j < s.dim; ++j) {
      const double v = data.value[static_cast<std::size_t>(i * s.dim + j)];
      norm += v * v;
    }
    const double off = std::abs(static_cast<double>(norms[static_cast<std::size_t>(i)]) - norm);
    worst = std::max(worst, off - static_cast<double>(s.dim + 2) * round_off * norm);
  }
  CHECK(worst <= 0);
  CHECK(norms.back() == untouched);
}

inline void check_sum_shape(const kernels::table& row, const shape& s) {
  CAPTURE(row.name, static_cast<int>(s.type), s.count, s.dim, s.heads, s.misalignment);
  const random_rows data(s.type, s.count, s.dim, s.misalignment, 3);
  const index_t w_stride = s.count + 3, out_stride = s.dim + 2;
  const std::vector<float> w = random_floats(s.heads * w_stride, 4);
  const std::vector<float> before = random_floats(s.heads * out_stride, 5);
  std::vector<float> out = before, without = before;
  std::vector<float> norms(static_cast<std::size_t>(s.count + 1), untouched);
  row.sum_rows(s.type, data.rows.data(), s.count, 0, s.dim, w.data(), w_stride, s.heads, out.data(),
               out_stride, norms.data());
  row.sum_rows(s.type, data.rows.data(), s.count, 0, s.dim, w.data(), w_stride, s.heads,
               without.data(), out_stride, nullptr);
  CHECK(out == without);
  check_norms(s, data, norms);
  double worst = 0;
  bool clean = true;
  for (index_t h = 0; h < s.heads; ++h) {
    for (index_t j = 0; j < out_stride; ++j) {
      const auto at = static_cast<std::size_t>(h * out_stride + j);
      double sum = static_cast<double>(before[at]), size = std::abs(sum);
      for (index_t i = 0; i < s.count && j < s.dim; ++i) {
        const double product = data.value[static_cast<std::size_t>(i * s.dim + j)] *
                               static_cast<double>(w[static_cast<std::size_t>(h * w_stride + i)]);
        sum += product;
        size += std::abs(product);
      }
      if (j >= s.dim) clean = clean && out[at] == before[at];
      const index_t chain = std::min(s.count, 64 + s.count / 32) + 2;
      const double bound = static_cast<double>(chain) * round_off * size;
      const double got = static_cast<double>(out[at]);
      worst = std::max(worst, std::isfinite(got) ? std::abs(got - sum) / bound : 1e9);
    }
  }
  CHECK(worst <= 1);
  CHECK(clean);
}

/// All shapes, and a few large ones; of q8_0 whole blocks.
template <class Check>
void for_shapes(Check of_shape) {
  const auto check = [&](const shape& s) {
    if (s.dim % block_values(s.type) == 0) of_shape(s);
  };
  for (const element type : all_elements) {
    for (const index_t misalignment : {index_t{0}, index_t{1}, index_t{2}, index_t{20}}) {
      for (const index_t length : all_lengths) {
        for (const int heads : all_heads) {
          for (const index_t other : {index_t{5}, index_t{64}, index_t{130}, index_t{160}}) {
            if (other == 160 && type != element::q8_0) continue;
            check(shape{type, length, other, heads, misalignment});
            if (length > 0) check(shape{type, other, length, heads, misalignment});
          }
        }
      }
    }
    for (const shape& s :
         {shape{type, 35, 4096, 3, 0}, shape{type, 21, 1500, 8, 2}, shape{type, 40, 80, 300, 0},
          shape{type, 20, 33, 601, 2}, shape{type, 40, 96, 300, 1}, shape{type, 20, 64, 601, 2}})
      check(s);
  }
}
inline void check_dot_rows(const kernels::table& row) {
  for_shapes([&](const shape& s) { check_dot_shape(row, s); });
}
/// The same of bfloat16 rows, as engines call it.
inline void check_bf16_queries(const kernels::table& row) {
  for_shapes([&](const shape& s) {
    if (s.type == element::bf16) check_dot_shape(row, s, true);
  });
}
inline void check_sum_rows(const kernels::table& row) {
  for_shapes([&](const shape& s) { check_sum_shape(row, s); });
}

/// Addresses of rows to come are prefetched at most, whatever their number.
inline void check_upcoming(const kernels::table& row) {
  const random_rows data(element::bf16, 300, 96, 2, 1);
  const std::vector<float> x = random_floats(4 * 96, 2), w = random_floats(4 * 40, 3);
  for (const index_t upcoming : {index_t{0}, index_t{1}, index_t{31}, index_t{64}, index_t{260}}) {
    for (const index_t count : {index_t{1}, index_t{16}, index_t{40}}) {
      CAPTURE(row.name, upcoming, count);
      std::vector<float> dots[2], sums[2];
      for (const int told : {0, 1}) {
        dots[told].assign(static_cast<std::size_t>(4 * count), 0.0F);
        sums[told].assign(4 * 96, 0.0F);
        const index_t next = told == 1 ? upcoming : 0;
        row.dot_rows(element::bf16, data.rows.data(), count, next, 96, x.data(), 96, 4,
                     dots[told].data(), count);
        row.sum_rows(element::bf16, data.rows.data(), count, next, 96, w.data(), 40, 4,
                     sums[told].data(), 96, nullptr);
      }
      CHECK(dots[0] == dots[1]);
      CHECK(sums[0] == sums[1]);
    }
  }
}

/// Every scale times every byte comes out of a dot product as it is: conversions of q8_0 are exact. A scale
/// that is infinite or NaN shows.
inline void check_blocks(const kernels::table& row) {
  CAPTURE(row.name);
  std::vector<float> one(32 * 32, 0.0F);
  for (std::size_t j = 0; j < 32; ++j) one[33 * j] = 1.0F;
  const fenced_memory memory(8 * 34, 0);
  std::vector<const void*> rows;
  for (index_t i = 0; i < 8; ++i) rows.push_back(memory.data() + 34 * i);
  std::vector<float> out(32 * 8);
  index_t wrong = 0;
  for (std::uint32_t bits = 0; bits < 65536; bits += 31) {
    const auto half = static_cast<std::uint16_t>(bits);
    const auto scale = static_cast<double>(kernels::f16_to_float(half));
    for (int k = 0; k < 8 * 34; ++k) {
      const int j = k % 34 - 2, byte = k / 34 * 32 + j;
      if (j >= 0) memory.data()[k] = static_cast<char>(byte);
      if (j == 0) std::memcpy(memory.data() + k - 2, &half, sizeof half);
    }
    row.dot_rows(element::q8_0, rows.data(), 8, 0, 32, one.data(), 32, 32, out.data(), 8);
    for (int i = 0; i < 256; ++i) {
      const auto got = static_cast<double>(out[static_cast<std::size_t>(i % 32 * 8 + i / 32)]);
      const double want = scale * (i < 128 ? i : i - 256);
      wrong += std::isfinite(scale) ? got != want : std::isfinite(got);
    }
  }
  CHECK(wrong == 0);
}

/// A sum much longer than a block keeps its bound and a row list may repeat a row.
inline void check_long_sum(const kernels::table& row) {
  for (const element type : all_elements) check_sum_shape(row, {type, 5000, 64, 4, 0});
}

inline void check_max_of(const kernels::table& row) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  CAPTURE(row.name);
  for (const index_t length : all_lengths) {
    for (index_t offset = 0; offset < 3; ++offset) {
      const std::vector<float> x = random_floats(length + offset + 1, 7);
      const float* first = x.data() + offset;
      float largest = -inf;
      for (index_t i = 0; i < length; ++i) largest = std::max(largest, first[i]);
      CHECK(row.max_of(first, length) == largest);
      for (index_t i = 0; i < length; ++i) {
        std::vector<float> y(static_cast<std::size_t>(length), nan);
        CHECK(row.max_of(y.data(), length) == -inf);
        y[static_cast<std::size_t>(i)] = -3.5f;
        CHECK(row.max_of(y.data(), length) == -3.5f);
        y.assign(static_cast<std::size_t>(length), -7.0f);
        y[static_cast<std::size_t>(i)] = nan;
        CHECK(row.max_of(y.data(), length) == (length > 1 ? -7.0f : -inf));
        y[static_cast<std::size_t>(i)] = inf;
        CHECK(row.max_of(y.data(), length) == inf);
      }
    }
  }
}

/// |got / exp(t) - 1| over the bound of `exp_shifted`; 0 where the bound asks for nothing.
inline double exp_excess(float got, double t) {
  const double want = std::exp(t), value = static_cast<double>(got);
  if (want < 0x1p-126) return value >= 0 && value < 0x1.0001p-126 ? 0 : 1e9;
  const double bound = (4 + std::abs(t)) * round_off;
  const double largest = static_cast<double>(std::numeric_limits<float>::max());
  if (want > largest * (1 - bound) && std::isinf(got)) return 0;
  return std::isfinite(value) ? std::abs(value / want - 1) / bound : 1e9;
}

inline void check_exp_values(const kernels::table& row) {
  CAPTURE(row.name);
  for (const float shift : {0.0f, 17.3f, -80.123f, 1e6f}) {
    std::vector<float> x, out;
    for (double t = -120; t < 92; t += 0.00071) x.push_back(static_cast<float>(t) + shift);
    out.assign(x.size(), untouched);
    row.exp_shifted(x.data(), static_cast<index_t>(x.size()), shift, out.data());
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double t = static_cast<double>(x[i]) - static_cast<double>(shift);
      worst = std::max(worst, exp_excess(out[i], t));
    }
    CAPTURE(shift);
    CHECK(worst <= 1);
  }
}

inline void check_exp_shapes(const kernels::table& row) {
  CAPTURE(row.name);
  for (const index_t length : all_lengths) {
    for (index_t offset = 0; offset < 3; ++offset) {
      std::vector<float> x = random_floats(length + offset, 8);
      x.push_back(untouched);
      std::vector<float> out(x.size(), untouched);
      const double sum = row.exp_shifted(x.data() + offset, length, 0.25f, out.data() + offset);
      double want = 0;
      for (index_t i = 0; i < length; ++i) {
        const auto at = static_cast<std::size_t>(offset + i);
        CHECK(exp_excess(out[at], static_cast<double>(x[at]) - 0.25) <= 1);
        want += static_cast<double>(out[at]);
      }
      CHECK(sum == Approx(want).epsilon(1e-14).margin(0));
      CHECK(out.back() == untouched);
      CHECK(row.exp_shifted(x.data() + offset, length, 0.25f, nullptr) ==
            Approx(sum).epsilon(4e-7));
      CHECK(row.exp_shifted(x.data() + offset, length, 0.25f, x.data() + offset) == sum);
      CHECK(std::equal(x.begin() + offset, x.end(), out.begin() + offset));
    }
  }
}

inline void check_exp_specials(const kernels::table& row) {
  CAPTURE(row.name);
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float largest = std::numeric_limits<float>::max();
  for (index_t place = 0; place < 40; ++place) {
    std::vector<float> x(40, -inf), out(40);
    const auto at = static_cast<std::size_t>(place);
    CHECK(row.exp_shifted(x.data(), 40, 3.0f, out.data()) == 0.0);
    x[at] = nan;
    CHECK(std::isnan(row.exp_shifted(x.data(), 40, 3.0f, out.data())));
    CHECK(std::isnan(out[at]));
    x[at] = inf;
    CHECK(row.exp_shifted(x.data(), 40, 3.0f, out.data()) == static_cast<double>(inf));
    CHECK(out[at] == inf);
    x[at] = largest;
    CHECK(row.exp_shifted(x.data(), 40, -largest, out.data()) == static_cast<double>(inf));
    x[at] = -largest;
    CHECK(row.exp_shifted(x.data(), 40, largest, out.data()) == 0.0);
    x[at] = 3.0f;
    CHECK(row.exp_shifted(x.data(), 40, 3.0f, out.data()) == 1.0);
  }
}

inline void check_exp_shifted(const kernels::table& row) {
  check_exp_values(row);
  check_exp_shapes(row);
  check_exp_specials(row);
}

/// Codes `[keys x dims]` in the packed order that `table::scan_codes` describes.
inline void pack_codes(int bits, index_t blocks, index_t words, const std::vector<int>& code,
                       char* out) {
  const index_t per = 32 / bits, dims = words * per;
  std::memset(out, 0, static_cast<std::size_t>(blocks * words * 64));
  for (index_t key = 0; key < 16 * blocks; ++key) {
    for (index_t d = 0; d < dims; ++d) {
      const index_t t = d / per, f = d % per / 4, b = d % 4;
      char& byte = out[((key / 16) * words + t) * 64 + 4 * (key % 16) + b];
      byte = static_cast<char>(byte | code[static_cast<std::size_t>(key * dims + d)] << (bits * f));
    }
  }
}

/// One scan; `extreme` takes the largest level and query bytes everywhere.
inline void check_scan_shape(const kernels::table& row, int bits, index_t blocks, index_t words,
                             int heads, bool extreme) {
  CAPTURE(row.name, bits, blocks, words, heads, extreme);
  const index_t dims = words * 32 / bits, keys = 16 * blocks;
  const index_t x_stride = dims + 5, out_stride = keys + 3;
  std::mt19937 engine(9);
  std::vector<int> code(static_cast<std::size_t>(keys * dims));
  for (int& c : code) c = static_cast<int>(engine() % (1u << bits));
  if (extreme) std::fill(code.begin(), code.end(), (1 << bits) - 1);
  const unsigned largest = bits == 2 ? 32 : 255;
  std::vector<std::uint8_t> levels(16);
  for (auto& l : levels)
    l = static_cast<std::uint8_t>(extreme ? largest : engine() % (largest + 1));
  std::vector<std::int8_t> x(static_cast<std::size_t>(heads * x_stride));
  for (auto& v : x) v = static_cast<std::int8_t>(static_cast<int>(engine() % 255) - 127);
  if (extreme) std::fill(x.begin(), x.end(), std::int8_t{-127});
  const fenced_memory codes(std::max<index_t>(blocks * words * 64, 1), 0);
  pack_codes(bits, blocks, words, code, codes.data());
  std::vector<std::int32_t> out(static_cast<std::size_t>(heads * out_stride), -5), want = out;
  for (index_t h = 0; h < heads; ++h) {
    for (index_t key = 0; key < keys; ++key) {
      std::int32_t sum = 0;
      for (index_t d = 0; d < dims; ++d) {
        const int c = code[static_cast<std::size_t>(key * dims + d)];
        const int level = bits == 2 || bits == 4 ? levels[static_cast<std::size_t>(c)] : c;
        sum += level * x[static_cast<std::size_t>(h * x_stride + d)];
      }
      want[static_cast<std::size_t>(h * out_stride + key)] = sum;
    }
  }
  row.scan_codes(bits, reinterpret_cast<const std::uint8_t*>(codes.data()), blocks, words,
                 levels.data(), x.data(), x_stride, heads, out.data(), out_stride);
  CHECK(out == want);
  // The same keys one by one, each with its codes in a row, ending at the fence.
  std::vector<fenced_memory> records;
  std::vector<const void*> addresses;
  records.reserve(static_cast<std::size_t>(keys));
  for (index_t key = 0; key < keys; ++key) {
    const fenced_memory& record = records.emplace_back(4 * words, key % 3);
    for (index_t t = 0; t < words; ++t)
      std::memcpy(record.data() + 4 * t,
                  codes.data() + ((key / 16) * words + t) * 64 + 4 * (key % 16), 4);
    addresses.push_back(record.data());
  }
  for (const index_t upcoming : {index_t{0}, keys / 2}) {
    std::fill(out.begin(), out.end(), -5);
    std::vector<std::int32_t> some = want;
    const index_t count = keys - upcoming;
    for (index_t h = 0; h < heads; ++h)
      std::fill_n(some.begin() + h * out_stride + count, upcoming, -5);
    row.dot_codes(bits, addresses.data(), count, upcoming, words, levels.data(), x.data(), x_stride,
                  heads, out.data(), out_stride);
    CHECK(out == some);
  }
}

inline void check_scan_codes(const kernels::table& row) {
  for (const int bits : {1, 2, 4, 8}) {
    for (const int heads : {1, 2, 3, 4, 5, 8, 15}) {
      for (const index_t blocks : {index_t{0}, index_t{1}, index_t{2}, index_t{3}, index_t{6}}) {
        for (const index_t words : {index_t{1}, index_t{2}, index_t{5}}) {
          check_scan_shape(row, bits, blocks, words, heads, false);
        }
      }
      check_scan_shape(row, bits, 3, 4096 * bits / 32, heads, true);
    }
  }
}

/// Against the scalar row, bit for bit, for every short length and factors of every kind.
inline void check_scale_sums(const kernels::table& row) {
  const kernels::table& plain = kernels::get(kernels::isa::scalar);
  std::vector<std::int32_t> sums(100);
  std::vector<std::uint16_t> factors(100);
  for (std::size_t i = 0; i < sums.size(); ++i) {
    sums[i] = static_cast<std::int32_t>(i * 7919 % 200003) - 100000;
    factors[i] = static_cast<std::uint16_t>(i * 40503 % 65536);
    if ((factors[i] & 0x7C00U) == 0x7C00U) factors[i] = 0x0123;  // a subnormal for inf and NaN
  }
  for (index_t count = 0; count <= 67; ++count)
    for (const int times : {1, 2}) {
      std::vector<float> expected(100, -7.0F), out(100, -7.0F);
      plain.scale_sums(sums.data() + 1, factors.data() + 1, count, times, -255 * 77, 0.013F, 3.25F,
                       expected.data() + 1);
      row.scale_sums(sums.data() + 1, factors.data() + 1, count, times, -255 * 77, 0.013F, 3.25F,
                     out.data() + 1);
      CAPTURE(row.name, count, times);
      CHECK(out == expected);
    }
  const std::uint16_t not_a_number = 0x7E00;
  float out = 0.0F;
  row.scale_sums(sums.data(), &not_a_number, 1, 1, 0, 1.0F, 0.0F, &out);
  CHECK(std::isnan(out));
}

/// Against the definition in double, for every short length; NaN goes through.
inline void check_weigh_sums(const kernels::table& row) {
  const std::vector<float> noise = random_floats(100, 21);
  std::vector<std::int32_t> sums(100);
  std::vector<std::uint16_t> factors(100);
  std::vector<float> norms(100);
  for (std::size_t i = 0; i < 100; ++i) {
    sums[i] = static_cast<std::int32_t>(i * 7919 % 200003) - 100000;
    factors[i] = kernels::f16_nearest(0.01F * noise[i]);
    norms[i] = std::fabs(noise[99 - i]);
  }
  const kernels::weigh_terms by{0.013F, -17.5F, 0.6F, 3.25F};
  for (index_t count = 0; count <= 67; ++count) {
    std::vector<float> out(100, untouched);
    row.weigh_sums(sums.data() + 1, factors.data() + 1, norms.data() + 1, count, by, out.data());
    double worst = 0;
    for (index_t i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double factor = static_cast<double>(kernels::f16_to_float(factors[at + 1]));
      const double slope = static_cast<double>(by.slope) * sums[at + 1];
      const double lift = static_cast<double>(by.kappa) * static_cast<double>(norms[at + 1]) *
                          static_cast<double>(norms[at + 1]);
      const double want =
          factor * (slope + static_cast<double>(by.rise)) + lift + static_cast<double>(by.offset);
      const double size = std::abs(factor) * (std::abs(slope) + 17.5) + lift + 3.25;
      worst =
          std::max(worst, std::abs(static_cast<double>(out[at]) - want) / (6 * round_off * size));
    }
    CAPTURE(row.name, count);
    CHECK(worst <= 1);
    CHECK(out[static_cast<std::size_t>(count)] == untouched);
  }
  factors[5] = 0x7E00;
  norms[40] = std::numeric_limits<float>::infinity();
  norms[41] = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> out(100);
  row.weigh_sums(sums.data(), factors.data(), norms.data(), 67, by, out.data());
  CHECK(std::isnan(out[5]));
  CHECK(out[40] == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(out[41]));
}

inline void check_byte_norms(const kernels::table& row) {
  std::vector<std::uint8_t> bytes(300);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(i * 37);
  for (index_t count = 0; count <= 67; ++count) {
    std::vector<float> out(68, untouched);
    row.byte_norms(bytes.data() + 3, count, out.data());
    CHECK(out[static_cast<std::size_t>(count)] == untouched);
  }
  std::vector<float> out(300);
  row.byte_norms(bytes.data(), 300, out.data());
  for (std::size_t i = 0; i < 300; ++i) {
    const int byte = bytes[i];
    const double want = byte == 0     ? 0.0
                        : byte == 255 ? std::numeric_limits<double>::infinity()
                                      : std::exp2(0.25 * (byte - 128));
    REQUIRE(out[i] == Approx(want).epsilon(1e-7).margin(0));
    REQUIRE(out[i] == kernels::scalar::byte_norm(bytes[i]));
  }
}

/// True if the definition of `within_reach` in double, moved by `slack` binary logarithms, takes a row.
inline bool reached(const std::vector<float>& t, index_t stride, int heads,
                    const std::vector<kernels::reach_terms>& by, float norm, std::uint16_t number,
                    std::size_t i, double slack) {
  const double least = std::log2((static_cast<double>(number) * 0x1p16 + 1.0) * 0x1p-32);
  for (int h = 0; h < heads; ++h) {
    const auto at = static_cast<std::size_t>(h);
    const double x = static_cast<double>(t[at * static_cast<std::size_t>(stride) + i]);
    if (std::isnan(x)) return true;
    const double rise =
        (x - static_cast<double>(by[at].shift)) / std::log(2.0) + static_cast<double>(by[at].rise);
    const double most = std::max(rise, static_cast<double>(by[at].floor)) +
                        static_cast<double>(by[at].reach) * static_cast<double>(norm);
    if (most + slack >= least) return true;
  }
  return false;
}

/// No row of the definition is left out, and none is taken that misses by more than is allowed.
inline void check_within_reach(const kernels::table& row) {
  constexpr index_t most = 300;
  std::mt19937 engine(22);
  for (const int heads : {1, 2, 5}) {
    std::vector<float> t = random_floats(heads * (most + 3), 23);
    for (float& x : t) x = 3.0F * x - 40.0F;
    t[17] = std::numeric_limits<float>::quiet_NaN();
    t[33] = -std::numeric_limits<float>::infinity();
    t[50] = std::numeric_limits<float>::max();
    std::vector<kernels::reach_terms> by;
    for (int h = 0; h < heads; ++h)
      by.push_back({-33.0F, -3.0F - static_cast<float>(h), -9.0F, 0.7F});
    std::vector<float> norms = random_floats(most, 24);
    for (float& x : norms) x = std::fabs(x);
    std::vector<std::uint16_t> numbers(most);
    for (auto& u : numbers) u = static_cast<std::uint16_t>((engine() & 0xFFFFU) >> (engine() % 12));
    numbers[3] = 0;
    numbers[4] = 0xFFFFU;
    for (const bool with_norms : {true, false})
      for (index_t count = 0; count <= most; count += count < 70 ? 1 : 115) {
        std::vector<row_t> out(static_cast<std::size_t>(count) + 1, 12345);
        const index_t found = row.within_reach(t.data(), most + 3, heads, by.data(),
                                               with_norms ? norms.data() : nullptr, numbers.data(),
                                               count, out.data());
        CAPTURE(row.name, heads, with_norms, count);
        REQUIRE(found <= count);
        CHECK(out.back() == 12345);
        CHECK(std::is_sorted(out.begin(), out.begin() + found));
        for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
          const bool taken = std::binary_search(out.begin(), out.begin() + found, i);
          const float norm = with_norms ? norms[i] : 0.0F;
          if (reached(t, most + 3, heads, by, norm, numbers[i], i, 0.0)) REQUIRE(taken);
          if (taken && numbers[i] > 0)
            REQUIRE(reached(t, most + 3, heads, by, norm, numbers[i], i, 0.09));
        }
      }
  }
}

/// Against the definition in double; NaN, infinities and what cannot be predicted are among the weights.
inline void check_proposal_logs(const kernels::table& row) {
  constexpr index_t most = 300;
  constexpr float infinity = std::numeric_limits<float>::infinity();
  constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
  constexpr float largest = std::numeric_limits<float>::max();
  std::vector<float> t = random_floats(most, 31), norms = random_floats(most, 32);
  std::vector<float> finer = random_floats(most, 33);
  for (float& x : t) x = 4.0F * x - 30.0F;
  for (float& x : finer) x = 4.0F * x - 50.0F;
  for (float& x : norms) x = std::fabs(x);
  t[2] = t[130] = -infinity;
  t[3] = nan_value;
  t[4] = infinity;
  t[5] = largest;
  norms[6] = infinity;
  norms[7] = 1e4F;
  finer[8] = nan_value;
  finer[9] = infinity;
  finer[10] = finer[2] = -infinity;
  const kernels::proposal_terms first{25.0F, -8.0F, 0.9F}, second{44.0F, -9.0F, 0.0F};
  const auto expected = [&](std::size_t i, bool with_norms, bool lowers) {
    if (t[i] == -infinity) return -HUGE_VAL;
    double x = std::max(static_cast<double>(t[i]) + 25.0, -8.0);
    if (with_norms) x += static_cast<double>(0.9F) * static_cast<double>(norms[i]);
    if (std::isnan(t[i]) || t[i] >= largest || !(x < 64.0)) return static_cast<double>(largest);
    const double better = std::max(static_cast<double>(finer[i]) + 44.0, -9.0);
    return lowers && better < x && !std::isnan(finer[i]) ? better : x;
  };
  for (const bool with_norms : {true, false})
    for (const bool lowers : {true, false})
      for (index_t count = 0; count <= most; count += count < 70 ? 1 : 115) {
        CAPTURE(row.name, with_norms, lowers, count);
        std::vector<float> out(static_cast<std::size_t>(count) + 1, 12345.0F);
        const auto call = [&](const float* from, float* to) {
          row.proposal_logs(from, with_norms ? norms.data() : nullptr, first,
                            lowers ? finer.data() : nullptr, second, count, to);
        };
        call(t.data(), out.data());
        CHECK(out.back() == 12345.0F);
        out.pop_back();
        for (std::size_t i = 0; i < out.size(); ++i) {
          const double want = expected(i, with_norms, lowers);
          CAPTURE(i, out[i], want);
          REQUIRE((static_cast<double>(out[i]) == want ||
                   std::fabs(static_cast<double>(out[i]) - want) < 1e-5));
        }
        std::vector<float> in_place(t.begin(), t.begin() + count);
        call(in_place.data(), in_place.data());
        CHECK(in_place == out);
      }
}

/// Against the definition; NaN and infinities are among the numbers, ties at the threshold too.
inline void check_not_below(const kernels::table& row) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> x(80);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i * 31 % 17);
  x[3] = x[40] = std::numeric_limits<float>::quiet_NaN();
  x[5] = x[33] = infinity;
  x[6] = x[66] = -infinity;
  for (const float threshold : {-infinity, 0.0F, 7.0F, 16.0F, 17.0F, infinity})
    for (index_t count = 0; count <= 67; ++count) {
      std::vector<row_t> expected, out(static_cast<std::size_t>(count) + 1, 12345);
      for (index_t i = 0; i < count; ++i)
        if (!(x[static_cast<std::size_t>(i) + 1] < threshold))
          expected.push_back(static_cast<row_t>(i));
      const index_t found = row.not_below(x.data() + 1, count, threshold, out.data());
      CAPTURE(row.name, count, threshold);
      REQUIRE(found == static_cast<index_t>(expected.size()));
      CHECK(std::equal(expected.begin(), expected.end(), out.begin()));
      CHECK(out.back() == 12345);
    }
}

/// The stream's own numbers, at any place and length, and none beyond.
inline void check_random_blocks(const kernels::table& row) {
  const random_stream stream({.seed = 3, .sequence = 1ULL << 40U, .head = 2, .step = 77}, 5);
  for (const std::uint64_t first : {0ULL, 3ULL, 0xFFFFFFFCULL, 0x123456789ABCDULL}) {
    for (index_t count = 0; count <= 35; ++count) {
      CAPTURE(row.name, first, count);
      std::vector<std::uint64_t> out(static_cast<std::size_t>(2 * count + 1), 42);
      row.random_blocks(stream.state().data(), first, count, out.data());
      bool same = true;
      for (index_t i = 0; i < 2 * count; ++i)
        same = same && out[static_cast<std::size_t>(i)] ==
                           stream.u64(2 * first + static_cast<std::uint64_t>(i));
      CHECK(same);
      CHECK(out.back() == 42);
    }
  }
}

/// Counts at and beside `near`, 0 and the largest one, at the end of readable memory.
class some_counts {
public:
  some_counts(index_t count, int near, std::uint64_t seed)
      : memory_(std::max<index_t>(count, 1) * 2, 0),
        counts_(reinterpret_cast<std::uint16_t*>(memory_.data())) {
    std::mt19937_64 engine(seed);
    for (index_t i = 0; i < count; ++i) {
      const auto x = static_cast<int>(engine() % 8);
      counts_[i] = static_cast<std::uint16_t>(x == 7 ? 0xFFFF : x == 6 ? 0 : near + x - 1);
    }
  }
  const std::uint16_t* data() const noexcept { return counts_; }

private:
  fenced_memory memory_;
  std::uint16_t* counts_;
};

inline void check_count_reaching(const kernels::table& row) {
  for (const index_t count : {0, 1, 7, 8, 16, 31, 32, 33, 100, 4096, 4099, 65536})
    for (const int first : {0, 1, 30, 32766, 0xFFFC}) {
      const some_counts counts(count, first, 12);
      std::vector<index_t> want(5, 0), out(6, 77);
      for (index_t i = 0; i < count; ++i) {
        for (int j = 0; j < 4; ++j)
          want[static_cast<std::size_t>(j)] += counts.data()[i] >= first + j ? 1 : 0;
        want[4] += counts.data()[i] == 0xFFFF ? 1 : 0;
      }
      want.push_back(77);
      row.count_reaching(counts.data(), count, static_cast<std::uint16_t>(first), out.data());
      CAPTURE(row.name, count, first);
      CHECK(out == want);
    }
  // No counter of a lane overflows.
  const std::vector<std::uint16_t> all(65536, 0xFFFF);
  index_t out[5];
  row.count_reaching(all.data(), 65536, 3, out);
  for (const index_t found : out) CHECK(found == 65536);
}

inline void check_mark_reaching(const kernels::table& row) {
  for (const index_t count : {0, 1, 7, 31, 63, 64, 65, 128, 131, 200, 4096})
    for (const int threshold : {0, 1, 30, 32767, 32768, 0xFFFE, 0xFFFF}) {
      const some_counts counts(count, threshold, 13);
      const auto words = static_cast<std::size_t>((count + 63) / 64);
      std::vector<std::uint64_t> above(words + 1), equal(words + 1), out(words + 1, 77), same = out;
      above.back() = equal.back() = 77;
      for (index_t i = 0; i < count; ++i) {
        const std::uint64_t bit = std::uint64_t{1} << (i % 64);
        if (counts.data()[i] > threshold) above[static_cast<std::size_t>(i / 64)] |= bit;
        if (counts.data()[i] == threshold) equal[static_cast<std::size_t>(i / 64)] |= bit;
      }
      row.mark_reaching(counts.data(), count, static_cast<std::uint16_t>(threshold), out.data(),
                        same.data());
      CAPTURE(row.name, count, threshold);
      CHECK(out == above);
      CHECK(same == equal);
    }
}

inline void check_match_signs(const kernels::table& row) {
  std::mt19937_64 engine(10);
  for (int words = 1; words <= 9; ++words) {
    for (const index_t count : all_lengths) {
      CAPTURE(row.name, words, count);
      const fenced_memory memory(std::max<index_t>(count * words, 1) * 8, 0);
      auto* signs = reinterpret_cast<std::uint64_t*>(memory.data());
      for (index_t i = 0; i < count * words; ++i) signs[i] = engine();
      std::vector<std::uint64_t> query(static_cast<std::size_t>(words));
      for (auto& q : query) q = engine();
      std::vector<std::uint16_t> want, out(static_cast<std::size_t>(count + 1), 7777);
      for (index_t i = 0; i < count; ++i) {
        int equal = 0;
        for (int bit = 0; bit < 64 * words; ++bit) {
          const std::uint64_t both =
              signs[i * words + bit / 64] ^ query[static_cast<std::size_t>(bit / 64)];
          equal += (both >> (bit % 64) & 1) != 0 ? 0 : 1;
        }
        want.push_back(static_cast<std::uint16_t>(1 + equal));
      }
      want.push_back(7777);
      row.match_signs(signs, count, words, query.data(), out.data());
      CHECK(out == want);
    }
  }
}

/// Against the definition, the other half of the last word being anything.
inline void check_match_halves(const kernels::table& row) {
  std::mt19937_64 engine(11);
  for (const index_t count : all_lengths) {
    CAPTURE(row.name, count);
    const fenced_memory memory(std::max<index_t>((count + 1) / 2, 1) * 8, 0);
    auto* words = reinterpret_cast<std::uint64_t*>(memory.data());
    for (index_t i = 0; i < (count + 1) / 2; ++i) words[i] = engine();
    const auto query = static_cast<std::uint32_t>(engine());
    std::vector<std::uint16_t> want, out(static_cast<std::size_t>(count + 1), 7777);
    for (index_t i = 0; i < count; ++i) {
      int equal = 0;
      for (int bit = 0; bit < 32; ++bit)
        equal += (words[i / 2] >> (i % 2 * 32 + bit) & 1) == (query >> bit & 1) ? 1 : 0;
      want.push_back(static_cast<std::uint16_t>(1 + equal));
    }
    want.push_back(7777);
    row.match_halves(words, count, query, out.data());
    CHECK(out == want);
  }
}

/// The whole contract of one row of the table but for `check_dot_rows` and `check_sum_rows`, which take
/// longest.
inline void check_quick(const kernels::table& row) {
  check_upcoming(row);
  check_blocks(row);
  check_long_sum(row);
  check_max_of(row);
  check_exp_shifted(row);
  check_scan_codes(row);
  check_match_signs(row);
  check_match_halves(row);
  check_weigh_sums(row);
  check_byte_norms(row);
  check_within_reach(row);
  check_proposal_logs(row);
  check_scale_sums(row);
  check_not_below(row);
  check_count_reaching(row);
  check_mark_reaching(row);
  check_random_blocks(row);
}

/// The whole contract of one row of the table.
inline void check_table(const kernels::table& row) {
  check_dot_rows(row);
  check_sum_rows(row);
  check_quick(row);
}

}  // namespace vattn::test
