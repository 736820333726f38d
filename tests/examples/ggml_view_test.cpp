// SPDX-License-Identifier: Apache-2.0
#include "../../examples/llama.cpp/ggml_view.hpp"

#include <numeric>
#include <random>

#include "support/view_contract.hpp"

using namespace vattn;
using vattn_llama_cpp::element_of_ggml, vattn_llama_cpp::head_cells, vattn_llama_cpp::rows_of,
    vattn_llama_cpp::why_no_view;

namespace {

/// The members of ggml's tensor that count.
struct fake_tensor {
  int type = 0;
  std::int64_t ne[4] = {1, 1, 1, 1};
  std::size_t nb[4] = {};
  void* data = nullptr;
};

int number_of(element type) {
  switch (type) {
    case element::f32: return 0;
    case element::f16: return 1;
    case element::q8_0: return 8;
    case element::bf16: return 30;
  }
  return -1;
}

/// A cache tensor `[dim, heads, cells, streams]` as the engine lays it out, NaN but for rows that are put there.
class fake_cache {
public:
  fake_cache(element type, index_t dim, index_t heads, index_t cells, index_t streams)
      : memory_(row_bytes(type, dim) * heads * cells * streams) {
    const auto row = static_cast<std::size_t>(row_bytes(type, dim));
    tensor_.type = number_of(type);
    const index_t sizes[] = {dim, heads, cells, streams};
    std::copy_n(sizes, 4, tensor_.ne);
    tensor_.nb[0] = static_cast<std::size_t>(row_bytes(type, block_values(type)));
    tensor_.nb[1] = row;
    tensor_.nb[2] = row * static_cast<std::size_t>(heads);
    tensor_.nb[3] = tensor_.nb[2] * static_cast<std::size_t>(cells);
  }
  fake_tensor tensor() {
    fake_tensor all = tensor_;
    all.data = const_cast<std::byte*>(memory_.data());
    return all;
  }
  void put(index_t head, index_t cell, index_t stream, const void* row) {
    const auto at = static_cast<std::size_t>(head) * tensor_.nb[1] +
                    static_cast<std::size_t>(cell) * tensor_.nb[2] +
                    static_cast<std::size_t>(stream) * tensor_.nb[3];
    memory_.put(static_cast<index_t>(at), row, static_cast<index_t>(tensor_.nb[1]));
  }

private:
  test::cache_memory memory_;
  fake_tensor tensor_;
};

std::vector<std::int32_t> shuffled_cells(index_t rows, index_t cells) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(cells));
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), std::mt19937(3));
  all.resize(static_cast<std::size_t>(rows));
  return all;
}

}  // namespace

TEST_CASE("cells of one head and stream of a ggml cache answer as rows in one piece do") {
  for (const test::cache_plan& plan : test::view_plans())
    for (const bool in_place : {true, false}) {
      const test::random_cache c(plan);
      const rows_view keys = c.view().keys(), values = c.view().values();
      const std::vector<std::int32_t> cells = shuffled_cells(plan.rows, 2048);
      fake_cache k(keys.type(), keys.dim(), 3, 2048, 2), v(values.type(), values.dim(), 3, 2048, 2);
      for (index_t i = 0; i < plan.rows; ++i) {
        const index_t cell = in_place ? i : cells[static_cast<std::size_t>(i)];
        k.put(2, cell, 1, keys.row(i));
        v.put(2, cell, 1, values.row(i));
      }
      const head_cells view(rows_of(k.tensor(), 2, 1), rows_of(v.tensor(), 2, 1),
                            in_place ? nullptr : cells.data(), plan.rows);
      test::check_view(c.group(), view, c.view());
      test::check_rows(view.first(700), c.view().shard(0, 700));
    }
}

TEST_CASE("ggml's types are told by their numbers, and others are not taken") {
  for (const element type : {element::f32, element::f16, element::bf16, element::q8_0})
    CHECK(element_of_ggml(number_of(type)) == type);
  for (const int other : {2, 3, 6, 7, 9, 12, 14, 26, 28, -1, 1000}) CHECK(!element_of_ggml(other));
}

TEST_CASE("a tensor that is no cache of rows is refused with a reason") {
  fake_cache cache(element::q8_0, 64, 2, 32, 1);
  const fake_tensor good = cache.tensor();
  CHECK(why_no_view(good) == nullptr);
  const auto refused = [](fake_tensor t, const char* reason) {
    CAPTURE(reason);
    REQUIRE(why_no_view(t) != nullptr);
    CHECK(std::string(why_no_view(t)).find(reason) != std::string::npos);
    CHECK_THROWS_AS(rows_of(t, 0, 0), std::invalid_argument);
  };
  fake_tensor t = good;
  t.type = 2;
  refused(t, "type");
  t = good;
  t.ne[0] = 48;
  refused(t, "blocks");
  t = good;
  t.ne[0] = 8192;
  refused(t, "long");
  t = good;
  t.nb[0] = 68;
  refused(t, "contiguous");
  t = good;
  std::swap(t.nb[0], t.nb[2]);  // transposed values
  refused(t, "contiguous");
  CHECK_THROWS_AS(rows_of(good, 2, 0), std::invalid_argument);
  CHECK_THROWS_AS(rows_of(good, 0, 1), std::invalid_argument);
  CHECK_THROWS_AS(rows_of(good, -1, 0), std::invalid_argument);
  const rows_view rows = rows_of(good, 0, 0);
  CHECK_THROWS_AS(head_cells(rows, rows, nullptr, 33), std::invalid_argument);
  CHECK_THROWS_AS(head_cells(rows, rows, nullptr, -1), std::invalid_argument);
}
