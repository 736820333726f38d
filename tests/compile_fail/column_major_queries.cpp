// expect: no matching (function for call to|constructor for|conversion for functional-style cast).*query_group
// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/query_group.hpp"

const Eigen::MatrixXf queries(4, 64);
const vattn::query_group group(queries);
