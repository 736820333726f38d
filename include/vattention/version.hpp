// SPDX-License-Identifier: Apache-2.0
/// @file
/// The library's version; CMake reads these three lines.
#pragma once

#define VATTN_VERSION_MAJOR 0
#define VATTN_VERSION_MINOR 1
#define VATTN_VERSION_PATCH 0
