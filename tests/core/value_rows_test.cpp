// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/value_rows.hpp"

#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/core/transposed_view.hpp"

using namespace vattn;

namespace {

/// Element j of a value that the workspace addresses.
float value_at(const workspace& ws, element type, index_t i, index_t j) {
  return kernels::to_float(type, ws.addresses[i], j);
}

template <class T>
void check_copies(index_t count) {
  constexpr index_t rows = 300, dim = 37;
  std::vector<T> m(static_cast<std::size_t>(rows * dim));
  for (std::size_t k = 0; k < m.size(); ++k) m[k] = T(static_cast<float>(k % 251));
  const std::vector<float> keys(static_cast<std::size_t>(rows));
  const transposed_view kv(rows_view(keys.data(), rows, 1),
                           columns_view(m.data(), rows, dim, rows));
  workspace ws;
  ws.reserve(1, rows, 1, dim, false);
  const auto row_of = [](index_t i) { return static_cast<row_t>(i * 89 % rows); };
  CHECK(address_values(kv, count, 20, row_of, ws) == count);
  bool same = true;
  for (index_t i = 0; i < count; ++i)
    for (index_t j = 0; j < dim; ++j)
      same = same &&
             value_at(ws, element_of<T>, i, j) == static_cast<float>((j * rows + row_of(i)) % 251);
  CHECK(same);
}

}  // namespace

TEST_CASE("values in rows stay where they are, those to come too") {
  const test::random_cache c({.rows = 400, .dim = 8, .value_dim = 16});
  workspace ws;
  ws.reserve(1, 400, 8, 16, false);
  const auto row_of = [](index_t i) { return static_cast<row_t>(399 - i); };
  CHECK(address_values(c.view(), 256, 64, row_of, ws) == 320);
  for (index_t i = 0; i < 320; ++i) CHECK(ws.addresses[i] == c.view().value_row(row_of(i)));
}

TEST_CASE("scattered values are copied together, whatever the type and number") {
  for (const index_t count : {0, 1, 31, 32, 33, 64, 255, 256}) {
    CAPTURE(count);
    check_copies<float>(count);
    check_copies<Eigen::bfloat16>(count);
    check_copies<Eigen::half>(count);
  }
}
