// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/predictions.hpp"

#include <cmath>

#include "support/allocations.hpp"
#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("predictions hold one score a head and row") {
  predictions seen;
  seen.reset(3, 50);
  CHECK(seen.heads() == 3);
  CHECK(seen.rows() == 50);
  for (int h = 0; h < 3; ++h)
    for (std::size_t row = 0; row < 50; ++row)
      seen.scores(h)[row] = static_cast<float>(100 * h) + static_cast<float>(row);
  CHECK(std::as_const(seen).scores(2)[49] == 249.0F);
  CHECK(std::as_const(seen).scores(0)[49] == 49.0F);
  CHECK(seen.scores(1).size() == 50);
  CHECK(seen.scores(1).data() == seen.scores(0).data() + 50);
}

TEST_CASE("excluded rows score -inf for every head, the others stay") {
  predictions seen;
  seen.reset(2, 6);
  for (int h = 0; h < 2; ++h)
    for (float& x : seen.scores(h)) x = 1.0F;
  seen.scores(1)[3] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<row_t> rows{0, 3, 5};
  seen.exclude(rows);
  for (int h = 0; h < 2; ++h) {
    for (const std::size_t row : {0U, 3U, 5U})
      CHECK(seen.scores(h)[row] == -std::numeric_limits<float>::infinity());
    for (const std::size_t row : {1U, 2U, 4U}) CHECK(seen.scores(h)[row] == 1.0F);
  }
}

TEST_CASE("predictions hold counts instead") {
  predictions seen;
  seen.reset(3, 50);
  for (int h = 0; h < 3; ++h)
    for (std::size_t row = 0; row < 50; ++row)
      seen.counts(h)[row] = static_cast<std::uint16_t>(100 * h) + static_cast<std::uint16_t>(row);
  seen.counts(1)[7] = predictions::must_read;
  seen.exclude_counts(std::vector<row_t>{7, 49});
  CHECK(std::as_const(seen).counts(2)[48] == 248);
  CHECK(std::as_const(seen).counts(0)[48] == 48);
  CHECK(seen.counts(1).size() == 50);
  for (int h = 0; h < 3; ++h)
    for (const std::size_t row : {7U, 49U}) CHECK(seen.counts(h)[row] == predictions::not_free);
}

TEST_CASE("predictions allocate only where they have never been as large") {
  predictions seen;
  seen.reset(4, 1000);
  CHECK(test::count_allocations([&] {
          seen.reset(4, 1000);
          seen.reset(1, 4000);
          seen.reset(5, 1200);
        }) == 0);
}
