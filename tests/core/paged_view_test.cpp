// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/paged_view.hpp"

#include <numeric>
#include <random>

#include "support/kernel_sweep.hpp"
#include "support/view_contract.hpp"

using namespace vattn;
using test::cache_memory, test::random_cache;

namespace {

/// Pages of a pool of twice as many as needed, in random order, with entries that are no pages behind.
std::vector<std::int32_t> shuffled_table(index_t rows, index_t page_size, index_t& pages) {
  const index_t used = (rows + page_size - 1) / page_size;
  pages = 2 * used;
  std::vector<std::int32_t> table(static_cast<std::size_t>(pages));
  std::iota(table.begin(), table.end(), 0);
  std::shuffle(table.begin(), table.end(), std::mt19937(7));
  table.resize(static_cast<std::size_t>(used));
  table.insert(table.end(), {-1, 1 << 30});
  return table;
}

/// Rows put into the pages of a pool, from byte `offset` of it on.
cache_memory fill_pages(const rows_view& rows, const std::vector<std::int32_t>& table,
                        const page_layout& layout, index_t offset, index_t bytes) {
  cache_memory memory(bytes);
  for (index_t i = 0; i < rows.rows(); ++i) {
    const index_t page = table[static_cast<std::size_t>(i / layout.page_size)];
    memory.put(offset + page * layout.page_stride + i % layout.page_size * layout.row_stride,
               rows.row(i), rows.row_bytes());
  }
  return memory;
}

/// Head `head` of `heads` in a tensor of keys or of values, [pages, z, heads, dim] or
/// [pages, heads, z, dim]; with `both` the other half of each page belongs to the other tensor.
struct pool_plan {
  page_layout layout;
  index_t offset, bytes;
  pool_plan(index_t pages, index_t z, index_t row, bool nhd, bool both, index_t half) {
    constexpr index_t heads = 3, head = 1;
    const index_t page = z * heads * row;
    layout = {pages, z, (both ? 2 : 1) * page, nhd ? heads * row : row};
    offset = (both ? half * page : 0) + head * (nhd ? row : z * row);
    bytes = pages * layout.page_stride;
  }
};

}  // namespace

TEST_CASE("pages of vLLM's and flashinfer's layouts answer as one piece does") {
  int choice = 0;
  for (const test::cache_plan& plan : test::view_plans())
    for (const index_t z : {1, 7, 16, 256}) {
      const random_cache c(plan);
      index_t pages = 0;
      const std::vector<std::int32_t> table = shuffled_table(plan.rows, z, pages);
      const bool nhd = choice % 2 == 0, both = choice % 4 < 2;
      ++choice;
      CAPTURE(z, nhd, both);
      const auto pool = [&](const rows_view& rows, index_t half) {
        return pool_plan(pages, z, rows.row_bytes(), nhd, both, half);
      };
      const rows_view keys = c.view().keys(), values = c.view().values();
      const pool_plan k = pool(keys, 0), v = pool(values, 1);
      const cache_memory key_memory = fill_pages(keys, table, k.layout, k.offset, k.bytes);
      const cache_memory value_memory = fill_pages(values, table, v.layout, v.offset, v.bytes);
      const paged_view kv({key_memory.data() + k.offset, keys.type(), keys.dim(), k.layout},
                          {value_memory.data() + v.offset, values.type(), values.dim(), v.layout},
                          table, plan.rows);
      test::check_view_and_shards(c.group(), kv, c.view());
    }
}

TEST_CASE("a page that holds a row is read up to it, at any address") {
  for (const element type : {element::f32, element::q8_0}) {
    const random_cache c({.rows = 19, .dim = 64, .value_dim = 32, .keys = type, .values = type});
    for (const index_t gap : {0, 1}) {
      // Two pages of 16, the first one last: 13 rows of it must not be touched.
      const index_t row = row_bytes(type, 64), value = row_bytes(type, 32);
      const test::fenced_memory keys(19 * row, gap), values(19 * value, gap);
      const std::vector<std::int32_t> table{0, 1};
      for (index_t i = 0; i < 19; ++i) {
        std::memcpy(keys.data() + i * row, c.view().key_row(static_cast<row_t>(i)),
                    static_cast<std::size_t>(row));
        std::memcpy(values.data() + i * value, c.view().value_row(static_cast<row_t>(i)),
                    static_cast<std::size_t>(value));
      }
      const paged_view kv({keys.data(), type, 64, {2, 16, 16 * row, row}},
                          {values.data(), type, 32, {2, 16, 16 * value, value}}, table, 19);
      test::check_rows(kv, c.view());
      workspace ws;
      CHECK(relative_error(dense(c.group(), kv, ws).output, reference(c.group(), kv).output) <
            1e-5);
    }
  }
}

