// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/binomial.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace vattn;

namespace {

struct tail_point {
  index_t n;
  double p;
  index_t k;
  double log_tail;
};

// Recipe (mpmath, mp.dps = 50): the log of the sum of C(n, i) p^i (1 - p)^(n - i) over i = k .. n,
// with p the double next to the decimal; for n = 1e6 from exp(loggamma) and term ratios, the
// shorter side.
constexpr tail_point tails[] = {{1, 0.3, 1, -1.203972804325936},
                                {10, 0.5, 5, -0.47313352225466321},
                                {10, 0.5, 10, -6.9314718055994531},
                                {20, 0.9, 1, -9.9999999999999556e-21},
                                {20, 0.9, 15, -0.011316929730338025},
                                {60, 0.1, 15, -7.3147257475748263},
                                {60, 0.1, 1, -0.0017986268598636425},
                                {60, 0.1, 60, -138.15510557964274},
                                {100, 1e-9, 3, -50.176299538024035},
                                {1000, 0.02, 45, -14.074565042120884},
                                {1000, 0.5, 500, -0.66823506213263477},
                                {1000, 0.5, 300, -3.7668507235258065e-38},
                                {1000, 0.999, 1000, -1.0005003335835344},
                                {2000, 0.3, 1500, -863.35500547555396},
                                {1000000, 0.1, 101500, -15.001506068302651},
                                {1000000, 0.001, 900, -0.00061937928588578577},
                                {1000000, 0.25, 260000, -268.3844056884514}};

struct alarm_point {
  index_t n;
  double p, false_alarm;
  index_t point;
};

// Recipe (scipy 1.17): binom.isf(false_alarm, n, p).
constexpr alarm_point points[] = {
    {60, 0.1, 1e-3, 14}, {100, 0.1, 1e-3, 20},       {1000, 0.1, 1e-3, 130}, {1000, 0.01, 1e-6, 28},
    {30, 0.05, 1e-2, 5}, {200000, 0.02, 1e-9, 4381}, {10, 0.5, 0.9, 3},      {5, 0.1, 1e-12, 5}};

struct interval_point {
  index_t events, trials;
  double miss, lower, upper;
};

// Recipe (scipy 1.17): beta.ppf(miss / 2, x, n - x + 1) and beta.isf(miss / 2, x + 1, n - x).
constexpr interval_point intervals[] = {
    {0, 10, 0.05, 0.0, 0.30849710781876083},
    {1, 10, 0.05, 0.0025285785444617848, 0.4450161170281953},
    {5, 10, 0.05, 0.18708602844739855, 0.8129139715526015},
    {10, 10, 0.05, 0.6915028921812392, 1.0},
    {6, 60, 0.01, 0.026388859827469534, 0.24060457200247007},
    {3, 1000, 0.001, 0.00014984252803814014, 0.013858069267406337},
    {999, 1000, 0.05, 0.9944410757201734, 0.9999746825125088},
    {20000, 1000000, 0.01, 0.019641168088924944, 0.020363407046708016},
    {1, 1, 0.1, 0.05, 1.0}};

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();

}  // namespace

TEST_CASE("the binomial tail is right to 12 digits, also below the smallest double", "[binomial]") {
  for (const tail_point& t : tails) {
    CAPTURE(t.n, t.p, t.k);
    const double off = log_binomial_upper_tail(t.n, t.p, t.k) - t.log_tail;
    // Relative error of the probability, and of one minus it where that is the small one.
    CHECK(std::abs(off) < 2e-13 * std::min(1.0, std::abs(t.log_tail)));
  }
  CHECK(binomial_upper_tail(60, 0.1, 15) == Approx(0.0006656638480014862).epsilon(1e-13));
}

