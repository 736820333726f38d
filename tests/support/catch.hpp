// SPDX-License-Identifier: Apache-2.0
/// @file
/// Catch2 v2 or v3, whichever is installed. Tests include this header and no other of Catch2's.
#pragma once

#include <string>

#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>
using Catch::Approx;
namespace Catch {
/// As version 2 has it; version 3's matcher of this name is one of ranges.
inline auto Contains(const std::string& part) { return Matchers::ContainsSubstring(part); }
}  // namespace Catch
#else
#include <catch2/catch.hpp>
using Catch::Detail::Approx;
#endif
