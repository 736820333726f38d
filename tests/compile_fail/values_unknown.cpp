// expect: vattention: budget: its errors are measured in values, want a top_k predictor whose index knows them
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(top_k::sign_hash(64, rows(64)), base_sampling::uniform(rows(64)),
                         dynamic_sampling::uniform(),
                         budget::output(epsilon_of_values{0.1}, delta{0.1}));
