// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/avx512_bf16.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("dot products of bfloat16 with bfloat16 keep the contract", "[kernels]") {
  for (const kernels::isa id : kernels::all_isas)
    if (kernels::supported(id)) check_bf16_queries(kernels::get(id));
}

#if VATTN_X86_KERNELS

TEST_CASE("queries are packed only if nothing of them can be lost", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  const std::vector<float> good{1.0F, -0.0F, 0.0F, -3.5F, 0x1.02p-50F, -0x1p127F, 96.0F};
  const auto size = static_cast<index_t>(good.size());
  for (const float odd : {1.0F, 1.00390625F, 0x1p-50F, 0x1p-126F, 0x1p-133F, -0x1p-149F}) {
    CAPTURE(odd);
    for (std::size_t at = 0; at < good.size(); ++at) {
      std::vector<float> x = good;
      x[at] = odd;
      alignas(64) std::uint16_t packed[128];
      CHECK(kernels::avx512::pack_queries(x.data(), size, 1, size, packed, 32) == (odd == 1.0F));
      for (std::size_t j = 0; j < x.size() && odd == 1.0F; ++j)
        CHECK(std::bit_cast<float>(std::uint32_t{packed[j]} << 16U) == x[j]);
    }
  }
}

TEST_CASE("small elements count as much as in any other row", "[kernels]") {
  if (!kernels::supported(kernels::isa::avx512)) return;
  const kernels::table& row = kernels::get(kernels::isa::avx512);
  constexpr index_t dim = 96, count = 21;
  constexpr int heads = 4;
  // One element of one row is so small that the instruction would drop it; the query makes up for it.
  for (const float small : {0x1p-126F, 0x1p-127F, -0x1p-133F, 0x1p-100F}) {
    for (index_t at = 0; at < count; ++at) {
      std::vector<std::uint16_t> keys(static_cast<std::size_t>(dim * count));
      std::vector<const void*> rows;
      for (index_t i = 0; i < count; ++i) rows.push_back(keys.data() + i * dim);
      const auto element = static_cast<std::size_t>(at * dim + 5 * at % dim);
      keys[element] = kernels::bf16_nearest(small);
      const std::vector<float> x(static_cast<std::size_t>(heads * dim), 0x1p100F);
      std::vector<float> out(static_cast<std::size_t>(heads * count));
      row.dot_rows(element::bf16, rows.data(), count, 0, dim, x.data(), dim, heads, out.data(),
                   count);
      for (int h = 0; h < heads; ++h)
        for (index_t i = 0; i < count; ++i)
          REQUIRE(out[static_cast<std::size_t>(h * count + i)] ==
                  (i == at ? small * 0x1p100F : 0.0F));
    }
  }
}

TEST_CASE("what is not finite shows", "[kernels]") {
  const float inf = std::numeric_limits<float>::infinity();
  for (const kernels::isa id : kernels::all_isas) {
    if (!kernels::supported(id)) continue;
    std::vector<std::uint16_t> keys(5 * 64, kernels::bf16_nearest(1.0F));
    std::vector<const void*> rows;
    for (index_t i = 0; i < 5; ++i) rows.push_back(keys.data() + 64 * i);
    keys[64 + 7] = kernels::bf16_nearest(inf);
    keys[128 + 9] = 0x7fc0;
    const std::vector<float> x(4 * 64, 2.0F);
    std::vector<float> out(4 * 5);
    kernels::get(id).dot_rows(element::bf16, rows.data(), 5, 0, 64, x.data(), 64, 4, out.data(), 5);
    for (std::size_t h = 0; h < 4; ++h) {
      CHECK(out[5 * h] == 128.0F);
      CHECK(out[5 * h + 1] == inf);
      CHECK(std::isnan(out[5 * h + 2]));
      CHECK(out[5 * h + 3] == 128.0F);
    }
  }
}

#endif

}  // namespace vattn::test
