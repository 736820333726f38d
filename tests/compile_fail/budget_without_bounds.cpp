// expect: vattention: budget: it needs a ceiling of the residual, so the top_k policy must bound its scores
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
struct my_budget : budget::fixed {
  using fixed::fixed;
  static constexpr bool needs_ceiling = true;
};
const vattention functor(top_k::sign_hash(64, rows(64)), base_sampling::uniform(rows(64)),
                         dynamic_sampling::uniform(), my_budget(rows(64)));
