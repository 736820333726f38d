// expect: vattention: budget: strict wants base_sampling::bounded
// SPDX-License-Identifier: Apache-2.0
#include "vattention/vattention.hpp"

using namespace vattn;
const vattention functor(top_k::bounded_code(8), base_sampling::uniform(rows(64)),
                         budget::strict_output(epsilon{0.1}, delta{0.1}),
                         dynamic_sampling::uniform());
