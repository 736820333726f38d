// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/odd_rows.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("rows with a key that is not finite are listed and marked, hidden ones aside",
          "[top_k]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  top_k::odd_rows odd;
  for (index_t row = 0; row < 10; ++row) {
    std::vector<float> key{1.0F, -2.0F, std::numeric_limits<float>::max()};
    if (row == 3) key[2] = nan;
    if (row == 6) key[0] = -infinity;
    if (row == 8) key[1] = infinity;
    CHECK(odd.add(row, key) == (row == 3 || row == 6 || row == 8));
  }
  CHECK(odd.rows() == std::vector<row_t>{3, 6, 8});
  std::vector<float> scores(10, 0.5F);
  scores[8] = -infinity;
  odd.mark(4, 9, scores.data() + 4);
  for (std::size_t i = 0; i < 10; ++i) {
    CAPTURE(i);
    CHECK(std::isnan(scores[i]) == (i == 6));
  }
  CHECK(scores[8] == -infinity);
}
