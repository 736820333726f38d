// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512_amx.hpp"

#include "support/kernel_sweep.hpp"

#if VATTN_AMX_KERNELS

namespace vattn::test {

namespace {

/// Multiplies as the unit does, in floats.
struct made_up_unit {
  static void begin() noexcept {}
  static void end() noexcept {}
  static float number(std::uint16_t bits) noexcept {
    return std::bit_cast<float>(std::uint32_t{bits} << 16U);
  }
  static void multiply(const std::uint16_t* rows, index_t slice, const std::uint16_t* queries,
                       float* out) noexcept {
    for (index_t i = 0; i < 32; ++i)
      for (index_t n = 0; n < 16; ++n) {
        float sum = 0.0F;
        for (index_t j = 0; j < slice; j += 2)
          for (index_t odd = 0; odd < 2; ++odd)
            sum += number(rows[i * slice + j + odd]) *
                   number(queries[16 * (j / 32 * 32) + j % 32 * 16 + 2 * n + odd]);
        out[16 * i + n] = sum;
      }
  }
};

/// Calls `check(row)` for the AVX-512 row with products by made-up tiles, and by those of the CPU if it has any.
template <class Check>
void for_each_unit(Check check) {
  if (!kernels::supported(kernels::isa::avx512)) return;
  kernels::table row = kernels::get(kernels::isa::avx512);
  row.dot_rows = kernels::avx512::dot_rows_amx<made_up_unit>;
  check(row);
  if (!kernels::avx512::may_use_amx()) return;
  row.dot_rows = kernels::avx512::dot_rows_amx<>;
  check(row);
}

}  // namespace

TEST_CASE("dot products by tiles keep the contract", "[kernels]") {
  for_each_unit([](const kernels::table& row) {
    check_dot_rows(row);
    check_bf16_queries(row);
  });
}

TEST_CASE("tiles of queries hold pairs of elements side by side", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  constexpr index_t dim = 70, slice = 96;
  for (const int heads : {4, 7, 16, 21}) {
    std::vector<float> x;
    for (index_t i = 0; i < heads * dim; ++i) x.push_back(static_cast<float>(i % 251 + 1));
    alignas(64) std::uint16_t packed[24 * slice];
    alignas(64) std::uint16_t tiles[16 * slice];
    REQUIRE(kernels::avx512::pack_queries(x.data(), dim, heads, dim, packed, slice));
    for (int h = 0; h < heads; h += 16) {
      kernels::avx512::arrange_tiles(packed, slice, h, heads, tiles);
      for (index_t j = 0; j < slice; ++j)
        for (int n = 0; n < 16; ++n) {
          const index_t at = 16 * (j / 32 * 32) + j % 32 / 2 * 32 + 2 * n + j % 2;
          const bool there = j < dim && h + n < heads;
          const float want = there ? x[static_cast<std::size_t>((h + n) * dim + j)] : 0.0F;
          CAPTURE(heads, h, n, j);
          REQUIRE(std::bit_cast<float>(std::uint32_t{tiles[at]} << 16U) == want);
        }
    }
  }
}

TEST_CASE(
    "rows are copied with zeros behind them, and the last one stands for those that are not there",
    "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  constexpr index_t dim = 40, slice = 64, count = 21;
  std::vector<std::uint16_t> keys;
  for (index_t i = 0; i < count * dim; ++i)
    keys.push_back(kernels::bf16_nearest(static_cast<float>(i + 1)));
  std::vector<const void*> rows;
  for (index_t i = 0; i < count; ++i) rows.push_back(keys.data() + i * dim);
  alignas(64) std::uint16_t block[32 * slice];
  const auto copy = [&] {
    return kernels::avx512::copy_rows(rows.data(), count, dim, slice, block, {}, 0);
  };
  CHECK(copy());
  for (index_t i = 0; i < 32; ++i)
    for (index_t j = 0; j < slice; ++j) {
      const auto from = static_cast<std::size_t>(std::min(i, count - 1) * dim + j);
      REQUIRE(block[i * slice + j] == (j < dim ? keys[from] : 0));
    }
  for (const float small : {0x1p-50F, 0x1p-126F, -0x1p-133F}) {
    const std::uint16_t was = keys[77];
    keys[77] = kernels::bf16_nearest(small);
    CHECK_FALSE(copy());
    keys[77] = was;
  }
  keys[77] = 0x8000;  // -0 is no small number
  CHECK(copy());
}

TEST_CASE("products are turned into a row a query", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  std::vector<float> products(32 * 16);
  for (std::size_t i = 0; i < products.size(); ++i) products[i] = static_cast<float>(i);
  for (const int used : {1, 4, 6, 16})
    for (const index_t count : {1, 15, 16, 17, 32}) {
      std::vector<float> out(16 * 40, -1.0F);
      kernels::avx512::store_products(products.data(), used, count, out.data(), 40);
      for (index_t h = 0; h < 16; ++h)
        for (index_t i = 0; i < 40; ++i) {
          CAPTURE(used, count, h, i);
          const auto want = h < used && i < count ? static_cast<float>(16 * i + h) : -1.0F;
          REQUIRE(out[static_cast<std::size_t>(40 * h + i)] == want);
        }
    }
}

TEST_CASE("copies lie in the buffer, on a line, a row short of their rows", "[kernels]") {
  alignas(64) static std::uint16_t buffer[32 * 256 + 2048];
  alignas(64) static char rows[3 * 4096];
  for (const index_t slice : {32, 96, 128, 256})
    for (index_t at = 0; at < 8192; at += 34) {
      const std::uint16_t* copies = kernels::avx512::place_of_copies(rows + at, slice, buffer);
      REQUIRE(copies >= buffer);
      REQUIRE(copies + 32 * slice <= std::end(buffer));
      REQUIRE(reinterpret_cast<std::uintptr_t>(copies) % 64 == 0);
      const auto behind =
          reinterpret_cast<std::uintptr_t>(rows + at) - reinterpret_cast<std::uintptr_t>(copies);
      CHECK((behind - static_cast<std::uintptr_t>(2 * slice)) % 4096 < 64);
    }
}

TEST_CASE("small elements count as much by tiles as in any other row", "[kernels]") {
  constexpr index_t dim = 96, count = 70;
  constexpr int heads = 4;
  for_each_unit([](const kernels::table& row) {
    for (const index_t at : {0, 31, 32, 63, 69}) {
      std::vector<std::uint16_t> keys(static_cast<std::size_t>(dim * count));
      std::vector<const void*> rows;
      for (index_t i = 0; i < count; ++i) rows.push_back(keys.data() + i * dim);
      keys[static_cast<std::size_t>(at * dim + 5)] = kernels::bf16_nearest(0x1p-130F);
      const std::vector<float> x(static_cast<std::size_t>(heads * dim), 0x1p100F);
      std::vector<float> out(static_cast<std::size_t>(heads * count));
      row.dot_rows(element::bf16, rows.data(), count, 0, dim, x.data(), dim, heads, out.data(),
                   count);
      for (int h = 0; h < heads; ++h)
        for (index_t i = 0; i < count; ++i)
          REQUIRE(out[static_cast<std::size_t>(h * count + i)] == (i == at ? 0x1p-30F : 0.0F));
    }
  });
}

}  // namespace vattn::test

#endif
