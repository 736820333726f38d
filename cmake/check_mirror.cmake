# SPDX-License-Identifier: Apache-2.0
# cmake -DROOT=<repository> -P check_mirror.cmake
# Every header has its test, and the umbrella is complete.
cmake_minimum_required(VERSION 3.22)

set(umbrella vattention.hpp)
set(untested vattention.hpp fwd.hpp config.hpp version.hpp)
# Reached by other ways: kernels/ through its only door, testing/ by name, for it is no part of a
# program that decodes, parallel/openmp.hpp by name, for it needs a compiler told of OpenMP, and
# cost/calibrate.hpp by name, for it looks at the clock.
set(not_in_umbrella
  "^(vattention\\.hpp|kernels/.*|testing/.*|parallel/openmp\\.hpp|cost/calibrate\\.hpp)$")
set(doors kernels/kernels.hpp)

set(include_dir ${ROOT}/include/vattention)
file(GLOB_RECURSE headers RELATIVE ${include_dir} ${include_dir}/*.hpp)
file(READ ${include_dir}/${umbrella} umbrella_text)
set(faults "")

foreach(header IN LISTS headers)
  string(REGEX REPLACE "\\.hpp$" "_test.cpp" test tests/${header})
  if(NOT header IN_LIST untested AND NOT EXISTS ${ROOT}/${test})
    string(APPEND faults "  ${test} is missing: the test of include/vattention/${header}\n")
  endif()
  if(header IN_LIST doors OR NOT header MATCHES "${not_in_umbrella}")
    string(FIND "${umbrella_text}" "#include \"vattention/${header}\"" at)
    if(at EQUAL -1)
      string(APPEND faults
        "  include/vattention/${umbrella} does not include \"vattention/${header}\"\n")
    endif()
  endif()
endforeach()

if(faults)
  message(FATAL_ERROR "vattention: the mirror is broken\n${faults}")
endif()
