// expect: vattention: cost: want const noexcept dense_at_once.call. and dense_from_here
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_cost : cost::model {
  bool dense_at_once(const call_prospect& call) const { return call.rows < 1000; }
};
const vattention functor(base_sampling::uniform(rows(64)), dynamic_sampling::uniform(),
                         budget::fixed(rows(64)), my_cost());
