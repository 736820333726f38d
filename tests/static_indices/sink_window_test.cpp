// SPDX-License-Identifier: Apache-2.0
#include "vattention/static_indices/sink_window.hpp"

#include <limits>

#include "support/static_indices_contract.hpp"

using namespace vattn;
using static_indices::sink_window;
using list = std::vector<row_t>;

TEST_CASE("sink_window keeps the contract of static indices") {
  for (const index_t sinks : {0, 1, 32, 64, 65, 2000})
    for (const index_t window : {0, 1, 63, 64, 2000}) {
      CAPTURE(sinks, window);
      test::check_static_indices_contract(sink_window(sinks, window));
    }
}

TEST_CASE("sink_window takes the first and the last visible rows") {
  CHECK(test::static_rows(sink_window(2, 3), 10, 10) == list{0, 1, 7, 8, 9});
  CHECK(test::static_rows(sink_window(2, 3), 10, 50) == list{0, 1, 7, 8, 9});
  CHECK(test::static_rows(sink_window(0, 1), 10, 10) == list{9});
  CHECK(test::static_rows(sink_window(1, 0), 10, 10) == list{0});
  CHECK(test::static_rows(sink_window(0, 0), 10, 10).empty());
}

TEST_CASE("sinks and window that meet take every row, once") {
  for (const index_t visible : {0, 1, 2, 4, 5, 6, 7}) {
    CAPTURE(visible);
    const list rows = test::static_rows(sink_window(3, 4), visible, 7);
    CHECK(static_cast<index_t>(rows.size()) == visible);
  }
  CHECK(test::static_rows(sink_window(3, 4), 8, 8) == list{0, 1, 2, 4, 5, 6, 7});
}

TEST_CASE("counts beyond every cache are no trouble") {
  constexpr index_t most = std::numeric_limits<index_t>::max();
  CHECK(test::static_rows(sink_window(most, most), 5, 5) == list{0, 1, 2, 3, 4});
  CHECK(test::static_rows(sink_window(0, most), 5, 5) == list{0, 1, 2, 3, 4});
}

TEST_CASE("negative counts are refused") {
  CHECK_THROWS_WITH(sink_window(-1, 0), "vattention: sink_window: want counts >= 0, got -1, 0");
  CHECK_THROWS_AS(sink_window(0, -1), std::invalid_argument);
}
