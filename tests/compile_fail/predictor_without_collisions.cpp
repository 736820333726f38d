// expect: vattention: base_sampling: the sampler goes by collisions, want a top_k predictor that hashes keys by random
// SPDX-License-Identifier: Apache-2.0
#include "vattention/base_sampling/lsh.hpp"
#include "vattention/dynamic_sampling/lsh.hpp"
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(top_k::sign_hash(64, rows(64)), base_sampling::lsh(),
                         dynamic_sampling::lsh(), budget::output(epsilon{0.1}, delta{0.1}));
