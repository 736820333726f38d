// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/row_lists.hpp"

#include <random>

#include "support/catch.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("rows not below a threshold are listed in order, by any number of workers",
          "[selection]") {
  std::mt19937 engine(8);
  std::normal_distribution<float> normal;
  parallel::thread_pool pool(3);
  for (const index_t rows : {1, 4095, 4096, 4097, 20000}) {
    std::vector<float> scores(static_cast<std::size_t>(rows));
    for (float& x : scores) x = normal(engine);
    scores[static_cast<std::size_t>(rows / 2)] = std::numeric_limits<float>::quiet_NaN();
    for (const float threshold : {-9.0F, 0.0F, 1.5F, 9.0F}) {
      std::vector<row_t> want;
      for (row_t row = 0; row < scores.size(); ++row)
        if (!(scores[row] < threshold)) want.push_back(row);
      for (const bool together : {false, true}) {
        CAPTURE(rows, threshold, together);
        worker_spaces some;
        workspace& ws = some.of[0];
        ws.reserve(1, rows, 1, 1, true);
        if (together) ws.workers = team(pool, &some, worker_spaces::at);
        std::vector<row_t> out(scores.size() + 1, 77);
        const index_t count = list_not_below(scores, threshold, ws, out.data());
        CHECK(out.back() == 77);
        out.resize(static_cast<std::size_t>(count));
        CHECK(out == want);
      }
    }
  }
}
