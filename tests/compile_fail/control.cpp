// expect-success
// SPDX-License-Identifier: Apache-2.0
// The control: what the other files do wrong is the only reason for which they are refused.
#include "vattention/vattention.hpp"

int main() {
  const vattn::epsilon epsilon{0.1};
  return epsilon.value() < 1.0 ? 0 : 1;
}
