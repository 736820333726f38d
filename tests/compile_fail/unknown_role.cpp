// expect: vattention: policy: a template argument names a role that is none of the six
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct sinks {};
struct my_static_rows {
  using role = sinks;
  void select(index_t, index_set&) const noexcept {}
};
const vattention functor(my_static_rows(), base_sampling::uniform(rows(64)),
                         dynamic_sampling::uniform(), budget::fixed(rows(64)));
