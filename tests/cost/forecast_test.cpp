// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/forecast.hpp"

#include "support/cost_contract.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("dense work counts every row, coordinate and query") {
  const call_work work = dense_work(some_call(1000, 4));
  CHECK(work.dense_byte == 1000.0 * 512.0);
  CHECK(work.dense_product == 1000.0 * 4.0 * 256.0);
  CHECK(work.dense_row == 4000.0);
  CHECK(work.call == 0.0);
  CHECK(work.row_byte == 0.0);
}

TEST_CASE("sparse work is counted of the sample") {
  const call_work work = sparse_work(
      some_call(1000, 3), {.rows = 50.0, .records = 200.0, .looks = 2.0, .summed = 80.0});
  CHECK(work.call == 1.0);
  CHECK(work.scanned_byte == 35000.0);
  CHECK(work.key == Approx(3.3 * 1000.0 * 4.0));
  CHECK(work.record == 800.0);
  CHECK(work.row_byte == 146.0 * 512.0);
  CHECK(work.drawn_row == 240.0);
  CHECK(work.look == 6.0);
  CHECK(work.look_value == 6.0 * 128.0);
  CHECK(work.dense_byte == 0.0);

  CHECK(work.bound == 0.0);
  call_prospect proved = some_call(1000, 3);
  proved.bounds = true;
  CHECK(sparse_work(proved, {}).bound == 3000.0);

  call_prospect plain = some_call(1000, 3);
  plain.levels = 0;
  CHECK(sparse_work(plain, {}).key == 4000.0);  // the selection
  plain.scanned_bytes = 0;
  CHECK(sparse_work(plain, {}).key == 0.0);
}

TEST_CASE("the expected sample grows with hardness, queries, rows and a smaller epsilon") {
  const auto rows = [](index_t n, int heads, double asked, double hardness) {
    return expected_sample(some_call(n, heads, asked), hardness).rows;
  };
  CHECK(rows(8192, 1, 0.1, 1.0) == Approx(140.0).epsilon(0.01));
  CHECK(rows(8192, 1, 0.1, 2.0) == Approx(2.0 * rows(8192, 1, 0.1, 1.0)));
  CHECK(rows(32768, 1, 0.1, 1.0) == Approx(2.0 * rows(8192, 1, 0.1, 1.0)));
  CHECK(rows(8192, 4, 0.1, 1.0) == Approx(std::pow(4.0, 0.8) * rows(8192, 1, 0.1, 1.0)));
  CHECK(rows(8192, 1, 0.02, 1.0) == Approx(std::pow(5.0, 0.8) * rows(8192, 1, 0.1, 1.0)));
  CHECK(rows(8192, 1, 1e-9, 1.0) == 8096.0);  // no more than there are
  CHECK(rows(8192, 1, 0.9, 1.0) == 64.0);     // the base sample at least
  CHECK(rows(8192, 1, 0.1, 0.0) == 64.0);
  CHECK(rows(8192, 1, std::numeric_limits<double>::quiet_NaN(), 5.0) == 64.0);
}

TEST_CASE("a sample beyond the base sample takes further looks, which sum all of it again") {
  const sample_outcome base = expected_sample(some_call(8192, 1, 0.9), 1.0);
  CHECK(base.looks == 1.0);
  CHECK(base.summed == base.rows);
  const sample_outcome grown = expected_sample(some_call(8192, 1, 0.1), 1.0);
  CHECK(grown.looks == Approx(1.0 + 0.55 * std::log2(140.3 / 64.0)).epsilon(1e-3));
  CHECK(grown.summed == Approx(grown.rows + (grown.looks - 1.0) * 64.0));
  const sample_outcome often = expected_sample(some_call(8192, 4, 0.01), 1.0);
  CHECK(often.looks > 3.0);
  CHECK(often.summed > 1.8 * often.rows);
  CHECK(often.summed < often.looks * often.rows);
}

TEST_CASE("records are refined by predictors of two levels alone, and no more than there are") {
  call_prospect call = some_call(16384);
  const sample_outcome two = expected_sample(call, 1.0);
  CHECK(two.records > 8.0 * two.rows);
  CHECK(two.records < 12.0 * two.rows);
  call.levels = 1;
  CHECK(expected_sample(call, 1.0).records == 0.0);
  for (const call_prospect& any : many_calls()) {
    const sample_outcome sample = expected_sample(any, 3.0);
    CHECK(sample.records >= 0.0);
    CHECK(sample.records <= static_cast<double>(any.rest()));
    CHECK(sample.rows >= 0.0);
    CHECK(sample.rows <= static_cast<double>(any.rest()));
    CHECK(time_of(sparse_work(any, sample), {}) > 0.0);
  }
}

TEST_CASE("a growth passes over the keys now and then, and looks at all that is drawn") {
  const call_prospect call = some_call(10096, 2);
  const growth_prospect growth{.drawn = 100, .refined = 1000, .more = 100.0};
  const call_work work = growth_work(call, growth);
  CHECK(work.call == 0.0);
  CHECK(work.scanned_byte == 0.0);
  CHECK(work.key == Approx(0.3 * 10096.0 * 3.0));
  CHECK(work.row_byte == 100.0 * 512.0);
  CHECK(work.drawn_row == 400.0);
  CHECK(work.look == 2.0);
  // Of what 100 rows left, .9, another 100 leave .9 again.
  CHECK(work.record == Approx(3.0 * 10000.0 * (0.9 - 0.81)));

  const growth_prospect all{.drawn = 100, .refined = 10000, .more = 100.0};
  CHECK(growth_work(call, all).record == 0.0);
  CHECK(growth_work(call, {.drawn = 100, .refined = 1000, .more = 200.0}).record > work.record);
  call_prospect uniform = call;
  uniform.levels = 0;
  CHECK(growth_work(uniform, growth).key == 0.0);
  CHECK(growth_work(uniform, growth).record == 0.0);
}
