// expect: vattention: policy: a template argument names no role
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_static_rows {
  void select(index_t, index_set&) const noexcept {}
};
const vattention functor(my_static_rows(), base_sampling::uniform(rows(64)),
                         dynamic_sampling::uniform(), budget::fixed(rows(64)));
