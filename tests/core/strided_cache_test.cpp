// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/strided_cache.hpp"

#include "support/view_contract.hpp"

using namespace vattn;
using test::cache_memory, test::random_cache;

namespace {

/// A tensor's memory with the rows of `heads` caches in it, one a (batch, head).
struct tensor_memory {
  cache_memory memory;
  cache_extents extents;
  cache_strides strides;
  element type;
  index_t offset;

  tensor_memory(const std::vector<rows_view>& all, cache_extents sizes, cache_strides steps,
                index_t misalignment)
      : memory(misalignment + sizes.batches * steps.batch + sizes.heads * steps.head +
               sizes.rows * steps.row),
        extents(sizes),
        strides(steps),
        type(all[0].type()),
        offset(misalignment) {
    for (index_t b = 0; b < sizes.batches; ++b)
      for (index_t h = 0; h < sizes.heads; ++h) {
        const rows_view& rows = all[static_cast<std::size_t>(b * sizes.heads + h)];
        for (index_t i = 0; i < sizes.rows; ++i)
          memory.put(offset + b * steps.batch + h * steps.head + i * steps.row, rows.row(i),
                     rows.row_bytes());
      }
  }
  cache_tensor tensor() const { return {memory.data() + offset, type, extents, strides}; }
};

/// Strides of [batch, head, row, dim], or of [batch, row, head, dim].
cache_strides dense_strides(const cache_extents& e, index_t row, bool heads_inside) {
  if (heads_inside) return {e.rows * e.heads * row, row, e.heads * row};
  return {e.heads * e.rows * row, e.rows * row, row};
}

}  // namespace

TEST_CASE(
    "a strided cache hands out each head of each batch entry, in either order of dimensions") {
  constexpr index_t batches = 2, heads = 3;
  for (const test::cache_plan& plan : test::view_plans())
    for (const bool heads_inside : {false, true}) {
      std::vector<random_cache> all;
      std::vector<rows_view> keys, values;
      for (index_t i = 0; i < batches * heads; ++i) {
        test::cache_plan one = plan;
        one.seed = plan.seed + 10 * static_cast<std::uint64_t>(i);
        all.emplace_back(one);
      }
      for (const random_cache& c : all) {
        keys.push_back(c.view().keys());
        values.push_back(c.view().values());
      }
      const cache_extents k{batches, heads, plan.rows, plan.dim};
      const cache_extents v{batches, heads, plan.rows, plan.value_dim};
      const tensor_memory key_memory(keys, k,
                                     dense_strides(k, keys[0].row_bytes() + 3, heads_inside), 1);
      const tensor_memory value_memory(values, v,
                                       dense_strides(v, values[0].row_bytes(), !heads_inside), 0);
      const strided_cache cache(key_memory.tensor(), value_memory.tensor());
      CHECK(cache.batches() == batches);
      CHECK(cache.heads() == heads);
      CHECK(cache.rows() == plan.rows);
      for (index_t i = 0; i < batches * heads; ++i)
        test::check_rows(cache.view(i / heads, i % heads), all[static_cast<std::size_t>(i)].view());
      const random_cache& last = all.back();
      test::check_view_and_shards(last.group(), cache.view(batches - 1, heads - 1), last.view());
      test::check_rows(cache.view(1, 2, 77), last.view().shard(0, 77));
    }
}

TEST_CASE("memory may be shared among heads, and rows stay where they are") {
  const random_cache c({.rows = 20, .dim = 8, .value_dim = 8});
  const rows_view keys = c.view().keys();
  const cache_tensor shared(keys.row(0), element::f32, {3, 4, 20, 8}, {0, 0, 32});
  const strided_cache cache(shared, shared);
  CHECK(cache.view(2, 3).key_row(7) == keys.row(7));
  CHECK(cache.view(0, 1).value_row(7) == keys.row(7));
  const cache_tensor empty(nullptr, element::bf16, {1, 1, 0, 8}, {0, 0, 16});
  CHECK(strided_cache(empty, empty).view(0, 0).rows() == 0);
}

TEST_CASE("a strided cache refuses what would not be rows of its own") {
  const std::vector<float> m(1000);
  const auto tensor = [&](cache_extents extents, cache_strides strides) {
    return cache_tensor(m.data(), element::f32, extents, strides);
  };
  CHECK_THROWS_WITH(tensor({1, 1, 10, 8}, {0, 0, 31}),
                    "vattention: rows_view: want stride of at least one row in bytes, got 31");
  CHECK_THROWS_WITH(tensor({0, 1, 10, 8}, {0, 0, 32}),
                    "vattention: cache_tensor: want batches >= 1, got 0");
  CHECK_THROWS_WITH(tensor({1, -1, 10, 8}, {0, 0, 32}),
                    "vattention: cache_tensor: want heads >= 1, got -1");
  CHECK_THROWS_WITH(tensor({1, 2, 10, 8}, {0, -32, 64}),
                    "vattention: cache_tensor: want strides >= 0 bytes (of batches and heads), got "
                    "0, -32");
  const std::string apart =
      "vattention: cache_tensor: want strides at which no rows overlap (of batches, heads and rows, "
      "bytes), got ";
  CHECK_THROWS_WITH(tensor({1, 2, 10, 8}, {0, 32, 32}), apart + "0, 32, 32");
  CHECK_THROWS_WITH(tensor({1, 3, 10, 8}, {0, 32, 64}), apart + "0, 32, 64");
  CHECK_THROWS_WITH(tensor({1, 2, 10, 8}, {0, 319, 32}), apart + "0, 319, 32");
  CHECK_THROWS_WITH(tensor({2, 2, 4, 8}, {100, 32, 64}), apart + "100, 32, 64");
  CHECK_NOTHROW(tensor({1, 1, 10, 8}, {5, 7, 32}));
  CHECK_THROWS_AS(cache_tensor(m.data(), element::q8_0, {1, 1, 10, 48}, {0, 0, 68}),
                  std::invalid_argument);

  const cache_tensor ten = tensor({2, 2, 10, 8}, {640, 320, 32});
  CHECK_THROWS_WITH(
      ten.rows(2, 0, 10),
      "vattention: cache_tensor: want a batch of the cache (batch, batches), got 2, 2");
  CHECK_THROWS_WITH(ten.rows(1, -1, 10),
                    "vattention: cache_tensor: want a head of the cache (head, heads), got -1, 2");
  CHECK_THROWS_WITH(ten.rows(1, 1, 11),
                    "vattention: cache_tensor: want rows of the cache (wanted, there), got 11, 10");
  const std::string of_keys = "vattention: strided_cache: want as many ";
  CHECK_THROWS_WITH(strided_cache(ten, tensor({1, 2, 10, 8}, {640, 320, 32})),
                    of_keys + "batches of values as of keys, got 2, 1");
  CHECK_THROWS_WITH(strided_cache(ten, tensor({2, 1, 10, 8}, {640, 320, 32})),
                    of_keys + "heads of values as of keys, got 2, 1");
  CHECK_THROWS_WITH(strided_cache(ten, tensor({2, 2, 9, 8}, {640, 320, 32})),
                    of_keys + "values as keys, got 10, 9");
}
