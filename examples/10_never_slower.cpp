// SPDX-License-Identifier: Apache-2.0
// Dense attention where it is faster: a cost model, with constants given or measured on this machine.
#include <cstdio>

#include "support/check.hpp"
#include "vattention/cost/calibrate.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using namespace vattn;
using vattn_examples::check;

namespace {

template <class Functor>
certificate call(const char* title, const Functor& attend, const synthetic_head& head) {
  workspace ws;
  const auto kv = head.view();
  const certificate c =
      attend(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws).certificates[0];
  std::printf("%-28s %-6s %6.2f %% of %lld rows\n", title, to_string(c.status), 100.0 * c.density(),
              static_cast<long long>(c.rows_total));
  return c;
}

}  // namespace

int main() {
  const auto short_head = make_head(head_kind::power_law, 500, 64, 64, 1, 1);
  const auto long_head = make_head(head_kind::power_law, 60000, 64, 64, 1, 1);

  // Any functor takes the model; what it decides depends on sizes and constants alone.
  const auto attend = presets::standard(epsilon{0.1}, delta{0.1}).with_cost(cost::model());
  const certificate dense_one = call("a short context", attend, short_head);
  const certificate sparse_one = call("a long one", attend, long_head);
  check(dense_one.status == status::exact && dense_one.looks == 0, "read whole, at once");
  check(sparse_one.status == status::met && sparse_one.density() < 0.1, "a few percent");

  // The constants of this machine, for these shapes; to be kept, since they differ a little each time.
  const cost_profile mine = calibrate({.key_dim = 64,
                                       .value_dim = 64,
                                       .group = 1,
                                       .type = element::f32,
                                       .bytes = index_t{16} << 20});
  const auto here = presets::standard(epsilon{0.1}, delta{0.1}).with_cost(cost::model(mine));
  for (const cost_item& item : cost_items)
    std::printf("  %-13s %10.4g ns\n", item.name, mine.*item.price);
  check(call("short, constants of its own", here, short_head).holds(), "any constants will do");
  check(call("long, constants of its own", here, long_head).holds(), "the promise is the same");
}
