// expect: no matching function for call to|no viable conversion|could not convert|no known conversion
// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/guarantee.hpp"

void ask(vattn::epsilon, vattn::delta);
void swapped() { ask(vattn::delta{0.1}, vattn::epsilon{0.1}); }
