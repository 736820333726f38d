# SPDX-License-Identifier: Apache-2.0
include_guard()

# Lets a cross compiler use a header-only package of this machine: such packages name /usr/include, where
# the headers of this machine's C library lie too. `target` gets a folder instead that holds a link to
# the package's `folder` alone, and `${folder}_of_host` is true. A package with a library is left as it
# is, for it has to be the other machine's.
function(vattn_host_headers target folder)
  set(${folder}_of_host FALSE PARENT_SCOPE)
  get_target_property(type ${target} TYPE)
  get_target_property(include_dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
  if(NOT type STREQUAL "INTERFACE_LIBRARY")
    message(STATUS "vattention: ${target} is no header-only package (as Catch2 2.13 is): it has to be "
      "one for ${CMAKE_SYSTEM_PROCESSOR}")
    return()
  endif()
  foreach(dir IN LISTS include_dirs)
    if(EXISTS ${dir}/${folder})
      file(MAKE_DIRECTORY ${PROJECT_BINARY_DIR}/host_headers)
      file(CREATE_LINK ${dir}/${folder} ${PROJECT_BINARY_DIR}/host_headers/${folder} SYMBOLIC)
      set_target_properties(${target} PROPERTIES
        INTERFACE_INCLUDE_DIRECTORIES ${PROJECT_BINARY_DIR}/host_headers)
      set(${folder}_of_host TRUE PARENT_SCOPE)
      return()
    endif()
  endforeach()
  message(FATAL_ERROR "vattention: ${target} names no folder with ${folder}/: ${include_dirs}")
endfunction()
