// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/reached_rows.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("lists of reached rows are appended to, taken from and closed up") {
  reached_rows all, some;
  all.reset(2, 20);
  some.reset(2, 10);
  const auto set = [](reached_rows& list, index_t at, row_t row) {
    list.rows[at] = row;
    list.numbers[at] = static_cast<std::uint16_t>(10 * row);
    for (int h = 0; h < 2; ++h)
      list.logs_of(h)[at] = static_cast<float>(row) + 0.5F * static_cast<float>(h);
  };
  const auto holds = [](const reached_rows& list, const std::vector<row_t>& rows) {
    if (list.count != static_cast<index_t>(rows.size())) return false;
    for (index_t i = 0; i < list.count; ++i) {
      const row_t row = rows[static_cast<std::size_t>(i)];
      if (list.rows[i] != row || list.numbers[i] != 10 * row) return false;
      for (int h = 0; h < 2; ++h)
        if (list.logs_of(h)[i] != static_cast<float>(row) + 0.5F * static_cast<float>(h))
          return false;
    }
    return true;
  };
  for (index_t i = 0; i < 3; ++i) set(all, 2 + i, static_cast<row_t>(i));
  for (index_t i = 0; i < 4; ++i) set(all, 12 + i, static_cast<row_t>(3 + i));
  all.close_up(2, 3, 2);
  all.close_up(12, 4, 2);
  CHECK(holds(all, {0, 1, 2, 3, 4, 5, 6}));
  const std::vector<row_t> places{0, 2, 4};  // of those from place 2 on
  some.append(all, 2, places, 2);
  CHECK(holds(some, {2, 4, 6}));
  all.remove(2, places, 2);
  CHECK(holds(all, {0, 1, 5, 3}));
  all.remove(0, {}, 2);
  CHECK(holds(all, {0, 1, 5, 3}));
}

TEST_CASE("rates of reach cover what is not larger, and grow") {
  reach_rates rates;
  CHECK(rates.cover(reach_rates{}));
  CHECK_FALSE(rates.cover({-3.0, -5.0}));
  rates.raise({-3.0, -5.0});
  CHECK(rates.cover({-3.0, -5.0}));
  CHECK_FALSE(rates.cover({-2.9, -5.0}));
  CHECK_FALSE(rates.cover({-3.0, -4.9}));
  rates.raise({-4.0, -4.0});
  CHECK(rates.weight == -3.0);
  CHECK(rates.even == -4.0);
  CHECK(rates.within({-5.0, -1.0}).weight == -5.0);
  CHECK(rates.within({-5.0, -1.0}).even == -4.0);
}
