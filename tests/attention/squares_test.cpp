// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/squares.hpp"

#include "support/catch.hpp"
#include "support/estimate.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("squares are what each drawn row contributes", "[squares]") {
  const random_cache c({.rows = 900, .dim = 48, .value_dim = 33, .heads = 3});
  const chosen_rows chosen = choose_rows(900, 10, 0.5, design::independent, 5);
  workspace ws;
  const query_group queries = c.group();
  const kv_view kv = c.view();
  run_pass(queries, kv, chosen, design::independent, 900 - std::ssize(chosen.exact), ws);
  const attention_call<kv_view> call(queries, kv, {});
  for (int h = 0; h < 3; ++h) {
    const estimate want = estimate_of(queries, kv, h, chosen, design::independent, 0);
    const Eigen::VectorXd l = logits(queries, kv, h), o = want.output();
    for (const contribution what :
         {contribution::denominator, contribution::numerator, contribution::output}) {
      CAPTURE(h, static_cast<int>(what));
      form_squares(call, ws, what);
      REQUIRE(ws.drawn.size() == std::ssize(chosen.drawn));
      const float* got = ws.squares_of(h);
      double largest = 0.0;
      std::vector<double> squares;
      for (const row_t row : chosen.drawn) {
        const double w = std::exp(l[row] - want.max_logit);
        const Eigen::VectorXd v =
            vattn::detail::widen(kv.value_row(row), kv.value_type(), kv.value_dim());
        squares.push_back(w * w *
                          (what == contribution::denominator ? 1.0
                           : what == contribution::numerator ? v.squaredNorm()
                                                             : (v - o).squaredNorm()));
        largest = std::max(largest, squares.back());
      }
      for (std::size_t i = 0; i < squares.size(); ++i)
        CHECK(static_cast<double>(got[i]) ==
              Approx(squares[i]).epsilon(1e-4).margin(1e-6 * largest));
    }
  }
}
