// SPDX-License-Identifier: Apache-2.0
#include "vattention/parallel/executor.hpp"

#include "support/executor_contract.hpp"

using namespace vattn;

namespace {

/// Backwards, and any item on any of its three workers.
struct backwards {
  int workers() const noexcept { return 3; }
  template <item_body Body>
  void run(index_t count, const Body& body) noexcept {
    for (index_t item = count; item-- > 0;) body(static_cast<int>(item % 3), item);
  }
};
struct throwing {
  int workers() const noexcept { return 1; }
  template <class Body>
  void run(index_t count, const Body& body) {
    for (index_t item = 0; item < count; ++item) body(0, item);
  }
};
struct without_workers {
  template <class Body>
  void run(index_t, const Body&) noexcept {}
};
struct mute {
  int workers() const noexcept { return 1; }
};

}  // namespace

TEST_CASE("an executor has workers and runs without throwing") {
  STATIC_REQUIRE(executor<backwards>);
  STATIC_REQUIRE(executor<backwards&>);
  STATIC_REQUIRE_FALSE(executor<throwing>);
  STATIC_REQUIRE_FALSE(executor<without_workers>);
  STATIC_REQUIRE_FALSE(executor<mute>);
  STATIC_REQUIRE_FALSE(executor<int>);
  backwards on;
  test::check_executor_contract(on);
}

TEST_CASE("a body takes worker and item, and does not throw") {
  const auto body = [](int, index_t) noexcept {};
  const auto may_throw = [](int, index_t) {};
  const auto of_item = [](index_t) noexcept {};
  STATIC_REQUIRE(item_body<decltype(body)>);
  STATIC_REQUIRE(item_body<item_body_archetype>);
  STATIC_REQUIRE_FALSE(item_body<decltype(may_throw)>);
  STATIC_REQUIRE_FALSE(item_body<decltype(of_item)>);
}
