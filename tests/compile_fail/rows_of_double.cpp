// expect: no matching (function for call to|constructor for)
// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/kv_view.hpp"

const double cache[8] = {};
const vattn::rows_view rows(cache, 2, 4);
