// SPDX-License-Identifier: Apache-2.0
// An error in other units than the output's norm, the error that a limit of rows or bytes allows, and what a
// call did, row by row.
#include <cstdio>
#include <iostream>

#include "support/check.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/vattention.hpp"

using vattn::delta;
using vattn::status;
using vattn_examples::check;

namespace {

template <class Functor>
vattn::certificate call(const char* title, const Functor& attend,
                        const vattn::synthetic_head& head) {
  vattn::workspace ws;
  const auto kv = head.view();
  const auto c = attend(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws).certificates[0];
  std::printf("%-34s %-9s error at most %.4f (%s), %5.2f %% of the rows, %.2f MB\n", title,
              to_string(c.status), c.epsilon, to_string(c.scale), 100.0 * c.density(),
              static_cast<double>(c.bytes_touched) / 1e6);
  return c;
}

}  // namespace

int main() {
  // A flat head: its values cancel in the output, which is far shorter than they are.
  const auto head = vattn::make_head(vattn::head_kind::flat, 16384, 64, 64, 1, 2);

  // Which unit is the error in?
  using namespace vattn;
  const auto relative =
      call("relative to ||o||", presets::standard(epsilon{0.05}, delta{0.1}), head);
  const auto of_values =
      call("relative to rms ||v||", presets::standard(epsilon_of_values{0.05}, delta{0.1}), head);
  const auto absolute =
      call("in the values' own unit", presets::standard(absolute_error{0.25}, delta{0.1}), head);
  const auto proved =
      call("rms ||v||, proved", presets::strict_output(epsilon_of_values{0.1}, delta{0.1}), head);
  check(relative.density() > 2.0 * of_values.density(), "the output's norm costs most here");
  check(absolute.unit == 1.0 && of_values.unit > 1.0, "the certificate knows its unit");
  check(proved.basis == basis::proved && proved.holds(), "strict: proved, in any unit");

  // Which error can be had for so much?
  const auto rows_limit =
      call("at most 5 % of the rows", presets::within(at_most(fraction(0.05)), delta{0.1}), head);
  const auto bytes_limit =
      call("at most 1 MB", presets::within(at_most_bytes(1'000'000), delta{0.1}), head);
  const auto both =
      call("3 % error, at most 10 % of the rows",
           presets::standard(epsilon{0.03}, delta{0.1}, at_most(fraction(0.1))), head);
  check(rows_limit.density() <= 0.05 && rows_limit.status == status::no_target, "within 5 %");
  check(bytes_limit.bytes_touched <= 1'000'000, "within 1 MB");
  check(both.status == status::capped && both.density() <= 0.1, "capped: the limit came first");

  // What did a call do? Its draw key is all that is needed to replay it.
  const auto attend = presets::standard(epsilon{0.05}, delta{0.1});
  vattn::workspace ws;
  const auto kv = head.view();
  const vattn::explanation all =
      attend.explain(head.group(), kv, attend.make_index(kv), {.seed = 1}, ws);
  std::cout << '\n' << all;
  const auto& last = all.drawn.back();
  std::cout << "row " << last.row << " was drawn at look " << last.look << " with probability "
            << last.probability << '\n';
  check(static_cast<index_t>(all.drawn.size()) == relative.rows_sampled, "the same rows again");
}
