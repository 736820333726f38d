// SPDX-License-Identifier: Apache-2.0
/// @file
/// A drawing on a made-up call, for tests of what samplers in proportion are made of.
#pragma once

#include "support/prepared_call.hpp"
#include "support/propose_all.hpp"

namespace vattn::test {

/// Calls `check(drawing, c)` for a call of two heads on 5,000 keys, four of which are read anyway. The log-weights of
/// all rows are in c.ws.seen.
template <class Predictor, class Check>
void with_drawing(const Predictor& predictor, Check check) {
  prepared_call c({5000, 64, 2});
  const kv_view kv = c.view();
  auto index = predictor.make_index(64);
  index.append(kv);
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {.seed = 4});
  c.begin(true, {0, 1, 2, 4999});
  propose_all(call, predictor, index, c.ws);
  const population rest(call.visible, c.ws.exact);
  check(drawing{call, rest, predictor, index, c.ws}, c);
}

}  // namespace vattn::test
