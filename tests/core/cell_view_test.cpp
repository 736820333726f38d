// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/cell_view.hpp"

#include <random>

#include "support/view_contract.hpp"
#include "vattention/core/transposed_view.hpp"

using namespace vattn;
using test::cache_memory, test::random_cache;

namespace {

/// A cell of `cells` for each row, in random order or ascending with holes.
std::vector<std::int32_t> some_cells(index_t rows, index_t cells, bool ascending) {
  std::vector<std::int32_t> all;
  for (std::int32_t cell = 0; cell < cells; ++cell) all.push_back(cell);
  std::shuffle(all.begin(), all.end(), std::mt19937(5));
  all.resize(static_cast<std::size_t>(rows));
  if (ascending) std::sort(all.begin(), all.end());
  return all;
}

/// A store of `cells` cells, NaN but for the rows that the list puts there.
cache_memory store_rows(const rows_view& rows, const std::vector<std::int32_t>& cells,
                        index_t size) {
  cache_memory memory(size * rows.row_bytes());
  for (index_t i = 0; i < rows.rows(); ++i)
    memory.put(cells[static_cast<std::size_t>(i)] * rows.row_bytes(), rows.row(i),
               rows.row_bytes());
  return memory;
}

}  // namespace

TEST_CASE("cells of a store answer as rows in one piece do") {
  for (const test::cache_plan& plan : test::view_plans())
    for (const bool ascending : {false, true}) {
      const random_cache c(plan);
      const rows_view keys = c.view().keys(), values = c.view().values();
      const std::vector<std::int32_t> cells = some_cells(plan.rows, 2000, ascending);
      const cache_memory k = store_rows(keys, cells, 2000), v = store_rows(values, cells, 2000);
      const kv_view store(
          rows_view(k.data(), keys.type(), 2000, keys.dim(), keys.row_bytes()),
          rows_view(v.data(), values.type(), 2000, values.dim(), values.row_bytes()));
      test::check_view_and_shards(c.group(), cell_view(store, cells), c.view());
    }
}

TEST_CASE("cells of a store with transposed values answer in the same way") {
  const random_cache c({.rows = 1500, .dim = 64, .value_dim = 32, .heads = 2});
  const rows_view keys = c.view().keys();
  const std::vector<std::int32_t> cells = some_cells(1500, 2000, true);
  const cache_memory k = store_rows(keys, cells, 2000);
  cache_memory v(32 * 2000 * 4);
  for (index_t i = 0; i < 1500; ++i)
    for (index_t j = 0; j < 32; ++j)
      v.put((j * 2000 + cells[static_cast<std::size_t>(i)]) * 4, &c.values(i, j), 4);
  const transposed_view store(rows_view(k.data(), element::f32, 2000, 64, 256),
                              columns_view(v.data(), element::f32, 2000, 32, 8000));
  test::check_view_and_shards(c.group(), cell_view(store, cells), c.view());
}

TEST_CASE("a list of cells must lie in the store") {
  const std::vector<float> m(40);
  const rows_view rows(m.data(), 10, 4);
  const kv_view store(rows, rows);
  const std::vector<std::int32_t> cells{9, 0, 10}, below{3, -1};
  const std::string refused =
      "vattention: cell_view: want a cell of the store (cell, its place in the list, cells), got ";
  CHECK_THROWS_WITH(cell_view(store, cells), refused + "10, 2, 10");
  CHECK_THROWS_WITH(cell_view(store, below), refused + "-1, 1, 10");
  CHECK_THROWS_WITH(cell_view(store, {}, -1), "vattention: cell_view: want first_row >= 0, got -1");
  const std::span<const std::int32_t> two = std::span(cells).first(2);
  const cell_view kv(store, two, 50);
  CHECK(kv.rows() == 2);
  CHECK(kv.first_row() == 50);
  CHECK(kv.key_row(0) == m.data() + 36);
  CHECK(kv.shard(1, 1).first_row() == 51);
  CHECK(cell_view(store, {}).rows() == 0);
}
