// expect: vattention: base_sampling: want exactly one policy
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(dynamic_sampling::uniform(), budget::fixed(rows(64)));
