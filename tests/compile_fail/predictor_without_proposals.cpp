// expect: vattention: base_sampling: the sampler takes proposals, want a top_k predictor that makes them
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(top_k::sign_hash(64, rows(64)), base_sampling::proportional(),
                         dynamic_sampling::proportional(),
                         budget::output(epsilon{0.1}, delta{0.1}));
