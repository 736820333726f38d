// SPDX-License-Identifier: Apache-2.0
#include "vattention/batch/request.hpp"

#include <array>
#include <list>
#include <span>
#include <vector>

#include "support/allocations.hpp"
#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/attention/dense.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("requests lie one after the other, in anything") {
  STATIC_REQUIRE(request_range<std::vector<request<>>>);
  STATIC_REQUIRE(request_range<std::span<const request<>>>);
  STATIC_REQUIRE(request_range<std::array<request<kv_view, int>, 3>>);
  STATIC_REQUIRE_FALSE(request_range<std::list<request<>>>);
  STATIC_REQUIRE_FALSE(request_range<std::vector<int>>);
  STATIC_REQUIRE_FALSE(request_range<request<>>);
}

TEST_CASE("a request's name says where it is") {
  CHECK(std::string(detail::request_name("decode", 0).text()) == "decode: request 0");
  CHECK(std::string(detail::request_name("dense", 123456).text()) == "dense: request 123456");
  CHECK(count_allocations([] { detail::request_name("decode", 7); }) == 0);
  const std::string longest =
      detail::request_name("a name much longer than any", std::numeric_limits<index_t>::max())
          .text();
  CHECK(longest == "a name much longer than 9223372036854775807");
}

TEST_CASE("a result is delivered row by row") {
  batch_item item({.rows = 30, .dim = 8, .value_dim = 4, .heads = 3});
  workspace ws;
  const result got = dense(item.cache.group(), item.cache.view(), ws);
  auto r = request_for<void>(item, nullptr, 0);
  detail::require_destination("here", r);
  detail::deliver(r, got);
  CHECK(holds(item, got));

  std::vector<float> spread(18, -5.0F);
  r.output = spread.data();
  r.output_stride = 7;
  r.log_sum_exp = r.log_sum_exp_error = nullptr;
  r.certificates = nullptr;
  detail::deliver(r, got);
  for (index_t h = 0; h < 3; ++h)
    for (index_t j = 0; j < 4; ++j)
      CHECK(spread[static_cast<std::size_t>(7 * h + j)] == got.output(h, j));
  CHECK(std::count(spread.begin(), spread.end(), -5.0F) == 6);
}

TEST_CASE("a destination that cannot be is refused") {
  batch_item item({.rows = 30, .dim = 8, .value_dim = 4, .heads = 3});
  auto r = request_for<void>(item, nullptr, 0);
  r.output_stride = 3;
  CHECK_THROWS_WITH(detail::require_destination("here", r),
                    "vattention: here: want output stride 0, or of at least one value, got 3, 4");
  r.output_stride = 4;
  detail::require_destination("here", r);
  r.output = nullptr;
  CHECK_THROWS_WITH(detail::require_destination("here", r),
                    "vattention: here: want memory for the output, got null");
}
