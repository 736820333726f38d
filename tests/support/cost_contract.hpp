// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every cost policy must do.
#pragma once

#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::test {

/// A call of the default composition on a bf16 cache, d = d_v.
inline call_prospect some_call(index_t rows, int heads = 1, double asked = 0.1, index_t dim = 128) {
  return {.heads = heads,
          .rows = rows,
          .key_dim = dim,
          .value_dim = dim,
          .row_bytes = 4 * dim,
          .scanned_bytes = rows * (dim / 4 + 3),
          .levels = 2,
          .exact = std::min<index_t>(rows, 96),
          .base = 64,
          .epsilon = asked};
}

/// Calls of any size, those that the functor would read whole anyway among them.
inline std::vector<call_prospect> many_calls() {
  std::vector<call_prospect> all;
  for (const index_t rows : {1, 96, 97, 500, 4096, 100000, 100000000})
    for (const int heads : {1, 5, 64})
      for (const double asked : {1e-12, 0.1, 0.999, std::numeric_limits<double>::quiet_NaN()})
        for (const int levels : {0, 1, 2}) {
          call_prospect call = some_call(rows, heads, asked, 16);
          call.levels = levels;
          if (levels == 0) call.scanned_bytes = 0;
          all.push_back(call);
        }
  return all;
}

/// Decides the same each time and allocates nothing, whatever it is asked.
template <class P>
void check_cost_contract(const P& policy) {
  STATIC_REQUIRE(cost_policy<P>);
  for (const call_prospect& call : many_calls()) {
    bool at_once = false, later = false;
    const growth_prospect growth{
        .drawn = call.rest() / 2, .refined = call.rest() / 2, .more = 10.0};
    CHECK(count_allocations([&] {
            at_once = policy.dense_at_once(call);
            later = policy.dense_from_here(call, growth);
          }) == 0);
    CHECK(policy.dense_at_once(call) == at_once);
    CHECK(policy.dense_from_here(call, growth) == later);
    static_cast<void>(policy.dense_from_here(call, growth_prospect{}));
  }
}

}  // namespace vattn::test
