// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/kv_view.hpp"

#include <array>
#include <type_traits>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

template <class T>
using row_major = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Element j of row i, of a float view.
float at(const rows_view& view, index_t i, index_t j) {
  return static_cast<const float*>(view.row(i))[j];
}

/// 10 i + j at row i, column j.
template <class Matrix>
Matrix numbered(Eigen::Index rows, Eigen::Index cols) {
  Matrix m(rows, cols);
  for (Eigen::Index i = 0; i < rows; ++i)
    for (Eigen::Index j = 0; j < cols; ++j)
      m(i, j) = static_cast<typename Matrix::Scalar>(static_cast<float>(10 * i + j));
  return m;
}

}  // namespace

TEST_CASE("element types know their size") {
  STATIC_REQUIRE(size_of(element::f32) == 4);
  STATIC_REQUIRE(size_of(element::bf16) == 2);
  STATIC_REQUIRE(size_of(element::f16) == 2);
  STATIC_REQUIRE(element_of<float> == element::f32);
  STATIC_REQUIRE(element_of<Eigen::bfloat16> == element::bf16);
  STATIC_REQUIRE(element_of<Eigen::half> == element::f16);
  STATIC_REQUIRE_FALSE(is_element<double>);
  STATIC_REQUIRE_FALSE(is_element<std::uint16_t>);
}

TEST_CASE("rows of blocks are whole blocks") {
  STATIC_REQUIRE(block_values(element::q8_0) == 32);
  STATIC_REQUIRE(block_values(element::bf16) == 1);
  STATIC_REQUIRE(row_bytes(element::q8_0, 128) == 136);
  STATIC_REQUIRE(row_bytes(element::f32, 3) == 12);
  STATIC_REQUIRE(row_bytes(element::f16, 3) == 6);
  const std::vector<std::byte> bytes(3 * 70);
  const rows_view view(bytes.data(), element::q8_0, 3, 64, 70);
  CHECK(view.row_bytes() == 68);
  CHECK(view.row(2) == bytes.data() + 140);
  const rows_view whole(bytes.data(), element::q8_0, 3, 64, 68);
  const kv_view kv(whole, view);
  CHECK(key_bytes(kv) == 68);
  CHECK_THROWS_WITH(rows_view(bytes.data(), element::q8_0, 3, 48, 70),
                    "vattention: rows_view: want dim a multiple of 32 for q8_0, got 48");
  CHECK_THROWS_WITH(rows_view(bytes.data(), element::q8_0, 3, 64, 67),
                    "vattention: rows_view: want stride of at least one row in bytes, got 67");
}

TEST_CASE("rows without a gap") {
  const std::array<float, 6> data{1, 2, 3, 4, 5, 6};
  const rows_view view(data.data(), 3, 2);
  CHECK(view.rows() == 3);
  CHECK(view.dim() == 2);
  CHECK(view.type() == element::f32);
  CHECK(view.row_bytes() == 8);
  CHECK(view.row(0) == data.data());
  CHECK(at(view, 2, 1) == 6.0F);
}

TEST_CASE("rows at a stride skip what lies between") {
  const std::array<float, 9> data{1, 2, -1, 3, 4, -1, 5, 6, -1};
  const rows_view view(data.data(), 3, 2, 3);
  CHECK(at(view, 0, 0) == 1.0F);
  CHECK(at(view, 1, 0) == 3.0F);
  CHECK(at(view, 2, 1) == 6.0F);
  CHECK(view.row_bytes() == 8);
}

TEST_CASE("a stride in bytes need not be a multiple of the element") {
  std::vector<std::byte> bytes(3 * 5);
  const rows_view view(bytes.data(), element::bf16, 3, 2, 5);
  CHECK(view.row(2) == bytes.data() + 10);
  CHECK(view.row_bytes() == 4);
}

TEMPLATE_TEST_CASE("a matrix is read along its contiguous side", "", float, Eigen::half,
                   Eigen::bfloat16) {
  const auto value = [](const rows_view& view, index_t i, index_t j) {
    return static_cast<float>(static_cast<const TestType*>(view.row(i))[j]);
  };
  const auto by_rows = numbered<row_major<TestType>>(4, 3);
  const rows_view rows(by_rows);
  CHECK(rows.type() == element_of<TestType>);
  CHECK(rows.rows() == 4);
  CHECK(rows.dim() == 3);
  CHECK(value(rows, 2, 1) == 21.0F);

  // The transpose of a row-major cache is column-major, with one cache row a column.
  const auto by_columns = numbered<Eigen::Matrix<TestType, Eigen::Dynamic, Eigen::Dynamic>>(3, 4);
  const rows_view columns(by_columns);
  CHECK(columns.rows() == 4);
  CHECK(columns.dim() == 3);
  CHECK(value(columns, 2, 1) == 12.0F);
}

