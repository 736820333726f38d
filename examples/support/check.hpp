// SPDX-License-Identifier: Apache-2.0
/// @file
/// How the examples assert.
#pragma once

#include <cstdio>
#include <cstdlib>

namespace vattn_examples {

/// Ends the program with exit code 1 unless the claim holds.
inline void check(bool holds, const char* claim) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", claim);
  std::exit(1);
}

}  // namespace vattn_examples
