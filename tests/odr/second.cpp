// SPDX-License-Identifier: Apache-2.0
// The umbrella, and every header, in the second of two translation units; the kernel rows of all tests.
#include "vattention/vattention.hpp"

#include "all_headers.hpp"

template struct vattn::kernels::compiled_rows<>;
