// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/drawing.hpp"

#include <set>

#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;

TEST_CASE("every use of random numbers has a stream of its own") {
  const draw_key key{7, 11, 3, 5, 13};
  std::set<std::uint64_t> first;
  for (const purpose use : {purpose::sampling, purpose::projection})
    first.insert(random_stream(key, static_cast<std::uint32_t>(use)).u64(0));
  CHECK(first.size() == 2);
}

TEST_CASE("a drawing refers to its parts and owns none") {
  test::prepared_call c({40, 8, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  c.begin(true, {1, 2});
  const population rest(call.visible, c.ws.exact);
  const top_k::oracle predictor(rows(0));
  const top_k::no_index index;
  const drawing d{call, rest, predictor, index, c.ws};
  CHECK(&d.call == &call);
  CHECK(&d.predictor == &predictor);
  CHECK(&d.drawn == &c.ws.drawn);
  CHECK(&d.state == &c.ws.draws);
  CHECK(d.rest.size() == 38);
  d.drawn.append(3, certain);  // a sampler writes through a const drawing
  CHECK(c.ws.drawn.size() == 1);
}

TEST_CASE("contributions are nothing until they are formed") {
  const contributions none;
  CHECK(none.squares.empty());
  CHECK(none.total == 0.0);
}
