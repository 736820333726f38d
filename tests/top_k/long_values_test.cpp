// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/long_values.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

/// Values of 4 normal coordinates; rows 50 and 300 are 100 times as long, row 10 is as well but too early.
test::prepared_call with_long_values() {
  test::prepared_call c({400, 16, 2});
  for (const index_t row : {10, 50, 300}) c.head.values.row(row) *= 100.0F;
  return c;
}

}  // namespace

TEST_CASE("rows far above the root mean square before them are listed") {
  test::prepared_call c({400, 16, 1});
  top_k::long_values usual;
  usual.append(c.view());
  CHECK(usual.rows().empty());
  c.head.values.row(50) *= 100.0F;
  c.head.values.row(300) *= 100.0F;
  top_k::long_values found;
  found.append(c.view());
  CHECK(found.rows() == std::vector<row_t>{50, 300});
}

TEST_CASE("a list grown row by row equals one made at once") {
  test::prepared_call c = with_long_values();
  c.head.values(77, 1) = std::nanf("");
  const kv_view kv = c.view();
  top_k::long_values once, grown;
  once.append(kv);
  for (index_t rows = 1; rows <= 400; ++rows) grown.append(kv.shard(0, rows));
  CHECK(grown.rows() == once.rows());
  CHECK(grown.mean_square() == once.mean_square());
}

TEST_CASE("the mean square counts every row but those that are not finite") {
  test::prepared_call c = with_long_values();
  top_k::long_values values;
  CHECK(values.mean_square() == 0.0);
  values.append(c.view());
  CHECK(values.mean_square() ==
        Approx(c.head.values.cast<double>().squaredNorm() / 400.0).epsilon(1e-5));
  c.head.values.row(20).setZero();
  const double without = c.head.values.cast<double>().squaredNorm();
  c.head.values(20, 1) = std::nanf("");
  top_k::long_values damaged;
  damaged.append(c.view());
  CHECK(damaged.mean_square() == Approx(without / 400.0).epsilon(1e-5));
}

TEST_CASE("listed rows are marked for the heads that see them") {
  test::prepared_call c({400, 16, 2});
  c.head.values.row(50) *= 100.0F;
  c.head.values.row(300) *= 100.0F;
  top_k::long_values found;
  found.append(c.view());
  predictions seen;
  seen.reset(2, 400);
  for (int h = 0; h < 2; ++h) std::fill_n(seen.scores(h).begin(), 400, 1.0F);
  seen.scores(1)[50] = -std::numeric_limits<float>::infinity();
  found.mark(0, 300, seen.scores(0).data(), 400, 2);
  CHECK(std::isnan(seen.scores(0)[50]));
  CHECK(seen.scores(1)[50] == -std::numeric_limits<float>::infinity());
  CHECK(seen.scores(0)[300] == 1.0F);  // not visible
  CHECK(seen.scores(0)[51] == 1.0F);
  std::vector<float> block(2 * 16, 1.0F);
  found.mark(288, 16, block.data(), 16, 2);
  for (std::size_t i = 0; i < block.size(); ++i) CHECK(std::isnan(block[i]) == (i % 16 == 12));
}

TEST_CASE("rows of ordinary weight and huge values do not escape the default") {
  // 8 of 8192 rows, values 1000 times as long; 40 seeds, at most the binomial point of delta at 1e-4.
  synthetic_head head = make_head(head_kind::mixed, 8192, 64, 32, 1, 3);
  for (index_t row = 700; row < 8000; row += 1000) head.values.row(row) *= 1000.0F;
  const exact_attention want = reference(head.group(), head.view());
  const auto functor = presets::standard(epsilon{0.1}, delta{0.1});
  const auto index = functor.make_index(head.view());
  workspace ws;
  int beyond = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed)
    beyond += relative_error(functor(head.group(), head.view(), index, {.seed = seed}, ws).output,
                             want.output) > 0.1
                  ? 1
                  : 0;
  CHECK(beyond <= 12);
}
