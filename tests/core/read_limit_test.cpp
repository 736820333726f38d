// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/read_limit.hpp"

#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// 10,000 visible rows, 200 exact, `drawn` sampled; a row has 64 bytes, a call 13,800 beside the sample's.
fake_outlook look_at(index_t drawn, double bytes_each = 64.0) {
  fake_outlook look(1, 9800, drawn);
  const partial_view state = look.state(0);
  state.rows_total() = 10000.0;
  state.rows_exact() = 200.0;
  state.rows_sampled() = static_cast<double>(drawn);
  state.bytes_touched() = look.fixed_bytes() + bytes_each * static_cast<double>(drawn);
  return look;
}

}  // namespace

TEST_CASE("a limit binds if all rows exceed it") {
  fake_outlook look = look_at(100);
  CHECK_FALSE(read_limit().binds(look));
  CHECK(at_most(rows(9999)).binds(look));
  CHECK_FALSE(at_most(rows(10000)).binds(look));
  CHECK_FALSE(at_most(fraction(1.0)).binds(look));
  CHECK(at_most(fraction(0.5)).binds(look));
  const index_t all = 1000 + 64 * (100 + 9700);  // what was touched, and the rows not read yet
  CHECK(at_most_bytes(all - 1).binds(look));
  CHECK_FALSE(at_most_bytes(all).binds(look));
  CHECK(at_most_bytes(0).binds(look));
}

TEST_CASE("a sample may grow to what is left, less three standard deviations") {
  // x + 3 sqrt(x) new rows of one head whose sample counts as 400
  const auto want = [](double left) {
    return 1.0 + std::pow(std::sqrt(left + 2.25) - 1.5, 2.0) / 400.0;
  };
  fake_outlook look = look_at(400);
  CHECK(at_most(rows(1800)).growth(look) == Approx(want(1200.0)));
  CHECK(at_most(fraction(0.18)).growth(look) == Approx(want(1200.0)));
  const auto bytes = static_cast<index_t>(look.fixed_bytes());
  CHECK(at_most_bytes(bytes + 4 * 400 * 64).growth(look) == Approx(want(1200.0)));
  // What a drawn row costs beside its key and value is in what was touched.
  fake_outlook dear = look_at(400, 128.0);
  CHECK(at_most_bytes(bytes + 4 * 400 * 64).growth(dear) == Approx(want(400.0)));
}

TEST_CASE("a group's sample is taken to grow as fast as its heads' own tails may") {
  const auto growth = [](double sampled, double uncertain) {
    fake_outlook look(2, 9800, 100);
    for (int h = 0; h < 2; ++h) {
      look.state(h).rows_total() = 10000.0;
      look.state(h).rows_sampled() = sampled;
      look.state(h).uncertain() = uncertain;
    }
    return at_most(rows(1000)).growth(look);
  };
  const auto want = [](double sampled, double doubling) {
    return 1.0 + std::pow(std::sqrt(1000.0 - sampled + 2.25) - 1.5, 2.0) / doubling;
  };
  // 40 certain rows; the same tail of 60 for both, a tail each, nothing but certain rows
  CHECK(growth(100.0, 60.0) == Approx(want(100.0, 100.0 * (60.0 + 3.0 * std::sqrt(60.0)) / 60.0)));
  CHECK(growth(160.0, 120.0) == Approx(want(160.0, 200.0)));
  CHECK(growth(100.0, 0.0) == Approx(want(100.0, 200.0)));
  CHECK(growth(100.0, 100.0) == Approx(want(100.0, 130.0)));
}

TEST_CASE("nothing is left of a limit that is reached, nor where nothing was drawn") {
  fake_outlook look = look_at(400);
  for (const index_t most : {0, 200, 599, 600}) CHECK(at_most(rows(most)).growth(look) == 1.0);
  CHECK(at_most_bytes(5).growth(look) == 1.0);
  fake_outlook none = look_at(0);
  CHECK(at_most(rows(5000)).growth(none) == 1.0);
}

TEST_CASE("a limit counts the rows of the query that sees most") {
  fake_outlook look(2, 9800, 100);
  for (int h = 0; h < 2; ++h) {  // query 0 does not see 5 of the rows that are read
    look.state(h).rows_total() = h == 0 ? 9995.0 : 10000.0;
    look.state(h).rows_exact() = h == 0 ? 195.0 : 200.0;
    look.state(h).rows_sampled() = 100.0;
  }
  CHECK(at_most(rows(9999)).binds(look));
  CHECK_FALSE(at_most(rows(10000)).binds(look));
  CHECK(at_most(rows(300)).growth(look) == 1.0);  // all of it is read
  CHECK(at_most(rows(400)).growth(look) > 1.0);
  CHECK_FALSE(at_most(fraction(1.0)).binds(look));
}

TEST_CASE("sizes within a limit") {
  CHECK(limited_size(3.0, 100, 200) == 200);
  CHECK(limited_size(3.0, 100, 1000) == 300);
  CHECK(limited_size(1.04, 100, 1000) == 100);  // hardly more
  CHECK(limited_size(1.5, 1, 1000) == 1);
  CHECK(limited_size(3.0, 100, 50) == 100);
}

TEST_CASE("a negative number of bytes is refused") {
  CHECK_THROWS_WITH(at_most_bytes(-1), "vattention: read_limit::bytes: want bytes >= 0, got -1");
}

TEST_CASE("a limit allows all where all is no more than it") {
  CHECK(read_limit().allows_all(1000, 1'000'000));
  CHECK(at_most(rows(1000)).allows_all(1000, 1'000'000));
  CHECK_FALSE(at_most(rows(999)).allows_all(1000, 1'000'000));
  CHECK(at_most(fraction(1.0)).allows_all(1000, 1'000'000));
  CHECK_FALSE(at_most(fraction(0.99)).allows_all(1000, 1'000'000));
  CHECK(at_most_bytes(1'000'000).allows_all(1000, 1'000'000));
  CHECK_FALSE(at_most_bytes(999'999).allows_all(1000, 1'000'000));
}
