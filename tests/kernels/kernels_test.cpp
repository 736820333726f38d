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

TEST_CASE("a NaN in a row reaches its own products and no other", "[kernels]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> values(20 * 40, 1.0f);
  values[7 * 40 + 39] = nan;
  std::vector<const void*> rows;
  for (std::size_t i = 0; i < 20; ++i) rows.push_back(values.data() + 40 * i);
  const std::vector<float> x(40, 1.0f);
  for (const kernels::isa id : kernels::all_isas) {
    if (!kernels::supported(id)) continue;
    float dots[20], norms[20], sum[40] = {};
    kernels::get(id).dot_rows(element::f32, rows.data(), 20, 0, 40, x.data(), 40, 1, dots, 20);
    kernels::get(id).sum_rows(element::f32, rows.data(), 20, 0, 40, x.data(), 20, 1, sum, 40,
                              norms);
    for (int i = 0; i < 20; ++i) {
      CHECK((i == 7 ? std::isnan(dots[i]) : dots[i] == 40));
      CHECK((i == 7 ? std::isnan(norms[i]) : norms[i] == 40));
    }
    for (int j = 0; j < 40; ++j) CHECK((j == 39 ? std::isnan(sum[j]) : sum[j] == 20));
  }
}

}  // namespace vattn::test
