// expect: vattention: -ffast-math and -ffinite-math-only delete the NaN checks
// SPDX-License-Identifier: Apache-2.0
#define __FAST_MATH__ 1
#include "vattention/vattention.hpp"
