// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/fit.hpp"

#include "support/cost_contract.hpp"
#include "vattention/cost/forecast.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Calls of many shapes that take the time of these prices.
std::vector<measured_call> calls_of(const cost_profile& prices) {
  std::vector<measured_call> all;
  for (const index_t dim : {32, 256})
    for (const int heads : {1, 8})
      for (const index_t rows : {1000, 30000}) {
        const call_prospect call = some_call(rows, heads, 0.1, dim);
        std::vector<call_work> works{dense_work(call)};
        for (const double drawn : {50.0, 1000.0})
          for (const double looks : {1.0, 3.0})
            works.push_back(sparse_work(call, {.rows = drawn,
                                               .records = heads == 1 ? 900.0 : 7.0 * drawn,
                                               .looks = looks,
                                               .summed = looks * drawn}));
        for (const call_work& work : works) all.push_back({work, time_of(work, prices)});
      }
  return all;
}

}  // namespace

TEST_CASE("times that the prior prices explain leave them as they are") {
  const cost_profile prior;
  const cost_profile fitted = fit_prices(calls_of(prior));
  for (const cost_item& item : cost_items)
    CHECK(fitted.*item.price == Approx(prior.*item.price).epsilon(1e-6));
}

TEST_CASE("a machine that is slower in everything has larger prices") {
  const cost_profile prior;
  cost_profile slow = prior;
  for (const cost_item& item : cost_items) slow.*item.price *= 3.0;
  const cost_profile fitted = fit_prices(calls_of(slow));
  for (const cost_item& item : cost_items)
    CHECK(fitted.*item.price == Approx(slow.*item.price).epsilon(1e-6));
}

TEST_CASE("prices are told apart where the calls tell them") {
  cost_profile real;
  real.dense_byte *= 2.0;
  real.record *= 0.5;
  real.key *= 1.7;
  const std::vector<measured_call> calls = calls_of(real);
  const cost_profile near = fit_prices(calls, {}, 1e-6);
  CHECK(near.dense_byte == Approx(real.dense_byte).epsilon(0.03));
  CHECK(near.record == Approx(real.record).epsilon(0.1));
  CHECK(near.key == Approx(real.key).epsilon(0.1));
  for (const measured_call& call : calls)
    CHECK(time_of(call.work, fit_prices(calls)) == Approx(call.time).epsilon(0.1));
}

TEST_CASE("what no call has to do with keeps its proportion to the others") {
  const cost_profile prior;
  call_work only;
  only.record = 1000.0;
  const std::vector<measured_call> calls{{only, 2000.0 * prior.record}};
  const cost_profile fitted = fit_prices(calls);
  CHECK(fitted.record == Approx(2.0 * prior.record));
  CHECK(fitted.look == Approx(2.0 * prior.look));
  CHECK(fitted.dense_byte == Approx(2.0 * prior.dense_byte));
}

TEST_CASE("noise makes no price vanish") {
  std::vector<measured_call> calls = calls_of({});
  for (std::size_t i = 0; i < calls.size(); ++i) calls[i].time *= i % 3 == 0 ? 0.2 : 2.5;
  const cost_profile fitted = fit_prices(calls, {}, 1e-9);
  CHECK_NOTHROW(require_prices("fitted", fitted));
}

TEST_CASE("what cannot be fitted is refused") {
  const std::vector<measured_call> good = calls_of({});
  CHECK_THROWS_WITH(fit_prices({}), "vattention: fit_prices: want measured calls, got 0");
  CHECK_THROWS_WITH(fit_prices(good, {}, 0.0),
                    "vattention: fit_prices: want a positive pull, got 0");
  for (const double bad : {0.0, -1.0, std::numeric_limits<double>::infinity()}) {
    std::vector<measured_call> calls = good;
    calls[2].time = bad;
    CHECK_THROWS_AS(fit_prices(calls), std::invalid_argument);
  }
  CHECK_THROWS_WITH(fit_prices(std::vector<measured_call>{{{}, 5.0}}),
                    "vattention: fit_prices: want calls that did something, got 0");
  cost_profile none;
  none.look = 0.0;
  CHECK_THROWS_WITH(fit_prices(good, none),
                    "vattention: fit_prices: want a positive finite look [ns], got 0");
}
