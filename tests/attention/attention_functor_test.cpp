// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/attention_functor.hpp"

#include "support/catch.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/ledger/ledgered.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

using plain = decltype(presets::uniform_output(epsilon{0.1}, delta{0.1}));
using paper = decltype(presets::paper(epsilon{0.1}, delta{0.1}, top_k::oracle(fraction(0.1))));

struct without_budget : plain {
  void budget() const;
};
struct not_const : plain {
  result operator()(const query_group& q, const kv_view& kv, const index_type& index, draw_key key,
                    workspace& ws);
};

}  // namespace

TEST_CASE("functors and wrappers in any nesting attend", "[attention_functor]") {
  STATIC_REQUIRE(attention_functor<plain>);
  STATIC_REQUIRE(attention_functor<paper>);
  STATIC_REQUIRE(attention_functor<audited<plain>>);
  STATIC_REQUIRE(attention_functor<ledgered<paper>>);
  STATIC_REQUIRE(attention_functor<audited<ledgered<plain>>>);
  STATIC_REQUIRE(attention_functor<ledgered<audited<plain>>>);
}

TEST_CASE("what lacks a member or is not const does not attend", "[attention_functor]") {
  STATIC_REQUIRE_FALSE(attention_functor<int>);
  STATIC_REQUIRE_FALSE(attention_functor<without_budget>);
  STATIC_REQUIRE_FALSE(attention_functor<not_const>);
}
