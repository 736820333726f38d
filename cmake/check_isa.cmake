# SPDX-License-Identifier: Apache-2.0
# cmake -DROOT=<repository> -P check_isa.cmake
# Instruction sets are named in include/vattention/kernels and nowhere else in the library.
cmake_minimum_required(VERSION 3.22)

set(include_dir ${ROOT}/include/vattention)
file(GLOB_RECURSE headers RELATIVE ${include_dir} ${include_dir}/*.hpp)
set(names "immintrin|intrin\\.h|arm_neon|_mm[0-9]*_|__m(128|256|512)|__builtin_cpu|cpuid|auxv")
string(APPEND names "|(^|[^A-Za-z])([Aa][Vv][Xx]|[Ss][Ss][Ee][0-9]|[Nn][Ee][Oo][Nn]|[Aa][Mm][Xx])")
set(faults "")
foreach(header IN LISTS headers)
  if(NOT header MATCHES "^kernels/")
    file(STRINGS ${include_dir}/${header} lines REGEX "${names}")
    # A door or the umbrella may include the files of the folder.
    list(FILTER lines EXCLUDE REGEX "^#include \"vattention/kernels/")
    # Which rows can be compiled is a macro of config.hpp.
    list(FILTER lines EXCLUDE REGEX "VATTN_NEON_KERNELS|defined\\(__ARM_NEON\\)")
    foreach(line IN LISTS lines)
      string(APPEND faults "  include/vattention/${header}: ${line}\n")
    endforeach()
  endif()
endforeach()
if(faults)
  message(FATAL_ERROR "vattention: instruction sets belong into include/vattention/kernels\n${faults}")
endif()
