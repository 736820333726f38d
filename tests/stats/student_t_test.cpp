// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/student_t.hpp"

#include "support/catch.hpp"
#include "vattention/stats/normal.hpp"

using namespace vattn;

namespace {

struct point {
  double freedom, tail, t;
};
// Recipe (mpmath, mp.dps = 30): bisection of betainc(v/2, 1/2, 0, v / (v + t^2), regularized=True)
// / 2.
constexpr point points[] = {
    {1, 1e-12, 318309886183.79068},     {1, 1e-06, 318309.88618274349},
    {1, 0.001, 318.30883898555044},     {1, 0.05, 6.3137515146750427},
    {1, 0.2, 1.3763819204711734},       {1, 0.49, 0.031426266043351176},
    {2, 1e-12, 707106.78118548687},     {2, 1e-06, 707.10572052593382},
    {2, 0.001, 22.327124770119875},     {2, 0.05, 2.9199855803537256},
    {2, 0.2, 1.0606601717798212},       {2, 0.49, 0.028289929799333577},
    {3.5, 1e-12, 3163.030683798015},    {3.5, 1e-06, 61.045121207720625},
    {3.5, 0.001, 8.3155676045161173},   {3.5, 0.05, 2.2224334936496015},
    {3.5, 0.2, 0.95675883393231092},    {3.5, 0.49, 0.026902352906549578},
    {10, 1e-12, 40.532096178662597},    {10, 1e-06, 9.7519954909405802},
    {10, 0.001, 4.1437004940465897},    {10, 0.05, 1.8124611228116764},
    {10, 0.2, 0.87905782855058865},     {10, 0.49, 0.02570289300809031},
    {31, 1e-12, 11.200207192884789},    {31, 1e-06, 5.828601803899664},
    {31, 0.001, 3.3748992804233022},    {31, 0.05, 1.6955187825458655},
    {31, 0.2, 0.85337029569694369},     {31, 0.49, 0.025271988772294758},
    {99, 1e-12, 8.0369826099720406},    {99, 1e-06, 5.051973998252516},
    {99, 0.001, 3.1746038497557522},    {99, 0.05, 1.6603911560169909},
    {99, 0.2, 0.84526703195349678},     {99, 0.49, 0.025132332554701435},
    {1000, 1e-12, 7.1242289253144091},  {1000, 1e-06, 4.7816086204583506},
    {1000, 0.001, 3.0984021639129229},  {1000, 0.05, 1.6463788172854647},
    {1000, 0.2, 0.84198082216242852},   {1000, 0.49, 0.025075180209466442},
    {20000, 1e-12, 7.038925322416715},  {20000, 1e-06, 4.7548266356206256},
    {20000, 0.001, 3.0906398618543306}, {20000, 0.05, 1.6449298189594817},
    {20000, 0.2, 0.84163920598815063},  {20000, 0.49, 0.025069221818961237}};

}  // namespace

TEST_CASE("Student's quantile and tail are right to 11 digits", "[student_t]") {
  for (const point& p : points) {
    CAPTURE(p.freedom, p.tail);
    CHECK(student_t_upper_quantile(p.tail, p.freedom) == Approx(p.t).epsilon(1e-11));
    CHECK(std::exp(log_student_t_upper_tail(p.t, p.freedom)) == Approx(p.tail).epsilon(2e-11));
  }
}

TEST_CASE("Student's quantile inverts the tail, falls with freedom, and ends at the normal one",
          "[student_t]") {
  for (const double tail : {1e-12, 1e-4, 0.025, 0.3, 0.499}) {
    double before = std::numeric_limits<double>::infinity();
    for (const double freedom : {1.0, 1.5, 2.0, 3.0, 7.0, 15.0, 16.0, 40.0, 333.0, 1e4, 1e6}) {
      CAPTURE(tail, freedom);
      const double t = student_t_upper_quantile(tail, freedom);
      CHECK(std::exp(log_student_t_upper_tail(t, freedom)) == Approx(tail).epsilon(1e-11));
      CHECK(t < before);
      before = t;
    }
    CHECK(before > normal_upper_quantile(tail));
    CHECK(before == Approx(normal_upper_quantile(tail)).epsilon(2e-5));
  }
  CHECK(std::isfinite(log_student_t_upper_tail(1e9, 1000.0)));  // far below the smallest double
}

TEST_CASE("Student's quantile of what is no tail is NaN", "[student_t]") {
  for (const double tail : {-0.1, 0.0, 0.5, 0.7, std::nan("")})
    CHECK(std::isnan(student_t_upper_quantile(tail, 5.0)));
  CHECK(std::isnan(student_t_upper_quantile(0.1, 0.5)));
  CHECK(std::isnan(log_student_t_upper_tail(0.0, 5.0)));
  CHECK(std::isnan(log_student_t_upper_tail(1.0, std::nan(""))));
}
