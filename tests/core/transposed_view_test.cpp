// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/transposed_view.hpp"

#include "support/view_contract.hpp"

using namespace vattn;
using test::cache_memory, test::random_cache;

namespace {

/// Values `[d_v x rows]`, columns `stride` bytes apart.
cache_memory transpose(const rows_view& rows, index_t stride, index_t misalignment) {
  cache_memory memory(misalignment + rows.dim() * stride);
  const index_t size = size_of(rows.type());
  for (index_t i = 0; i < rows.rows(); ++i)
    for (index_t j = 0; j < rows.dim(); ++j)
      memory.put(misalignment + j * stride + i * size,
                 static_cast<const std::byte*>(rows.row(i)) + j * size, size);
  return memory;
}

}  // namespace

TEST_CASE("transposed values answer as rows do, and count the lines they touch") {
  for (test::cache_plan plan : test::view_plans()) {
    if (plan.values == element::q8_0) plan.values = element::f32;
    const random_cache c(plan);
    const rows_view values = c.view().values();
    for (const index_t gap : {0, 77}) {
      const index_t stride = plan.rows * size_of(values.type()) + gap;
      const cache_memory memory = transpose(values, stride, gap % 2);
      const columns_view columns(memory.data() + gap % 2, values.type(), plan.rows, values.dim(),
                                 stride);
      test::check_view_and_shards(c.group(), transposed_view(c.view().keys(), columns), c.view());
    }
  }
}

TEST_CASE("a sampled transposed value costs a cache line an element") {
  const random_cache c({.rows = 1500, .dim = 64, .value_dim = 32, .values = element::bf16});
  const cache_memory memory = transpose(c.view().values(), 3000, 0);
  const columns_view columns(memory.data(), element::bf16, 1500, 32, 3000);
  const transposed_view kv(c.view().keys(), columns);
  CHECK(key_bytes(kv) == 256);
  CHECK(value_bytes(kv) == 32 * 64);
  workspace ws;
  CHECK(dense(c.group(), kv, ws).certificates[0].bytes_touched == 1500 * (256 + 64));
  const auto attend = presets::standard(epsilon{0.3}, delta{0.1});
  const certificate got =
      attend(c.group(), kv, attend.make_index(kv), {.seed = 1}, ws).certificates[0];
  REQUIRE(got.rows_sampled > 0);
  CHECK(got.bytes_touched >= (got.rows_exact + got.rows_sampled) * (256 + 32 * 64));
}

TEST_CASE("typed columns, and element j of row i") {
  const std::vector<float> m{1, 2, 3, -1, 10, 20, 30, -1};
  const columns_view columns(m.data(), 3, 2, 4);
  CHECK(columns.rows() == 3);
  CHECK(columns.dim() == 2);
  CHECK(columns.type() == element::f32);
  CHECK(columns.at(2, 1) == m.data() + 6);
  CHECK(columns.slice(1, 2).at(1, 0) == m.data() + 2);
  CHECK_THROWS_AS(columns.slice(2, 2), std::invalid_argument);
  CHECK(columns_view().rows() == 0);
}

TEST_CASE("transposed values refuse what they cannot hold") {
  const std::vector<float> m(100);
  const auto columns = [&](element type, index_t rows, index_t dim, index_t stride) {
    return columns_view(m.data(), type, rows, dim, stride);
  };
  CHECK_THROWS_WITH(columns(element::q8_0, 10, 32, 100),
                    "vattention: columns_view: want f32, bf16 or f16, got q8_0");
  CHECK_THROWS_WITH(columns(element::f32, -1, 4, 40),
                    "vattention: columns_view: want 0 <= rows < 2^31, got -1");
  CHECK_THROWS_WITH(columns(element::f32, 10, 0, 40),
                    "vattention: columns_view: want 1 <= dim <= 4096, got 0");
  CHECK_THROWS_WITH(columns(element::f32, 10, 4, 39),
                    "vattention: columns_view: want stride of at least one element of each row in "
                    "bytes (stride, rows), got 39, 10");
  CHECK_THROWS_WITH(columns_view(nullptr, element::f32, 10, 4, 40),
                    "vattention: columns_view: want a pointer to the rows, got null");
  const rows_view keys(m.data(), 10, 8);
  CHECK_THROWS_WITH(transposed_view(keys, columns(element::f16, 9, 4, 20)),
                    "vattention: transposed_view: want as many values as keys, got 10, 9");
  CHECK_THROWS_WITH(transposed_view(keys, columns(element::f16, 10, 4, 20), -2),
                    "vattention: transposed_view: want first_row >= 0, got -2");
}
