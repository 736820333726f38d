// SPDX-License-Identifier: Apache-2.0
#include "vattention/kernels/kernels.hpp"

#include "support/kernel_sweep.hpp"

namespace vattn::test {

TEST_CASE("the active row keeps the contract of the table", "[kernels]") {
  check_quick(kernels::active());
}

TEST_CASE("rows may repeat and weights may be zero", "[kernels]") {
  const float values[3] = {1, -2, 4};
  const void* const rows[5] = {values, values, values, values, values};
  const float x[3] = {3, 5, 7}, weights[5] = {1, 0, 2, 0, 1};
  for (const kernels::isa id : kernels::all_isas) {
    if (!kernels::supported(id)) continue;
    const kernels::table& row = kernels::get(id);
    float dots[5], sum[3] = {1, 1, 1};
    row.dot_rows(element::f32, rows, 5, 0, 3, x, 3, 1, dots, 5);
    for (const float dot : dots) CHECK(dot == 21);
    row.sum_rows(element::f32, rows, 5, 0, 3, weights, 5, 1, sum, 3, nullptr);
    CHECK(sum[0] == 5);
    CHECK(sum[1] == -7);
    CHECK(sum[2] == 17);
  }
}

/// Twenty rows of `dim` ones but for element `at` of row 7.
void check_special(const kernels::table& row, index_t dim, index_t at, float special) {
  CAPTURE(row.name, dim, at, special);
  std::vector<float> values(static_cast<std::size_t>(20 * dim), 1.0F);
  values[static_cast<std::size_t>(7 * dim + at)] = special;
  std::vector<const void*> rows;
  for (index_t i = 0; i < 20; ++i) rows.push_back(values.data() + dim * i);
  const std::vector<float> x(static_cast<std::size_t>(std::max<index_t>(dim, 20)), 1.0F);
  std::vector<float> sum(static_cast<std::size_t>(dim), 0.0F);
  float dots[20], norms[20];
  row.dot_rows(element::f32, rows.data(), 20, 0, dim, x.data(), dim, 1, dots, 20);
  row.sum_rows(element::f32, rows.data(), 20, 0, dim, x.data(), 20, 1, sum.data(), dim, norms);
  const auto is = [&](float got, bool special_here, float otherwise) {
    if (!special_here) return got == otherwise;
    return std::isnan(special) ? std::isnan(got) : got == special;
  };
  for (index_t i = 0; i < 20; ++i) {
    CHECK(is(dots[i], i == 7, static_cast<float>(dim)));
    CHECK(is(norms[i], i == 7, static_cast<float>(dim)));
  }
  for (index_t j = 0; j < dim; ++j) CHECK(is(sum[static_cast<std::size_t>(j)], j == at, 20));
}

TEST_CASE("a NaN or infinity in a row reaches its own products and no other", "[kernels]") {
  for (const kernels::isa id : kernels::all_isas) {
    if (!kernels::supported(id)) continue;
    for (const index_t dim : {index_t{3}, index_t{40}, index_t{43}}) {
      for (index_t at = 0; at < dim; at += at < dim - 12 && at > 0 ? 7 : 1) {
        check_special(kernels::get(id), dim, at, std::numeric_limits<float>::quiet_NaN());
        check_special(kernels::get(id), dim, at, std::numeric_limits<float>::infinity());
      }
    }
  }
}

}  // namespace vattn::test
