// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one way a wrong argument is refused: `std::invalid_argument`, one sentence, one grammar.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace vattn {

/// Refuses a wrong argument.
///
/// The message reads `vattention: <where>: want <want>, got <got...>`. Nothing has been changed when
/// it is thrown: every public entry checks all of its arguments before its first side effect.
/// @throws std::invalid_argument if `holds` is false.
template <class... Got>
void require(bool holds, const char* where, const char* want, const Got&... got) {
  if (holds) [[likely]]
    return;
  std::ostringstream message;
  message << "vattention: " << where << ": want " << want << ", got ";
  const char* separator = "";
  ((message << separator << got, separator = ", "), ...);
  throw std::invalid_argument(message.str());
}

}  // namespace vattn
