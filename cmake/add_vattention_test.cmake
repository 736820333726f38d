# SPDX-License-Identifier: Apache-2.0
include_guard()
include(Catch)

# Compiles a folder's tests eight to a translation unit: what several of them instantiate is compiled once. Each file has
# a namespace of its own, so all that it includes is included before the first.
function(vattn_unite_tests program folder)
  set(includes "")
  foreach(source IN LISTS ARGN)
    get_source_file_property(alone ${source} SKIP_UNITY_BUILD_INCLUSION)
    if(alone)
      continue()
    endif()
    file(STRINGS ${source} lines REGEX "^#include ")
    list(APPEND includes ${lines})
  endforeach()
  list(REMOVE_DUPLICATES includes)
  list(JOIN includes "\n" includes)
  set(headers ${CMAKE_CURRENT_BINARY_DIR}/generated/${program}_headers.hpp)
  file(CONFIGURE OUTPUT ${headers} CONTENT "#pragma once\n${includes}\n" @ONLY)
  target_include_directories(${program} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR}/${folder})
  set_target_properties(${program} PROPERTIES
    UNITY_BUILD ON
    UNITY_BUILD_BATCH_SIZE 8
    UNITY_BUILD_UNIQUE_ID vattn_test_file
    UNITY_BUILD_CODE_BEFORE_INCLUDE "#include \"${headers}\"\nnamespace vattn_test_file {"
    UNITY_BUILD_CODE_AFTER_INCLUDE "}")
endfunction()

# The kernel rows that each program is run under again: the machine's own row, AVX2 or wider, is that of the other tests.
set(vattn_swept_rows scalar)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "^(x86_64|AMD64)$")
  set(flags "")
  if(EXISTS /proc/cpuinfo)
    file(STRINGS /proc/cpuinfo flags REGEX "^flags" LIMIT_COUNT 1)
  endif()
  if(NOT flags OR flags MATCHES " avx512f")
    list(APPEND vattn_swept_rows avx2)
  endif()
endif()

# Builds every tests/<folder>/*_test.cpp (folder "." for tests/*_test.cpp) that VATTN_TESTS names, or all,
# into one program and tells ctest each of its test cases. Each program holds odr/*.cpp, so a function that is defined twice in
# two translation units does not link.
#   NO_ISA_SWEEP   do not run the program again under the other kernel rows
#   LABEL, TIMEOUT of each test case
function(add_vattention_test folder)
  cmake_parse_arguments(PARSE_ARGV 1 arg "NO_ISA_SWEEP" "LABEL;TIMEOUT" "")
  file(GLOB sources RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS
    ${folder}/*_test.cpp)
  list(FILTER sources INCLUDE REGEX "${VATTN_TESTS}")
  set(name ${folder})
  if(folder STREQUAL ".")
    set(name library)
  endif()
  set(program vattention_test_${name})
  if(NOT arg_LABEL)
    set(arg_LABEL unit)
  endif()
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 300)
  endif()

  vattn_packages_of(packages missing ${sources})
  if(missing)
    message(FATAL_ERROR "vattention: tests/${folder} needs, not found: ${missing}")
  endif()
  add_executable(${program} ${sources})
  target_link_libraries(${program} PRIVATE vattention_test_support ${packages})
  target_sources(${program} PRIVATE $<TARGET_OBJECTS:vattention_test_odr>)
  target_precompile_headers(${program} REUSE_FROM vattention_test_odr)
  # Tests of the kernels add to the library's own namespace. Together those of the examples make g++ 12 warn of
  # std::string's own copying, wrongly.
  if(VATTN_UNITY_TESTS AND NOT folder MATCHES "^(kernels|examples)$")
    vattn_unite_tests(${program} ${folder} ${sources})
  endif()

  catch_discover_tests(${program}
    TEST_PREFIX "${name}."
    WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR}
    PROPERTIES LABELS ${arg_LABEL} TIMEOUT ${arg_TIMEOUT})

  if(NOT arg_NO_ISA_SWEEP)
    foreach(row IN LISTS vattn_swept_rows)
      add_test(NAME isa.${row}.${name} COMMAND ${program}
        WORKING_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR})
      set_tests_properties(isa.${row}.${name} PROPERTIES
        ENVIRONMENT VATTN_ISA=${row} LABELS isa TIMEOUT 600)
    endforeach()
  endif()
endfunction()
