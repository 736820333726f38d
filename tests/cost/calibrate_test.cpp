// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/calibrate.hpp"

#include "support/catch.hpp"
#include "vattention/cost/model.hpp"

using namespace vattn;

namespace {

/// As little as there can be.
calibration little() {
  return {.key_dim = 32, .value_dim = 32, .group = 2, .bytes = 1, .repeats = 1};
}

}  // namespace

TEST_CASE("a calibration has prices that a model takes") {
  for (const element type : {element::f32, element::bf16, element::f16, element::q8_0}) {
    calibration of = little();
    of.type = type;
    const cost_profile prices = calibrate(of);
    CHECK_NOTHROW(cost::model(prices));
    CHECK_FALSE(prices == cost_profile{});
  }
}

TEST_CASE("a calibration takes several kinds of caches, with one query too") {
  const calibration all[] = {{.key_dim = 48, .value_dim = 16, .group = 1, .bytes = 1, .repeats = 2},
                             little()};
  CHECK_NOTHROW(cost::model(calibrate(all)));
}

TEST_CASE("a calibration of nothing that can be is refused") {
  const auto refuses = [](auto spoil, const std::string& why) {
    calibration of = little();
    spoil(of);
    CHECK_THROWS_AS(calibrate(of), std::invalid_argument);
    CHECK_THROWS_WITH(calibrate(of), "vattention: calibrate: want " + why);
  };
  refuses([](calibration& of) { of.key_dim = 0; }, "dimensions >= 1, got 0, 32");
  refuses([](calibration& of) { of.value_dim = -1; }, "dimensions >= 1, got 32, -1");
  refuses([](calibration& of) { of.group = 0; }, "1 to 64 query heads, got 0");
  refuses([](calibration& of) { of.group = 65; }, "1 to 64 query heads, got 65");
  refuses([](calibration& of) { of.bytes = 0; }, "bytes >= 1, got 0");
  refuses([](calibration& of) { of.repeats = 0; }, "repeats >= 1, got 0");
  refuses(
      [](calibration& of) {
        of.type = element::q8_0;
        of.key_dim = 40;
      },
      "rows of whole blocks (keys, values), got 40, 32");
  CHECK_THROWS_WITH(calibrate(std::span<const calibration>()),
                    "vattention: calibrate: want a kind of cache, got 0");
}
