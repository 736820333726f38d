// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every benchmark does around its own work: it refuses to measure a build with asserts on, and
/// turns an exception into one line and exit code 2.
#pragma once

#include <cstdio>
#include <exception>
#include <string>

#include "vattention/kernels/kernels.hpp"

namespace vattn_bench {

/// True, after a line on stderr, if this build checks asserts: its times would mean nothing.
inline bool asserts_are_on() {
#ifdef NDEBUG
  return false;
#else
  std::fputs("this build has asserts on; configure with CMAKE_BUILD_TYPE=Release\n", stderr);
  return true;
#endif
}

/// Runs `body`; the return value is main's.
template <class Body>
int guarded(const char* name, Body body) {
  if (asserts_are_on()) return 2;
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s: %s\n", name, error.what());
    return 2;
  }
}

/// First line of every output: what the numbers were made with.
inline void print_build() {
#ifdef __clang__
  const char* const compiler = "clang " __clang_version__;
#else
  const char* const compiler = "g++ " __VERSION__;
#endif
  std::printf("kernels %s, %s\n", vattn::kernels::active().name, compiler);
}

}  // namespace vattn_bench
