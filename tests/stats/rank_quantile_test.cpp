// SPDX-License-Identifier: Apache-2.0
#include "vattention/stats/rank_quantile.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr double deltas[] = {1e-6, 1e-4, 1e-3, 0.01, 0.05, 0.1, 0.2};

struct row {
  int rank;
  double exact[7];
};

// Recipe (scipy 1.17): chi2.isf(delta, rank) / rank for the deltas above, to 8 digits.
constexpr row table[] = {
    {1, {23.928127, 15.136705, 10.827566, 6.6348966, 3.8414588, 2.7055435, 1.6423744}},
    {2, {13.815511, 9.2103404, 6.9077553, 4.6051702, 2.9957323, 2.3025851, 1.6094379}},
    {3, {10.221617, 7.0358378, 5.4220787, 3.7816222, 2.6049093, 2.0837962, 1.5472092}},
    {4, {8.3442104, 5.8781856, 4.6167067, 3.319176, 2.3719323, 1.9448601, 1.4971542}},
    {6, {6.3763894, 4.6427235, 3.7429574, 2.8019823, 2.0985979, 1.7741068, 1.4263433}},
    {8, {5.3376142, 3.9784535, 3.2655602, 2.5112794, 1.9384141, 1.6701958, 1.3787614}},
    {12, {4.2354377, 3.2612003, 2.7424575, 2.1847473, 1.7521725, 1.545779, 1.3176655}},
    {16, {3.6452744, 2.8703062, 2.4532722, 1.9999954, 1.6435142, 1.4713643, 1.2790675}},
    {24, {3.0095356, 2.4422071, 2.1324416, 1.7908258, 1.5172929, 1.3831768, 1.2313881}},
    {32, {2.663486, 2.2053515, 1.9527256, 1.6714304, 1.4435706, 1.3307733, 1.2020723}},
    {48, {2.2845618, 1.9421022, 1.7507736, 1.535055, 1.3577244, 1.2688876, 1.166512}},
    {64, {2.0748045, 1.7942769, 1.6361926, 1.4565134, 1.3074259, 1.2321819, 1.1449389}}};

constexpr double far_deltas[] = {1e-12, 1e-10, 1e-9, 1e-8, 0.25, 0.3, 0.4, 0.5};

struct far_row {
  int rank;
  double exact[8];
};

// Recipe (mpmath, mp.dps = 40): the root of log(gammainc(rank / 2, x / 2, inf, regularized=True)) -
// log(delta), over the rank, for the deltas above.
constexpr far_row far_table[] = {{1,
                                  {50.84412791, 41.82145636, 37.32489305, 32.84125336, 1.323303697,
                                   1.074194171, 0.7083263008, 0.4549364231}},
                                 {2,
                                  {27.63102112, 23.02585093, 20.72326584, 18.42068074, 1.386294361,
                                   1.203972804, 0.9162907319, 0.6931471806}},
                                 {5,
                                  {13.04772724, 11.1124797, 10.13843874, 9.158917425, 1.325135953,
                                   1.212885997, 1.026373415, 0.8702920382}},
                                 {20,
                                  {5.027988449, 4.462785722, 4.173956218, 3.879900751, 1.191384602,
                                   1.138727254, 1.047568419, 0.9668714615}}};

/// Share by which the approximation exceeds the exact quantile.
double excess(const row& r, int column) {
  return rank_quantile(r.rank, deltas[column]) / r.exact[column] - 1.0;
}

}  // namespace

TEST_CASE("the rank quantile is never below the exact one", "[rank_quantile]") {
  for (const row& r : table)
    for (int column = 0; column < 7; ++column) {
      CAPTURE(r.rank, deltas[column]);
      CHECK(excess(r, column) > 0.0);
    }
}

TEST_CASE("the rank quantile is above the exact one by what it says", "[rank_quantile]") {
  constexpr double at_rank_one[] = {0.19, 0.11, 0.065, 0.025, 0.02, 0.02, 0.02};
  for (const row& r : table)
    for (int column = 0; column < 7; ++column) {
      CAPTURE(r.rank, deltas[column]);
      CHECK(excess(r, column) < at_rank_one[column]);
      if (r.rank >= 4) CHECK(excess(r, column) < 0.07);
      if (deltas[column] >= 0.02) CHECK(excess(r, column) < 0.02);
    }
}

TEST_CASE("the rank quantile is safe for shares of delta as small as 1e-12", "[rank_quantile]") {
  constexpr double at_rank_one[] = {0.4, 0.33, 0.3, 0.26};
  for (const far_row& r : far_table)
    for (int column = 0; column < 8; ++column) {
      CAPTURE(r.rank, far_deltas[column]);
      const double over = rank_quantile(r.rank, far_deltas[column]) / r.exact[column] - 1.0;
      CHECK(over > 0.0);
      if (column < 4) CHECK(over < at_rank_one[column]);
      if (column < 4 && r.rank >= 5) CHECK(over < 0.12);
    }
}

TEST_CASE("the rank quantile falls in the rank and in delta, and stops at .2", "[rank_quantile]") {
  for (const double delta : {1e-9, 1e-3, 0.1, 0.2})  // at .2 nearly level, .2 % up and down, to 1.2
    for (double rank = delta < 0.2 ? 1.0 : 1.25; rank < 256.0; rank *= 1.1)
      CHECK(rank_quantile(1.1 * rank, delta) < rank_quantile(rank, delta));
  for (double delta = 1e-9; delta < 0.15; delta *= 1.3)
    CHECK(rank_quantile(5.0, 1.3 * delta) < rank_quantile(5.0, delta));
  CHECK(rank_quantile(5.0, 0.9) == rank_quantile(5.0, 0.2));
}

TEST_CASE("the rank quantile at the edges", "[rank_quantile]") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(rank_quantile(0.3, 0.1) == rank_quantile(1.0, 0.1));
  CHECK(rank_quantile(std::numeric_limits<double>::infinity(), 0.1) == 1.0);
  for (const double delta : {0.0, 1.0, -1.0, nan}) CHECK(std::isnan(rank_quantile(4.0, delta)));
  CHECK(std::isnan(rank_quantile(nan, 0.1)));
}
