// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/compose.hpp"

#include "support/catch.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

struct static_rows {
  using role = vattn::role::static_indices;
  void select(index_t, index_set&) const noexcept {}
};

using least = composition<base_sampling::uniform, budget::fixed, dynamic_sampling::uniform>;
using full = composition<dynamic_sampling::uniform, top_k::oracle, budget::fixed,
                         static_indices::sink_window, base_sampling::uniform>;

template <class Role>
struct scheme_of {
  static constexpr design scheme = design::independent;
};
struct schemeless {};

}  // namespace

TEST_CASE("a composition counts its roles and finds each policy, in any order") {
  STATIC_REQUIRE(full::count<role::top_k> == 1);
  STATIC_REQUIRE(least::count<role::top_k> == 0);
  STATIC_REQUIRE(std::same_as<full::one<role::top_k>, top_k::oracle>);
  STATIC_REQUIRE(std::same_as<full::one<role::budget>, budget::fixed>);
  STATIC_REQUIRE(std::same_as<full::one<role::static_indices>, static_indices::sink_window>);
  STATIC_REQUIRE(std::same_as<full::one<role::base_sampling>, base_sampling::uniform>);
  STATIC_REQUIRE(std::same_as<full::one<role::dynamic_sampling>, dynamic_sampling::uniform>);
  STATIC_REQUIRE(std::same_as<least::one_or<role::top_k, top_k::none>, top_k::none>);
  STATIC_REQUIRE(std::same_as<full::one_or<role::top_k, top_k::none>, top_k::oracle>);
}

TEST_CASE("a policy is picked from the arguments, or made by default") {
  const budget::fixed budget(rows(10), delta(0.25));
  const base_sampling::uniform base(rows(7));
  const dynamic_sampling::uniform dynamic;
  CHECK(least::pick<budget::fixed>(base, budget, dynamic).delta() == 0.25);
  CHECK(least::pick<base_sampling::uniform>(base, budget, dynamic).size(100) == 7);
  STATIC_REQUIRE(
      std::same_as<decltype(least::pick<top_k::none>(base, budget, dynamic)), top_k::none>);
}

TEST_CASE("a cost policy is picked, or there is none") {
  using dear =
      composition<base_sampling::uniform, cost::model, budget::fixed, dynamic_sampling::uniform>;
  STATIC_REQUIRE(std::same_as<dear::one_or<role::cost, cost::none>, cost::model>);
  STATIC_REQUIRE(std::same_as<least::one_or<role::cost, cost::none>, cost::none>);
  const vattention plain(base_sampling::uniform(rows(7)), budget::fixed(rows(10), delta(0.25)),
                         dynamic_sampling::uniform());
  STATIC_REQUIRE(std::same_as<decltype(plain)::cost_type, cost::none>);
  const auto priced = plain.with_cost(cost::model({.call = 5.0}));
  CHECK(priced.cost().prices().call == 5.0);
  CHECK(priced.budget().delta() == 0.25);
  const auto again = priced.with_cost(cost::none());
  STATIC_REQUIRE(std::same_as<decltype(again)::cost_type, cost::none>);
  STATIC_REQUIRE(sizeof(again) == sizeof(plain));
}

TEST_CASE("a role is played by the policy that names it") {
  STATIC_REQUIRE(detail::plays<static_rows, role::static_indices>);
  STATIC_REQUIRE_FALSE(detail::plays<static_rows, role::top_k>);
  STATIC_REQUIRE_FALSE(detail::plays<int, role::top_k>);
  STATIC_REQUIRE(detail::names_a_role<static_rows>);
  STATIC_REQUIRE_FALSE(detail::names_a_role<int>);
}

TEST_CASE("schemes differ only where both are stated") {
  STATIC_REQUIRE(detail::same_scheme<base_sampling::uniform, dynamic_sampling::uniform>);
  STATIC_REQUIRE_FALSE(
      detail::same_scheme<base_sampling::uniform, scheme_of<role::dynamic_sampling>>);
  STATIC_REQUIRE(detail::same_scheme<base_sampling::uniform, schemeless>);
  STATIC_REQUIRE(detail::same_scheme<void, dynamic_sampling::uniform>);
}

TEST_CASE("the functor takes its policies in any order, without growing by empty ones") {
  const vattention a(base_sampling::uniform(rows(7)), budget::fixed(rows(10), delta(0.25)),
                     dynamic_sampling::uniform());
  const vattention b(static_indices::none(), dynamic_sampling::uniform(),
                     budget::fixed(rows(10), delta(0.25)), top_k::none(),
                     base_sampling::uniform(rows(7)));
  CHECK(a.budget().delta() == 0.25);
  CHECK(b.budget().delta() == 0.25);
  STATIC_REQUIRE(sizeof(a) <= sizeof(base_sampling::uniform) + sizeof(budget::fixed) + 8);
  STATIC_REQUIRE(std::is_copy_constructible_v<decltype(a)>);
}
