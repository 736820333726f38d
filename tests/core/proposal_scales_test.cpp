// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/proposal_scales.hpp"

#include "support/catch.hpp"
#include "support/with_drawing.hpp"
#include "vattention/top_k/cascade.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

namespace {

/// Both heads have 1,000 rows of share 1 / 2,000, and as much for the rest.
template <class Scales>
void fill(const Scales& scales) {
  for (int h = 0; h < 2; ++h) {
    scales.kept(h) = {};
    scales.kept(h).largest[0] = 3.0;
    scales.kept(h).per_sum[0] = 0.001;
    scales.kept(h).reach = 0.5F;
    scales.sizes(h).clear();
    scales.sizes(h).add(1.0F / 2000.0F, 1000.0);
    scales.sizes(h).add(1.0F / 8000.0F, 4000.0);
  }
}

}  // namespace

TEST_CASE("scales grow with the size, and all of the residual is certain") {
  test::with_drawing(top_k::key_code(4, rows(0)), [](const auto& d, test::prepared_call&) {
    proposal_scales scales(d);
    fill(scales);
    scales.set_size(0, 100.0);
    CHECK(scales.kept(0).scale == Approx(100.0).epsilon(0.07));
    CHECK(scales.kept(0).size == 100.0);
    CHECK(scales.scale_for(0, 50.0) == scales.kept(0).scale);
    CHECK(scales.scale_for(0, 200.0) == Approx(200.0).epsilon(0.07));
    CHECK(std::isinf(scales.scale_for(0, 4996.0)));
    scales.set_size(0, 1e9);
    CHECK(scales.kept(0).size == 4996.0);
    CHECK(scales.kept(1).scale == 0.0);
  });
}

TEST_CASE("terms and rates say how a log-weight becomes a proposal, and when it is reached") {
  test::with_drawing(top_k::cascade(2, 4), [](const auto& d, test::prepared_call&) {
    const proposal_scales scales(d);
    fill(scales);
    const double even = 0.1 / 4996.0;
    const kernels::proposal_terms terms = scales.terms_of(0, 0);
    CHECK(terms.offset == Approx(std::log(0.001) - 3.0));
    CHECK(terms.floor == Approx(std::log(even)));
    CHECK(terms.reach == 0.5F);
    CHECK(scales.terms_of(0, 1).reach == 0.0F);
    const reach_rates rates = scales.rates_at(0, 20.0);
    CHECK(rates.weight == Approx(std::log(20.0 * 0.001) - 3.0));
    CHECK(rates.even == Approx(std::log(20.0 * even)));
    kernels::reach_terms by[2];
    scales.kept(0).searched = rates;
    scales.kept(1).searched = scales.rates_at(1, 40.0);
    scales.reach_of(&poisson_scale::searched, by);
    CHECK(by[0].shift == 3.0F);
    CHECK(by[1].rise - by[0].rise == Approx(1.0));  // twice the scale
    CHECK(by[0].floor == Approx(std::log2(20.0 * even)));
    scales.kept(0).scale = 20.0;
    scales.kept(1).scale = 40.0;
    CHECK(scales.covers(&poisson_scale::searched));
    scales.kept(1).scale = 40.5;
    CHECK_FALSE(scales.covers(&poisson_scale::searched));
    CHECK_FALSE(scales.covers(&poisson_scale::settled));
  });
}

TEST_CASE("a head whose weights all vanish is reached evenly") {
  test::with_drawing(top_k::key_code(4, rows(0)), [](const auto& d, test::prepared_call&) {
    const proposal_scales scales(d);
    fill(scales);
    scales.kept(0).per_sum[0] = 0.0;
    CHECK(scales.rates_at(0, 5.0).weight == -HUGE_VAL);
    CHECK(scales.rates_at(0, 5.0).even == Approx(std::log(5.0 * 0.05 / 4996.0)));
  });
}