TEST_CASE("a paged view knows where it lies in the whole") {
  const std::vector<float> m(64);
  const std::vector<std::int32_t> table{3, 0, 2};
  const page_pool pool(m.data(), element::f32, 4, {4, 4, 64, 16});
  CHECK(pool.dim() == 4);
  CHECK(pool.type() == element::f32);
  const paged_view kv(pool, pool, table, 9, 1000);
  CHECK(kv.first_row() == 1000);
  CHECK(kv.key_row(0) == m.data() + 48);
  CHECK(kv.value_row(5) == m.data() + 4);
  CHECK(kv.key_row(8) == m.data() + 32);
  CHECK(kv.shard(5, 4).first_row() == 1005);
  CHECK(kv.shard(5, 4).shard(3, 1).key_row(0) == m.data() + 32);
  CHECK(paged_view(pool, pool, {}, 0).rows() == 0);
}

TEST_CASE("a paged view refuses tables and pools that do not fit") {
  const std::vector<float> m(1000);
  const auto pool = [&](page_layout layout) {
    return page_pool(m.data(), element::f32, 4, layout);
  };
  CHECK_THROWS_WITH(pool({4, 0, 64, 16}),
                    "vattention: page_pool: want 1 <= page size < 2^31, got 0");
  CHECK_THROWS_WITH(pool({4, -4, 64, 16}),
                    "vattention: page_pool: want 1 <= page size < 2^31, got -4");
  CHECK_THROWS_WITH(pool({-1, 4, 64, 16}), "vattention: page_pool: want 0 <= pages < 2^31, got -1");
  CHECK_THROWS_WITH(pool({4, 4, 64, 15}),
                    "vattention: rows_view: want stride of at least one row in bytes, got 15");
  CHECK_THROWS_WITH(pool({4, 4, 63, 16}),
                    "vattention: page_pool: want a page stride of at least one page of this head "
                    "(stride, page, bytes), got 63, 64");
  CHECK_NOTHROW(pool({4, 4, 112, 32}));
  CHECK_THROWS_AS(pool({4, 4, 111, 32}), std::invalid_argument);
  CHECK_THROWS_AS(page_pool(nullptr, element::f32, 4, {4, 4, 64, 16}), std::invalid_argument);
  CHECK_THROWS_AS(page_pool(m.data(), element::q8_0, 48, {4, 4, 300, 68}), std::invalid_argument);

  const page_pool four = pool({4, 4, 64, 16});
  const std::vector<std::int32_t> table{3, 0, 4, -1};
  const std::string refused = "vattention: paged_view: want ";
  CHECK_NOTHROW(paged_view(four, four, table, 8));
  CHECK_THROWS_WITH(
      paged_view(four, four, table, 9),
      refused + "a page of the pool (page, its place in the table, pages), got 4, 2, 4");
  const std::vector<std::int32_t> below{3, -1};
  CHECK_THROWS_WITH(
      paged_view(four, four, below, 5),
      refused + "a page of the pool (page, its place in the table, pages), got -1, 1, 4");
  CHECK_THROWS_WITH(paged_view(four, four, below, 9),
                    refused + "a table entry for every page of rows (needed, there), got 3, 2");
  CHECK_THROWS_WITH(paged_view(four, pool({4, 2, 64, 16}), table, 4),
                    refused + "pages of one size (keys, values), got 4, 2");
  CHECK_THROWS_WITH(paged_view(four, pool({5, 4, 64, 16}), table, 4),
                    refused + "as many pages of values as of keys, got 4, 5");
  CHECK_THROWS_WITH(paged_view(four, four, table, -1), refused + "0 <= rows < 2^31, got -1");
  CHECK_THROWS_WITH(paged_view(four, four, table, 4, -7), refused + "first_row >= 0, got -7");
}
