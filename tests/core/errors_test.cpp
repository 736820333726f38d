// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/errors.hpp"

#include "support/catch.hpp"

using vattn::require;

namespace {

std::string message_of(auto&& call) {
  try {
    call();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing thrown";
}

}  // namespace

TEST_CASE("require is silent if the condition holds") {
  CHECK_NOTHROW(require(true, "here", "something", 0));
  CHECK_NOTHROW(require(true, "here", "something", 1, "two", 3.5));
}

TEST_CASE("a refusal names place, wish and what came instead") {
  CHECK(message_of([] { require(false, "sink_window", "counts >= 0", -1); }) ==
        "vattention: sink_window: want counts >= 0, got -1");
}

TEST_CASE("a refusal lists several values with commas") {
  CHECK(message_of([] { require(false, "kv_view", "as many values as keys", 3, 4.5, "x"); }) ==
        "vattention: kv_view: want as many values as keys, got 3, 4.5, x");
}

TEST_CASE("the error is std::invalid_argument, so a logic_error") {
  CHECK_THROWS_AS(require(false, "a", "b", 0), std::invalid_argument);
  CHECK_THROWS_AS(require(false, "a", "b", 0), std::logic_error);
}