TEST_CASE("matrices of fixed size are taken too") {
  const Eigen::Matrix<float, 5, 8, Eigen::RowMajor> m =
      numbered<Eigen::Matrix<float, 5, 8, Eigen::RowMajor>>(5, 8);
  const rows_view view(m);
  CHECK(view.rows() == 5);
  CHECK(view.dim() == 8);
  CHECK(at(view, 4, 7) == 47.0F);
}

TEST_CASE("a map with an outer stride is a view on part of a larger cache") {
  const row_major<float> cache = numbered<row_major<float>>(6, 8);
  using strided = Eigen::Map<const row_major<float>, 0, Eigen::OuterStride<>>;
  const strided middle(cache.data() + 2, 6, 4, Eigen::OuterStride<>(8));
  const rows_view view(middle);
  CHECK(view.rows() == 6);
  CHECK(view.dim() == 4);
  CHECK(at(view, 3, 0) == 32.0F);
  CHECK(at(view, 5, 3) == 55.0F);
}

TEST_CASE("a map whose rows are not contiguous is refused") {
  const std::vector<float> data(64);
  using stride = Eigen::Stride<Eigen::Dynamic, Eigen::Dynamic>;
  using gappy = Eigen::Map<const row_major<float>, 0, stride>;
  CHECK_THROWS_WITH(rows_view(gappy(data.data(), 4, 4, stride(16, 2))),
                    "vattention: rows_view: want rows with inner stride 1, got 2");
  // One element a row has no inner step.
  CHECK_NOTHROW(rows_view(gappy(data.data(), 4, 1, stride(16, 2))));
}

TEST_CASE("a default view has no rows") {
  const rows_view none;
  CHECK(none.rows() == 0);
  CHECK(none.dim() >= 1);
}

TEST_CASE("no rows need no memory") {
  CHECK_NOTHROW(rows_view(static_cast<const float*>(nullptr), 0, 64));
  CHECK_THROWS_WITH(rows_view(static_cast<const float*>(nullptr), 1, 64),
                    "vattention: rows_view: want a pointer to the rows, got null");
}

TEST_CASE("shapes that cannot be are refused") {
  const float data[8] = {};
  CHECK_THROWS_WITH(rows_view(data, -1, 4), "vattention: rows_view: want 0 <= rows < 2^31, got -1");
  CHECK_THROWS_AS(rows_view(data, index_t{1} << 31, 4), std::invalid_argument);
  CHECK_NOTHROW(rows_view(data, (index_t{1} << 31) - 1, 4));
  CHECK_THROWS_WITH(rows_view(data, 2, 0), "vattention: rows_view: want 1 <= dim <= 4096, got 0");
  CHECK_THROWS_AS(rows_view(data, 2, rows_view::max_dim + 1), std::invalid_argument);
  CHECK_NOTHROW(rows_view(data, 2, rows_view::max_dim));
  CHECK_THROWS_WITH(rows_view(data, 2, 4, 3),
                    "vattention: rows_view: want stride of at least one row in bytes, got 12");
  CHECK_THROWS_AS(rows_view(data, 2, 4, -4), std::invalid_argument);
}

TEST_CASE("a slice shares the memory") {
  const row_major<float> m = numbered<row_major<float>>(6, 4);
  const rows_view view(m);
  const rows_view part = view.slice(2, 3);
  CHECK(part.rows() == 3);
  CHECK(part.row(0) == view.row(2));
  CHECK(at(part, 2, 3) == 43.0F);
  CHECK(view.slice(6, 0).rows() == 0);
  CHECK(part.slice(1, 1).row(0) == view.row(3));
}

TEST_CASE("a slice outside the view is refused") {
  const row_major<float> m = numbered<row_major<float>>(6, 4);
  const rows_view view(m);
  CHECK_THROWS_WITH(view.slice(4, 3),
                    "vattention: rows_view::slice: want rows inside the view, got 4, 3");
  CHECK_THROWS_AS(view.slice(-1, 2), std::invalid_argument);
  CHECK_THROWS_AS(view.slice(0, -1), std::invalid_argument);
  CHECK_THROWS_AS(view.slice(7, 0), std::invalid_argument);
}

TEST_CASE("keys and values may differ in dimension and type") {
  const row_major<float> keys = numbered<row_major<float>>(5, 8);
  const auto values = numbered<row_major<Eigen::bfloat16>>(5, 3);
  const kv_view kv(keys, values);
  CHECK(kv.rows() == 5);
  CHECK(kv.key_dim() == 8);
  CHECK(kv.value_dim() == 3);
  CHECK(kv.key_type() == element::f32);
  CHECK(kv.value_type() == element::bf16);
  CHECK(kv.key_row(4) == keys.data() + 32);
  CHECK(kv.value_row(4) == values.data() + 12);
  CHECK(kv.first_row() == 0);
  CHECK(key_bytes(kv) == 32);
  CHECK(value_bytes(kv) == 6);
}

