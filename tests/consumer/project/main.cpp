// SPDX-License-Identifier: Apache-2.0
#include <vattention/vattention.hpp>

#include <iostream>

int main() {
  std::cout << "vattention " << VATTN_VERSION_MAJOR << '.' << VATTN_VERSION_MINOR << '.'
            << VATTN_VERSION_PATCH << '\n';
}