TEST_CASE("the binomial tail at its ends", "[binomial]") {
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK(log_binomial_upper_tail(10, 0.3, 0) == 0.0);
  CHECK(log_binomial_upper_tail(10, 0.3, -1) == 0.0);
  CHECK(log_binomial_upper_tail(10, 0.3, 11) == -infinity);
  CHECK(log_binomial_upper_tail(10, 0.0, 1) == -infinity);
  CHECK(log_binomial_upper_tail(10, 1.0, 10) == 0.0);
  CHECK(log_binomial_upper_tail(0, 0.5, 0) == 0.0);
  CHECK(binomial_upper_tail(0, 0.5, 1) == 0.0);
  CHECK(std::isnan(log_binomial_upper_tail(10, nan_value, 1)));
  CHECK(std::isnan(log_binomial_upper_tail(10, 1.5, 1)));
  CHECK(std::isnan(log_binomial_upper_tail(-1, 0.5, 1)));
}

TEST_CASE("the binomial tail falls in k and its two sides add up to one", "[binomial]") {
  for (const double p : {0.01, 0.3, 0.5, 0.77})
    for (index_t k = 1; k <= 200; ++k) {
      CAPTURE(p, k);
      CHECK(log_binomial_upper_tail(200, p, k) <= log_binomial_upper_tail(200, p, k - 1));
      // P(X >= k) + P(200 - X >= 201 - k) = 1
      CHECK(binomial_upper_tail(200, p, k) + binomial_upper_tail(200, 1 - p, 201 - k) ==
            Approx(1.0).epsilon(1e-12));
    }
}

TEST_CASE("the upper point is the least count that is still believable", "[binomial]") {
  for (const alarm_point& t : points) {
    CAPTURE(t.n, t.p, t.false_alarm);
    CHECK(binomial_upper_point(t.n, t.p, t.false_alarm) == t.point);
    CHECK(binomial_upper_tail(t.n, t.p, t.point + 1) <= t.false_alarm);
    CHECK(binomial_upper_tail(t.n, t.p, t.point) > t.false_alarm);
  }
  CHECK(binomial_upper_point(10, 0.5, 1.0) == 0);
  CHECK(binomial_upper_point(10, 0.5, 0.0) == 10);
  CHECK(binomial_upper_point(10, 0.0, 1e-3) == 0);
  CHECK(binomial_upper_point(10, 1.0, 1e-3) == 10);
  CHECK(binomial_upper_point(0, 0.5, 1e-3) == 0);
  CHECK(binomial_upper_point(10, nan_value, 1e-3) == -1);
  CHECK(binomial_upper_point(10, 0.5, nan_value) == -1);
}

TEST_CASE("Clopper-Pearson intervals", "[binomial]") {
  for (const interval_point& t : intervals) {
    CAPTURE(t.events, t.trials);
    const proportion_interval i = clopper_pearson(t.events, t.trials, t.miss);
    CHECK(i.lower == Approx(t.lower).epsilon(1e-11));
    CHECK(i.upper == Approx(t.upper).epsilon(1e-11));
  }
  CHECK(clopper_pearson(0, 0, 0.1).lower == 0.0);
  CHECK(clopper_pearson(0, 0, 0.1).upper == 1.0);
  CHECK(std::isnan(clopper_pearson(3, 2, 0.1).lower));
  CHECK(std::isnan(clopper_pearson(1, 2, 0.0).upper));
}

TEST_CASE("Clopper-Pearson intervals cover whatever the probability is", "[binomial]") {
  // Exact coverage at n = 40: the probabilities of all counts whose interval holds p.
  for (double p = 0.005; p < 1.0; p += 0.01) {
    double covered = 0.0;
    for (index_t k = 0; k <= 40; ++k) {
      const proportion_interval i = clopper_pearson(k, 40, 0.1);
      if (i.lower <= p && p <= i.upper)
        covered += binomial_upper_tail(40, p, k) - binomial_upper_tail(40, p, k + 1);
    }
    CAPTURE(p);
    CHECK(covered >= 0.9);
  }
}
