// SPDX-License-Identifier: Apache-2.0
// A decode loop that checks itself: some calls are compared with the exact answer, and one delta is
// shared out over all queries.
#include <iostream>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn_examples::check;

int main() {
  // Stands in for a model: 2 layers of 2 KV heads, each with 2 query heads; 48 tokens to decode.
  constexpr int layers = 2, kv_heads = 2, group = 2, prompt = 4000, steps = 48;
  constexpr vattn::head_kind kinds[layers * kv_heads] = {
      vattn::head_kind::power_law, vattn::head_kind::flat, vattn::head_kind::sharp,
      vattn::head_kind::mixed};
  std::vector<vattn::synthetic_head> model;
  model.reserve(std::size(kinds));
  for (const auto kind : kinds)
    model.push_back(vattn::make_head(kind, prompt + steps, 64, 64, group, 1 + model.size()));

  const vattn::ledgered attend(
      vattn::epsilon{0.2}, vattn::delta{0.5},  // of all certificates together
      {.layers = layers, .query_heads = kv_heads * group, .steps = steps},
      [&](vattn::epsilon e, vattn::delta share) {
        return vattn::audited(vattn::presets::standard(e, share),
                              {.every = 4, .layers = layers, .kv_heads = kv_heads, .group = group});
      });
  vattn::audit_workspace scratch;  // one a thread

  const auto decode = [&](std::size_t which, int step, auto& index) {
    const vattn::kv_view kv = model[which].view().shard(0, prompt + step);
    index.append(kv);
    const vattn::draw_key key{.seed = 1,
                              .layer = static_cast<std::uint32_t>(which / kv_heads),
                              .head = static_cast<std::uint32_t>(which % kv_heads),
                              .step = static_cast<std::uint64_t>(prompt + step)};
    return attend(model[which].group(), kv, index, key, scratch).certificates[0].holds();
  };
  std::vector<decltype(attend)::index_type> indices;
  indices.reserve(model.size());
  for (const auto& head : model) indices.push_back(attend.make_index(head.view().shard(0, prompt)));
  for (int step = 0; step < steps; ++step)
    for (std::size_t which = 0; which < model.size(); ++which)
      check(decode(which, step, indices[which]), "every call vouches for epsilon");

  const vattn::audit_report audit = attend.functor().report();
  const vattn::ledger_report ledger = attend.report();
  std::cout << audit << vattn::diagnose(audit, {.calls = 5}) << ledger;

  check(audit.total.calls > steps, "about a quarter of 48 x 8 certificates were audited");
  check(audit.total.coverage() == 1.0, "no audited output is beyond epsilon");
  check(audit.total.mean_density() < 0.5, "most of the cache was not read");
  check(vattn::diagnose(audit, {.calls = 5}).healthy(), "no failure signature");
  check(ledger.issued == layers * kv_heads * group * steps, "one certificate a query");
  check(ledger.expected_violations() <= 0.5, "delta in all is what was asked");
  check(!ledger.proved(), "by measured certificates: an expectation, not a proof");

  // The plan is used up: one more token is refused, and says why.
  bool refused = false;
  try {
    decode(0, steps, indices[0]);
  } catch (const vattn::ledger_exhausted& e) {
    std::cout << e.what() << '\n';
    refused = true;
  }
  check(refused && attend.report().issued == ledger.issued, "nothing was issued beyond the plan");
}
