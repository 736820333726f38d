// expect: vattention: budget: the samplers follow bounds, want a budget that needs them
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(top_k::bounded_code(), base_sampling::bounded<quantity::output>(),
                         dynamic_sampling::bounded<quantity::output>(),
                         budget::output(epsilon{0.1}, delta{0.1}));
