// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every choice of static rows must do: `check_static_indices_contract(policy)`.
#pragma once

#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::test {

/// The rows a policy adds to an empty set.
template <class P>
std::vector<row_t> static_rows(const P& policy, index_t visible, index_t universe) {
  index_set out;
  out.reset(universe);
  policy.select(visible, out);
  out.list();
  return {out.rows().begin(), out.rows().end()};
}

/// Rows lie in the visible range, depend on its length alone, join what is there; nothing is allocated.
template <class P>
void check_static_indices_contract(const P& policy) {
  STATIC_REQUIRE(static_indices_policy<P>);
  for (const index_t visible : {0, 1, 2, 3, 7, 63, 64, 65, 127, 128, 129, 1000}) {
    CAPTURE(visible);
    const std::vector<row_t> rows = static_rows(policy, visible, visible + 100);
    for (const row_t row : rows) REQUIRE(row < visible);
    CHECK(static_rows(policy, visible, visible) == rows);
    CHECK(static_rows(P(policy), visible, 5000) == rows);

    index_set out;
    out.reset(visible + 1);
    out.add(static_cast<row_t>(visible));
    CHECK(count_allocations([&] {
            policy.select(visible, out);
            policy.select(visible, out);
          }) == 0);
    CHECK(out.contains(static_cast<row_t>(visible)));
    CHECK(out.size() == static_cast<index_t>(rows.size()) + 1);
  }
}

}  // namespace vattn::test