TEST_CASE("keys and values have the same rows") {
  const row_major<float> keys = numbered<row_major<float>>(5, 8);
  const row_major<float> values = numbered<row_major<float>>(4, 8);
  CHECK_THROWS_WITH(kv_view(keys, values),
                    "vattention: kv_view: want as many values as keys, got 5, 4");
  CHECK_THROWS_WITH(kv_view(rows_view(keys), rows_view(keys), -1),
                    "vattention: kv_view: want first_row >= 0, got -1");
}

TEST_CASE("a shard knows where it lies in the whole") {
  const row_major<float> keys = numbered<row_major<float>>(10, 4);
  const row_major<float> values = numbered<row_major<float>>(10, 2);
  const kv_view whole(keys, values);
  const kv_view shard = whole.shard(4, 5);
  CHECK(shard.rows() == 5);
  CHECK(shard.first_row() == 4);
  CHECK(shard.key_row(0) == whole.key_row(4));
  CHECK(shard.value_row(4) == whole.value_row(8));

  const kv_view part = shard.shard(2, 3);
  CHECK(part.first_row() == 6);
  CHECK(part.key_row(0) == whole.key_row(6));
  CHECK_THROWS_AS(shard.shard(3, 3), std::invalid_argument);
}

TEST_CASE("shards that follow each other cover every row once") {
  const row_major<float> keys = numbered<row_major<float>>(10, 4);
  const kv_view whole(keys, keys);
  index_t next = 0;
  for (const index_t count : {3, 3, 4}) {
    const kv_view shard = whole.shard(next, count);
    CHECK(shard.first_row() == next);
    for (row_t i = 0; i < static_cast<row_t>(count); ++i)
      CHECK(shard.key_row(i) == whole.key_row(static_cast<row_t>(next) + i));
    next += count;
  }
  CHECK(next == whole.rows());
}

namespace {

/// Blocks of two rows, anywhere in memory.
struct paged_cache {
  std::vector<std::array<float, 8>> pages;
  std::vector<int> table;
  const float* find(row_t row) const noexcept {
    return pages[static_cast<std::size_t>(table[row / 2])].data() + (row % 2) * 4;
  }
  index_t rows() const noexcept { return static_cast<index_t>(table.size()) * 2; }
  index_t key_dim() const noexcept { return 4; }
  index_t value_dim() const noexcept { return 4; }
  element key_type() const noexcept { return element::f32; }
  element value_type() const noexcept { return element::f32; }
  const void* key_row(row_t row) const noexcept { return find(row); }
  const void* value_row(row_t row) const noexcept { return find(row); }
  index_t first_row() const noexcept { return 0; }
};
/// As a paged cache, but `key_row` may throw.
struct throwing_cache : paged_cache {
  const void* key_row(row_t row) const { return find(row); }
};
/// A cache that says of its values neither where a row is nor where an element is.
struct keys_only {
  index_t rows() const noexcept { return 0; }
  index_t key_dim() const noexcept { return 4; }
  index_t value_dim() const noexcept { return 4; }
  element key_type() const noexcept { return element::f32; }
  element value_type() const noexcept { return element::f32; }
  const void* key_row(row_t /*row*/) const noexcept { return nullptr; }
  index_t first_row() const noexcept { return 0; }
};
/// It says where each element is: that of row i, element j is 100 i + j.
struct scattered_cache : keys_only {
  std::array<float, 400> numbers;
  const void* value_element(row_t i, index_t j) const noexcept {
    return numbers.data() + 100 * i + j;
  }
};

}  // namespace

TEST_CASE("a paged cache is a cache, one that may throw is none") {
  STATIC_REQUIRE(cache_view<paged_cache>);
  STATIC_REQUIRE_FALSE(cache_view<throwing_cache>);
  STATIC_REQUIRE_FALSE(cache_view<rows_view>);
  STATIC_REQUIRE_FALSE(cache_view<keys_only>);
  STATIC_REQUIRE(contiguous_values<paged_cache>);
  STATIC_REQUIRE(cache_view<scattered_cache>);
  STATIC_REQUIRE(scattered_values<scattered_cache>);
  CHECK(value_bytes(scattered_cache{}) == 4 * 64);
  const paged_cache cache{{{1, 1, 1, 1, 2, 2, 2, 2}, {3, 3, 3, 3, 4, 4, 4, 4}}, {1, 0}};
  CHECK(*static_cast<const float*>(cache.key_row(0)) == 3.0F);
  CHECK(*static_cast<const float*>(cache.key_row(3)) == 2.0F);
  CHECK(key_bytes(cache) == 16);
}
