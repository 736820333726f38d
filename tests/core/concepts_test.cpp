// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/concepts.hpp"

#include "support/catch.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/clt.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/budget/joint.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/budget/within.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/cost/none.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/static_indices/none.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/none.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

// Each of these differs from a model of its concept in one thing.
struct static_rows {
  using role = vattn::role::static_indices;
  void select(index_t, index_set&) const noexcept {}
};
struct throwing_static_rows {
  using role = vattn::role::static_indices;
  void select(index_t, index_set&) const {}
};
struct changing_static_rows {
  using role = vattn::role::static_indices;
  void select(index_t, index_set&) noexcept {}
};
struct roleless_static_rows {
  void select(index_t, index_set&) const noexcept {}
};
struct static_rows_of_another_role {
  using role = vattn::role::budget;
  void select(index_t, index_set&) const noexcept {}
};
struct unique_static_rows {
  using role = vattn::role::static_indices;
  unique_static_rows(const unique_static_rows&) = delete;
  void select(index_t, index_set&) const noexcept {}
};

struct misspelt_top_k : top_k::none {
  template <cache_view View>
  void predict(const attention_call<View>&, const top_k::no_index&,
               predictions&) const noexcept = delete;
};
struct throwing_base : base_sampling::uniform {
  using uniform::uniform;
  template <class Drawing>
  void draw(const Drawing&) const {}
};
struct schemeless_base {
  using role = vattn::role::base_sampling;
  index_t size(index_t n) const noexcept { return n; }
  template <class Drawing>
  void draw(const Drawing&) const noexcept {}
};
struct throwing_growth : dynamic_sampling::uniform {
  template <class Drawing>
  void grow(const Drawing&, std::span<const index_t>) const {}
};
struct throwing_budget : budget::fixed {
  using fixed::fixed;
  status end(const judgement&) const { return status::met; }
};
struct budget_of_floats : budget::fixed {
  using fixed::fixed;
  float delta() const noexcept { return 0.1F; }
};
struct cost_with_one_hook {
  using role = vattn::role::cost;
  bool dense_at_once(const call_prospect&) const noexcept { return true; }
};
struct throwing_cost : cost::none {
  bool dense_from_here(const call_prospect&, const growth_prospect&) const { return true; }
};
struct bounding : top_k::oracle {
  using oracle::oracle;
  template <cache_view View>
  void bounds(const attention_call<View>&, const top_k::no_index&, int, std::span<float>,
              std::span<float>, workspace&) const noexcept {}
};
struct index_that_only_grows {
  void append(const kv_view&) {}
  index_t rows() const noexcept { return 0; }
  bool matches(const kv_view&) const noexcept { return true; }
};
struct index_without_rows {
  void append(const kv_view&) {}
  bool matches(const kv_view&) const noexcept { return true; }
};

}  // namespace

TEST_CASE("every policy models its own role and no other") {
  STATIC_REQUIRE(static_indices_policy<static_indices::none>);
  STATIC_REQUIRE(static_indices_policy<static_indices::sink_window>);
  STATIC_REQUIRE(top_k_policy<top_k::none>);
  STATIC_REQUIRE(top_k_policy<top_k::oracle>);
  STATIC_REQUIRE(top_k_policy<top_k::key_code>);
  STATIC_REQUIRE(base_sampling_policy<base_sampling::uniform>);
  STATIC_REQUIRE(dynamic_sampling_policy<dynamic_sampling::uniform>);
  STATIC_REQUIRE(budget_policy<budget::clt>);
  STATIC_REQUIRE(budget_policy<budget::joint>);
  STATIC_REQUIRE(budget_policy<budget::output<>>);
  STATIC_REQUIRE(budget_policy<budget::fixed>);
  STATIC_REQUIRE(cost_policy<cost::none>);
  STATIC_REQUIRE(cost_policy<cost::model>);

  STATIC_REQUIRE_FALSE(dynamic_sampling_policy<base_sampling::uniform>);
  STATIC_REQUIRE_FALSE(base_sampling_policy<dynamic_sampling::uniform>);
  STATIC_REQUIRE_FALSE(top_k_policy<static_indices::none>);
  STATIC_REQUIRE_FALSE(static_indices_policy<top_k::none>);
  STATIC_REQUIRE_FALSE(budget_policy<void>);
  STATIC_REQUIRE_FALSE(static_indices_policy<int>);
}

TEST_CASE("a role asks for its members: const, noexcept, copyable, named") {
  STATIC_REQUIRE(static_indices_policy<static_rows>);
  STATIC_REQUIRE_FALSE(static_indices_policy<throwing_static_rows>);
  STATIC_REQUIRE_FALSE(static_indices_policy<changing_static_rows>);
  STATIC_REQUIRE_FALSE(static_indices_policy<roleless_static_rows>);
  STATIC_REQUIRE_FALSE(static_indices_policy<static_rows_of_another_role>);
  STATIC_REQUIRE_FALSE(static_indices_policy<unique_static_rows>);
  STATIC_REQUIRE_FALSE(top_k_policy<misspelt_top_k>);
  STATIC_REQUIRE_FALSE(base_sampling_policy<throwing_base>);
  STATIC_REQUIRE_FALSE(base_sampling_policy<schemeless_base>);
  STATIC_REQUIRE_FALSE(dynamic_sampling_policy<throwing_growth>);
  STATIC_REQUIRE_FALSE(budget_policy<throwing_budget>);
  STATIC_REQUIRE_FALSE(budget_policy<budget_of_floats>);
  STATIC_REQUIRE_FALSE(cost_policy<cost_with_one_hook>);
  STATIC_REQUIRE_FALSE(cost_policy<throwing_cost>);
}

TEST_CASE("refinements of top_k") {
  STATIC_REQUIRE(predicts_log_weights<top_k::oracle>);
  STATIC_REQUIRE(predicts_log_weights<top_k::key_code>);
  STATIC_REQUIRE_FALSE(predicts_log_weights<top_k::none>);
  STATIC_REQUIRE_FALSE(bounds_scores<top_k::oracle>);
  STATIC_REQUIRE(bounds_scores<bounding>);
}

TEST_CASE("budgets that keep a limit say so") {
  STATIC_REQUIRE(limits_reading<budget::output<>>);
  STATIC_REQUIRE(limits_reading<budget::within<>>);
  STATIC_REQUIRE_FALSE(limits_reading<budget::fixed>);
}

TEST_CASE("an index appends, counts and matches") {
  STATIC_REQUIRE(key_index<top_k::no_index>);
  STATIC_REQUIRE(key_index<top_k::key_code_index>);
  STATIC_REQUIRE_FALSE(key_index<index_without_rows>);
  STATIC_REQUIRE_FALSE(key_index<int>);
  STATIC_REQUIRE(living_index<top_k::key_code_index>);
  STATIC_REQUIRE_FALSE(living_index<index_that_only_grows>);
  STATIC_REQUIRE(key_index<index_that_only_grows>);
}
