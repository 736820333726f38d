// expect: vattention: budget: want const noexcept asked, delta, guarantees, coverage, judge
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_budget : budget::fixed {
  using fixed::fixed;
  judgement judge(const partial_view&, workspace&) const { return {}; }
};
const vattention functor(base_sampling::uniform(rows(64)), dynamic_sampling::uniform(),
                         my_budget(rows(64)));
