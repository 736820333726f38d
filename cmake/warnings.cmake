# SPDX-License-Identifier: Apache-2.0
# The warnings of our own programs. Never linked by the library: users keep their flags.

add_library(vattention_warnings INTERFACE)
target_compile_options(vattention_warnings INTERFACE
  -Wall -Wextra -Wpedantic
  -Wcast-align -Wcast-qual -Wconversion -Wdouble-promotion -Wextra-semi -Wformat=2
  -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual -Wshadow
  -Wundef -Wunused
  $<$<CXX_COMPILER_ID:GNU>:-Wduplicated-cond -Wduplicated-branches -Wlogical-op>
  # g++ 12 cannot follow Eigen's vectorised expressions at -O3 (GCC bug 105562 and its kin).
  $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>
  $<$<CXX_COMPILER_ID:Clang,AppleClang>:-Wdocumentation>
  $<$<BOOL:${VATTN_WERROR}>:-Werror>)
