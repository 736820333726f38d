// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/chi_square.hpp"

#include "support/catch.hpp"

using namespace vattn;

namespace {

struct point {
  double freedom, tail, x;
};
// Recipe (mpmath, mp.dps = 30): bisection of gammainc(v/2, 0, x/2, regularized=True).
constexpr point points[] = {
    {1, 1e-12, 1.5707963267948966e-24},  {1, 1e-06, 1.5707963267957189e-12},
    {1, 0.001, 1.5707971492624899e-6},   {1, 0.05, 0.0039321400000195232},
    {1, 0.2, 0.064184754667301588},      {1, 0.5, 0.45493642311957275},
    {2, 1e-12, 2.000000000001e-12},      {2, 1e-06, 2.0000010000006666e-6},
    {2, 0.001, 0.002001000667167067},    {2, 0.05, 0.10258658877510107},
    {2, 0.2, 0.44628710262841954},       {2, 0.5, 1.3862943611198906},
    {3.5, 1e-12, 3.6460311238568436e-7}, {3.5, 1e-06, 0.00097829316255768167},
    {3.5, 0.001, 0.051134045616148008},  {3.5, 0.05, 0.52006871084481295},
    {3.5, 0.2, 1.3191980316685214},      {3.5, 0.5, 2.8605894030665504},
    {10, 1e-12, 0.020778689705003601},   {10, 1e-06, 0.33812600324295451},
    {10, 0.001, 1.478743463835665},      {10, 0.05, 3.9402991361190601},
    {10, 0.2, 6.1790792560393918},       {10, 0.5, 9.3418177655919674},
    {31, 1e-12, 2.3909356155265604},     {31, 1e-06, 6.619488303457791},
    {31, 0.001, 12.196250348254325},     {31, 0.05, 19.28056855912929},
    {31, 0.2, 24.255056418353457},       {31, 0.5, 30.335942458198119},
    {99, 1e-12, 29.566787721521379},     {99, 1e-06, 45.834423983696188},
    {99, 0.001, 61.136506210447786},     {99, 0.05, 77.046331863760293},
    {99, 0.2, 87.005211910877703},       {99, 0.5, 98.334137334473929},
    {1000, 1e-12, 716.94947878949761},   {1000, 1e-06, 801.62443760686573},
    {1000, 0.001, 867.47908260727688},   {1000, 0.05, 927.59436302097905},
    {1000, 0.2, 962.18030919869261},     {1000, 0.5, 999.33341240338097},
    {20000, 1e-12, 18625.257939708453},  {20000, 1e-06, 19063.670234379613},
    {20000, 0.001, 19387.648771647452},  {20000, 0.05, 19672.170221710383},
    {20000, 0.2, 19831.484248299298},    {20000, 0.5, 19999.333337284095}};

}  // namespace

TEST_CASE("the lower quantile and tail of chi-square are right to 11 digits", "[chi_square]") {
  for (const point& p : points) {
    CAPTURE(p.freedom, p.tail);
    CHECK(chi_square_lower_quantile(p.tail, p.freedom) == Approx(p.x).epsilon(1e-11).margin(0.0));
    CHECK(std::exp(log_chi_square_lower_tail(p.x, p.freedom)) == Approx(p.tail).epsilon(2e-11));
  }
}

TEST_CASE("the chi-square quantile inverts the tail and rises with both", "[chi_square]") {
  double before_tail = 0.0;
  for (const double tail : {1e-12, 1e-4, 0.025, 0.3, 0.5}) {
    double before = 0.0;
    for (const double freedom : {1.0, 1.5, 2.0, 3.0, 7.0, 31.0, 32.0, 40.0, 333.0, 1e4, 1e6}) {
      CAPTURE(tail, freedom);
      const double x = chi_square_lower_quantile(tail, freedom);
      CHECK(std::exp(log_chi_square_lower_tail(x, freedom)) == Approx(tail).epsilon(1e-11));
      CHECK(x > before);
      CHECK(x < freedom);
      before = x;
    }
    CHECK(before > before_tail);
    before_tail = before;
  }
}

TEST_CASE("the chi-square quantile of what is no lower tail is NaN", "[chi_square]") {
  for (const double tail : {-0.1, 0.0, 0.51, std::nan("")})
    CHECK(std::isnan(chi_square_lower_quantile(tail, 5.0)));
  CHECK(std::isnan(chi_square_lower_quantile(0.1, 0.5)));
  CHECK(std::isnan(log_chi_square_lower_tail(0.0, 5.0)));
}
