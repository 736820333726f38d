// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/outlook.hpp"

#include <cmath>

#include "support/catch.hpp"
#include "support/fake_outlook.hpp"

using namespace vattn;

TEST_CASE("a fresh judgement vouches for nothing") {
  const judgement fresh;
  CHECK(fresh.epsilon == std::numeric_limits<double>::infinity());
  CHECK(fresh.bound == bound_kind::none);
  CHECK_FALSE(fresh.enough);
  CHECK(fresh.factor == 0.0);
}

TEST_CASE("no bound is finer than asked for and than the sample resolves") {
  partial p(2);
  p.view().resolution() = 0.05;
  const auto stated = [&](double bound, double asked) {
    return no_finer({bound, bound_kind::normal, true}, asked, p.view()).epsilon;
  };
  CHECK(stated(0.01, 0.1) == 0.05);
  CHECK(stated(0.01, 0.02) == 0.02);
  CHECK(stated(0.07, 0.1) == 0.07);
  CHECK(std::isinf(stated(std::numeric_limits<double>::infinity(), 0.1)));
  p.view().resolution() = 0.0;
  CHECK(stated(0.01, 0.1) == 0.01);
}

TEST_CASE("the outlook concept asks for every member, and for noexcept") {
  struct no_sizes {
    int heads() noexcept;
    int look() noexcept;
    index_t population() noexcept;
    index_t drawn(int head) noexcept;
    partial_view state(int head) noexcept;
    judgement& judged(int head) noexcept;
    double variance(int head, contribution what, index_t size, correction finite) noexcept;
    double row_bytes() noexcept;
    double fixed_bytes() noexcept;
  };
  struct with_sizes : no_sizes {
    std::span<index_t> sizes() noexcept;
  };
  struct throwing : no_sizes {
    std::span<index_t> sizes();
  };
  STATIC_REQUIRE(outlook<outlook_archetype>);
  STATIC_REQUIRE_FALSE(outlook<no_sizes>);
  STATIC_REQUIRE(outlook<with_sizes>);
  STATIC_REQUIRE_FALSE(outlook<throwing>);
  STATIC_REQUIRE_FALSE(outlook<int>);
}

TEST_CASE("least_size finds the least size that holds, by bisection") {
  for (const index_t high : {1, 2, 3, 10, 1000, 1 << 20})
    for (index_t least = 1; least <= high; least = least * 2 + 1) {
      int calls = 0;
      const index_t found = least_size(0, high, [&](index_t size) {
        ++calls;
        return size >= least;
      });
      CAPTURE(high, least);
      CHECK(found == least);
      CHECK(calls <= 21);
    }
}

TEST_CASE("size_for_variance finds a size that holds and is little too large, in few steps") {
  for (const double power : {0.5, 1.0, 2.0})
    for (const double largest : {1e-7, 1e-4, 0.003, 0.02, 0.5}) {
      int asked = 0;
      const auto variance = [&](index_t size) {
        ++asked;
        return std::pow(static_cast<double>(size), -power) *
               (1.0 - static_cast<double>(size) / 1e6);
      };
      const index_t size = size_for_variance(20, 100000, largest, variance);
      CHECK(asked <= 14);
      CHECK(size > 20);
      CHECK(size <= 100000);
      CAPTURE(power, largest, size);
      if (variance(100000) > largest) {
        CHECK(size == 100000);
        continue;
      }
      CHECK(variance(size) <= largest);
      if (size > 21) CHECK(variance(size) > 0.9 * largest);
    }
  const auto never = [](index_t) { return std::numeric_limits<double>::quiet_NaN(); };
  CHECK(size_for_variance(5, 100, 1.0, never) == 100);
  CHECK(size_for_variance(5, 6, 1.0, never) == 6);
  CHECK(size_for_variance(9, 6, 1.0, never) == 6);
  CHECK(size_for_variance(5, 100, 1.0, [](index_t) { return 0.0; }) == 6);
}

TEST_CASE("least_size stays above low and at most high, whatever holds") {
  const auto always = [](index_t) { return true; };
  const auto never = [](index_t) { return false; };
  CHECK(least_size(0, 100, always) == 1);
  CHECK(least_size(99, 100, always) == 100);
  CHECK(least_size(40, 100, always) == 41);
  CHECK(least_size(0, 100, never) == 100);
  CHECK(least_size(100, 100, always) == 100);
  // With nothing between it asks nothing, and says high.
  CHECK(least_size(120, 100, never) == 100);
}

TEST_CASE(
    "a budget of one growth never asks for less than there is, and stops at the second look") {
  test::fake_outlook look(3, 1000, 100);
  CHECK(grow_once(look, [](int) { return index_t{7}; }) == decision::stop);
  CHECK(look.sizes()[2] == 100);
  CHECK(grow_once(look, [](int h) { return index_t{99 + h}; }) == decision::grow);
  CHECK(look.sizes()[0] == 100);
  CHECK(look.sizes()[1] == 100);
  CHECK(look.sizes()[2] == 101);
  look.look_ = 2;
  CHECK(grow_once(look, [](int) { return index_t{500}; }) == decision::stop);
}

TEST_CASE("the status at the end of one growth") {
  CHECK(end_of_one_draw({0.1, bound_kind::normal, true, 0.0}, 0.1) == status::met);
  CHECK(end_of_one_draw({0.11, bound_kind::normal, true, 0.0}, 0.1) == status::not_met);
  CHECK(end_of_one_draw({0.01, bound_kind::normal, false, 0.0}, 0.1) == status::sample_too_small);
  CHECK(end_of_one_draw({}, 0.1) == status::sample_too_small);
}
