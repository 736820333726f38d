// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/attention_functor.hpp"

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/ledger/ledgered.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

namespace {

using plain = decltype(presets::uniform_output(epsilon{0.1}, delta{0.1}));
using paper = decltype(presets::paper(epsilon{0.1}, delta{0.1}, top_k::oracle(fraction(0.1))));

struct without_budget : plain {
  void budget() const;
};
struct throws_in_the_call : plain {
  result attend(const query_group& q, const kv_view& kv, const index_type& index, draw_key key,
                workspace& ws) const;
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
  STATIC_REQUIRE_FALSE(attention_functor<throws_in_the_call>);
}

TEST_CASE("a shape fits where no number is larger", "[attention_functor]") {
  const call_shape room{.heads = 4, .rows = 100, .key_dim = 64, .value_dim = 32};
  CHECK(room.fits(room));
  CHECK(call_shape{}.fits(room));
  CHECK_FALSE(room.fits({}));
  for (int i = 0; i < 4; ++i) {
    call_shape more = room;
    if (i == 0) ++more.heads;
    if (i == 1) ++more.rows;
    if (i == 2) ++more.key_dim;
    if (i == 3) ++more.value_dim;
    CHECK_FALSE(more.fits(room));
    CHECK(room.fits(more));
  }
  const std::vector<float> numbers(64, 1.0F);
  const kv_view kv(rows_view(numbers.data(), 5, 8), rows_view(numbers.data(), 5, 12));
  const call_shape shape = shape_of(query_group(numbers.data(), 3, 8), kv);
  CHECK(shape.heads == 3);
  CHECK(shape.rows == 5);
  CHECK(shape.key_dim == 8);
  CHECK(shape.value_dim == 12);
}

TEST_CASE("a call may be taken apart: checked, given room, admitted, made", "[attention_functor]") {
  const synthetic_head head = make_head(head_kind::power_law, 3000, 64, 48, 2, 5);
  const auto functor = presets::uniform_output(epsilon{0.2}, delta{0.1});
  const auto index = functor.make_index(head.view());
  workspace whole, parts;
  const result want = functor(head.group(), head.view(), index, {.seed = 4}, whole);
  functor.check("here", head.group(), head.view(), index, {.seed = 4});
  functor.reserve(shape_of(head.group(), head.view()), parts);
  functor.admit(2);
  CHECK(test::count_allocations(
            [&] { functor.attend(head.group(), head.view(), index, {.seed = 4}, parts); }) == 0);
  CHECK(result(parts, 2, 48).output == want.output);
  query_group bad = head.group();
  bad.dim = 63;
  CHECK_THROWS_WITH(functor.check("here", bad, head.view(), index, {}),
                    "vattention: here: want queries as long as the keys, got 63, 64");
}
