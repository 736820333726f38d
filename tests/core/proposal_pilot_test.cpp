// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/proposal_pilot.hpp"

#include "support/catch.hpp"
#include "support/with_drawing.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

namespace {

/// (1 - floor) over the sum of a head's weights relative to `largest`, over all rows that are not read anyway.
double per_sum_of(test::prepared_call& c, int h, double largest, double floor) {
  double sum = 0.0;
  for (index_t row = 0; row < 5000; ++row)
    if (!c.ws.exact.contains(static_cast<row_t>(row)))
      sum += std::exp(static_cast<double>(c.ws.seen.scores(h)[static_cast<std::size_t>(row)]) -
                      largest);
  return (1.0 - floor) / sum;
}

/// Lets all rows of at least a head's threshold wait, as a search leaves them, with others behind them.
template <class Scales>
void find_heavy(const Scales& scales, test::prepared_call& c) {
  reached_rows& waiting = scales.waiting();
  for (index_t row = 0; row < 5000; ++row) {
    bool heavy = row % 3 == 0;
    for (int h = 0; h < 2; ++h)
      heavy = heavy || static_cast<double>(c.ws.seen.scores(h)[static_cast<std::size_t>(row)]) >=
                           -scales.kept(h).searched.weight;
    if (!heavy || c.ws.exact.contains(static_cast<row_t>(row))) continue;
    for (int h = 0; h < 2; ++h)
      waiting.logs_of(h)[waiting.count] = c.ws.seen.scores(h)[static_cast<std::size_t>(row)];
    waiting.rows[waiting.count++] = static_cast<row_t>(row);
  }
}

}  // namespace

TEST_CASE("a pilot guesses the sum of all weights, and knows it better with the heavy rows",
          "[sampling]") {
  const auto check = [](double floor) {
    return [=](const auto& d, test::prepared_call& c) {
      const proposal_scales scales(d);
      proposal_pilot pilot(d);
      for (int h = 0; h < 2; ++h) {
        pilot.guess(h, 100.0);
        const poisson_scale& kept = scales.kept(h);
        CHECK(kept.per_sum[0] == Approx(per_sum_of(c, h, kept.largest[0], floor)).epsilon(0.5));
        CHECK(scales.sizes(h).size_at(scales.scale_for(h, 100.0)) == Approx(100.0).epsilon(1e-6));
        CHECK(kept.scale == 0.0);
      }
      find_heavy(scales, c);
      for (int h = 0; h < 2; ++h) {
        pilot.weigh_found(h);
        const poisson_scale& kept = scales.kept(h);
        CHECK(kept.per_sum[0] == Approx(per_sum_of(c, h, kept.largest[0], floor)).epsilon(0.05));
      }
    };
  };
  test::with_drawing(top_k::key_code(4, rows(0)), check(0.05));
  test::with_drawing(top_k::cascade(2, 4), check(0.1));
}

TEST_CASE("what a pilot says does not depend on the draw", "[sampling]") {
  test::with_drawing(top_k::key_code(4, rows(0)), [](const auto& d, test::prepared_call& c) {
    const proposal_scales scales(d);
    const auto weigh = [&](std::uint64_t seed) {
      const attention_call<kv_view> call(d.call.queries, d.call.kv, {.seed = seed});
      const drawing other{call, d.rest, d.predictor, d.index, c.ws};
      scales.waiting().count = 0;
      proposal_pilot pilot(other);
      pilot.guess(0, 100.0);
      pilot.guess(1, 100.0);
      find_heavy(scales, c);
      pilot.weigh_found(0);
      return scales.kept(0).per_sum[0];
    };
    CHECK(weigh(1) == weigh(2));
  });
}

TEST_CASE("rows that are read anyway are no part of a pilot", "[sampling]") {
  test::with_drawing(top_k::key_code(4, rows(0)), [](const auto& d, test::prepared_call&) {
    const proposal_scales scales(d);
    const proposal_pilot pilot(d);
    for (index_t i = 0; i < 3; ++i) CHECK(scales.shares_of(0)[i] == -HUGE_VALF);
    CHECK(std::isfinite(scales.shares_of(0)[3]));
  });
}
