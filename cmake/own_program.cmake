# SPDX-License-Identifier: Apache-2.0
include_guard()
find_package(Threads REQUIRED)

# Sets `out` to the package targets that the sources need, told by what they include, and
# `out_missing` to the packages that were not found.
function(vattn_packages_of out out_missing)
  set(found "")
  set(missing "")
  foreach(rule IN ITEMS
      "<benchmark/:benchmark:benchmark::benchmark"
      "<nlohmann/:nlohmann_json:nlohmann_json::nlohmann_json"
      "<CLI/:CLI11:CLI11::CLI11")
    string(REGEX MATCH "^([^:]+):([^:]+):(.+)$" _ "${rule}")
    set(prefix "${CMAKE_MATCH_1}")
    set(package "${CMAKE_MATCH_2}")
    set(target "${CMAKE_MATCH_3}")
    foreach(source IN LISTS ARGN)
      file(STRINGS ${source} uses REGEX "^#include ${prefix}" LIMIT_COUNT 1)
      if(uses)
        find_package(${package} QUIET)
        if(TARGET ${target})
          list(APPEND found ${target})
        else()
          list(APPEND missing ${package})
        endif()
        break()
      endif()
    endforeach()
  endforeach()
  set(${out} "${found}" PARENT_SCOPE)
  set(${out_missing} "${missing}" PARENT_SCOPE)
endfunction()

# The kernels, compiled once for all programs.
file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/kernels.cpp CONTENT
"#include \"vattention/kernels/dispatch.hpp\"\ntemplate struct vattn::kernels::compiled_rows<>;\n")
add_library(vattention_kernels OBJECT EXCLUDE_FROM_ALL ${CMAKE_CURRENT_BINARY_DIR}/kernels.cpp)
target_link_libraries(vattention_kernels PRIVATE vattention::vattention vattention_warnings)

# Adds the program `name` from one source, or says which package it is left out for. Tells by
# `${name}_ADDED`. HEADERS_ONLY: it compiles the kernels itself.
function(vattn_add_program name source)
  set(${name}_ADDED FALSE PARENT_SCOPE)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${source})
  file(GLOB support CONFIGURE_DEPENDS support/*.hpp)
  vattn_packages_of(packages missing ${source} ${support})
  if(missing)
    message(STATUS "vattention: ${name} is left out, not found: ${missing}")
    return()
  endif()
  add_executable(${name} ${source})
  set_target_properties(${name} PROPERTIES CXX_EXTENSIONS OFF)
  target_include_directories(${name} PRIVATE ${CMAKE_CURRENT_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE
    vattention::vattention vattention_warnings Threads::Threads ${packages})
  if(NOT "HEADERS_ONLY" IN_LIST ARGN)
    target_compile_definitions(${name} PRIVATE VATTN_EXTERN_KERNELS)
    target_sources(${name} PRIVATE $<TARGET_OBJECTS:vattention_kernels>)
  endif()
  set(${name}_ADDED TRUE PARENT_SCOPE)
endfunction()
