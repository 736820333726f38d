// expect: vattention: cost: more than one policy
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(base_sampling::uniform(rows(64)), dynamic_sampling::uniform(),
                         budget::fixed(rows(64)), cost::none(), cost::model());
