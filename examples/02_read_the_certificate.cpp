// SPDX-License-Identifier: Apache-2.0
// What a certificate says, and the ways a call can end.
#include <cinttypes>
#include <cstdio>
#include <limits>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn::status;
using vattn_examples::check;

namespace {

void print(const char* title, const vattn::certificate& c) {
  std::printf("%s: %s\n", title, to_string(c.status));
  if (c.bound != vattn::bound_kind::none)
    std::printf(
        "  the %s is within %.3g of the exact one (asked %.3g), except in %g %% of all calls\n"
        "  by bound `%s` on grounds `%s`, after %d looks at the sample\n",
        to_string(c.quantity), c.epsilon, c.epsilon_asked, 100.0 * c.delta, to_string(c.bound),
        to_string(c.basis), c.looks);
  std::printf("  %" PRId64 " rows read for certain + %" PRId64 " drawn of %" PRId64
              " = %.1f %%; %" PRId64 " bytes with the predictor's codes\n",
              c.rows_exact, c.rows_sampled, c.rows_total, 100.0 * c.density(), c.bytes_touched);
  std::printf("  softmax denominator %.4g +- %.2g at a largest logit of %.3g\n\n", c.denominator,
              c.denominator_error, c.max_logit);
}

/// One call with this budget; the rest of the composition is the default's.
template <class Budget>
vattn::certificate call(const vattn::synthetic_head& head, Budget budget) {
  const vattn::vattention attend(vattn::static_indices::sink_window(32, 64),
                                 vattn::top_k::cascade(2, 4), vattn::base_sampling::proportional(),
                                 budget, vattn::dynamic_sampling::proportional());
  vattn::workspace ws;
  const auto kv = head.view();
  return attend(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws).certificates[0];
}

}  // namespace

int main() {
  using vattn::budget::output;
  const vattn::epsilon tenth{0.1};
  const vattn::delta miss{0.1};
  auto head = vattn::make_head(vattn::head_kind::power_law, 8192, 64, 64, 1, 2);

  const auto met = call(head, output(tenth, miss));
  print("The usual end", met);
  check(met.status == status::met && met.epsilon <= 0.1, "met: the bound reached what was asked");

  const auto exact = call(head, output(vattn::epsilon{0.001}, miss));
  print("Asked for more than a sample can give", exact);
  check(exact.status == status::exact && exact.epsilon == 0.0, "exact: everything was read");

  const auto capped = call(head, output(vattn::epsilon{0.02}, miss, at_most(vattn::rows(300))));
  print("At most 300 rows to be read", capped);
  check(capped.status == status::capped && capped.epsilon > 0.02, "capped: the bound is above");
  check(!capped.holds() && capped.rows_exact + capped.rows_sampled <= 300,
        "capped: a bound, but not the one asked for");

  const auto paper = call(head, vattn::budget::clt(tenth, miss));
  print("The paper's budget", paper);
  check(paper.quantity == vattn::quantity::denominator, "clt: says nothing of the output");

  head.keys(5000, 3) = std::numeric_limits<float>::quiet_NaN();
  const auto broken = call(head, output(tenth, miss));
  print("A NaN in the cache", broken);
  check(broken.status == status::non_finite && !broken.holds(), "non_finite: never hidden");
}
