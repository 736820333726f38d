// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/ring_view.hpp"

#include "support/view_contract.hpp"
#include "vattention/core/transposed_view.hpp"

using namespace vattn;
using test::cache_memory, test::random_cache;

namespace {

/// A store of `capacity` rows, NaN but for those of the ring that begins at `start`.
cache_memory turn(const rows_view& rows, index_t start, index_t capacity) {
  cache_memory memory(capacity * rows.row_bytes());
  for (index_t i = 0; i < rows.rows(); ++i)
    memory.put((start + i) % capacity * rows.row_bytes(), rows.row(i), rows.row_bytes());
  return memory;
}

}  // namespace

TEST_CASE("a ring answers as rows in one piece do, wherever it starts") {
  for (const test::cache_plan& plan : test::view_plans())
    for (const index_t capacity : {1500, 1600})
      for (const index_t start : {index_t{0}, index_t{700}, capacity - 1}) {
        const random_cache c(plan);
        const rows_view keys = c.view().keys(), values = c.view().values();
        const cache_memory k = turn(keys, start, capacity), v = turn(values, start, capacity);
        const kv_view store(
            rows_view(k.data(), keys.type(), capacity, keys.dim(), keys.row_bytes()),
            rows_view(v.data(), values.type(), capacity, values.dim(), values.row_bytes()));
        const ring_view ring(store, start, plan.rows);
        if (start == 700)
          test::check_view_and_shards(c.group(), ring, c.view());
        else
          test::check_rows(ring, c.view());
      }
}

TEST_CASE("a ring of transposed values, later in a sequence") {
  const std::vector<float> m{0, 1, 2, 3, 10, 11, 12, 13};
  const rows_view keys(m.data(), 4, 1);
  const transposed_view store(keys, columns_view(m.data(), 4, 2, 4));
  const ring_view ring(store, 3, 3, 77);
  STATIC_REQUIRE(scattered_values<ring_view<transposed_view>>);
  CHECK(ring.first_row() == 77);
  CHECK(ring.key_row(0) == m.data() + 3);
  CHECK(ring.value_element(0, 1) == m.data() + 7);
  CHECK(ring.value_element(1, 1) == m.data() + 4);
  CHECK(ring.shard(2, 1).value_element(0, 0) == m.data() + 1);
  CHECK(ring.shard(2, 1).first_row() == 79);
}

TEST_CASE("a ring refuses more than it holds") {
  const std::vector<float> m(40);
  const rows_view rows(m.data(), 10, 4);
  const kv_view store(rows, rows);
  const std::string refused = "vattention: ring_view: want ";
  CHECK_THROWS_WITH(ring_view(store, 0, 11),
                    refused + "rows within the capacity (rows, capacity), got 11, 10");
  CHECK_THROWS_WITH(ring_view(store, 0, -1),
                    refused + "rows within the capacity (rows, capacity), got -1, 10");
  CHECK_THROWS_WITH(ring_view(store, 10, 3),
                    refused + "a start within the capacity (start, capacity), got 10, 10");
  CHECK_THROWS_WITH(ring_view(store, -1, 3),
                    refused + "a start within the capacity (start, capacity), got -1, 10");
  CHECK_THROWS_WITH(ring_view(store, 0, 3, -5), refused + "first_row >= 0, got -5");
  CHECK(ring_view(store.shard(0, 0), 0, 0).rows() == 0);
}
