# SPDX-License-Identifier: Apache-2.0
# cmake -DCOMPILER=.. -DSOURCE=.. -DINCLUDES=..;.. -P check.cmake
# The source's first line says what is expected: `// expect: <regular expression>` (an error whose text
# matches) or `// expect-success`.
cmake_minimum_required(VERSION 3.22)

file(STRINGS ${SOURCE} first LIMIT_COUNT 1)
set(flags "")
foreach(dir IN LISTS INCLUDES)
  if(dir)
    list(APPEND flags -isystem ${dir})
  endif()
endforeach()
execute_process(
  COMMAND ${COMPILER} -std=c++20 -fsyntax-only ${flags} ${SOURCE}
  RESULT_VARIABLE code ERROR_VARIABLE text OUTPUT_VARIABLE text)

if(first MATCHES "^// expect-success *$")
  if(NOT code EQUAL 0)
    message(FATAL_ERROR "expected to compile:\n${text}")
  endif()
elseif(first MATCHES "^// expect: (.+)$")
  set(expected "${CMAKE_MATCH_1}")
  if(code EQUAL 0)
    message(FATAL_ERROR "compiled, expected an error that matches: ${expected}")
  elseif(NOT text MATCHES "${expected}")
    message(FATAL_ERROR "failed without an error that matches: ${expected}\n${text}")
  endif()
else()
  message(FATAL_ERROR "the first line is neither `// expect: <regex>` nor `// expect-success`")
endif()
