// expect: vattention: dynamic_sampling: want the scheme of the base sampling
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_growth : dynamic_sampling::uniform {
  static constexpr design scheme = design::independent;
};
const vattention functor(base_sampling::uniform(rows(64)), my_growth(), budget::fixed(rows(64)));
