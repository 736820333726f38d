// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/stream_reader.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a reader gives the stream's own numbers, whatever it skips", "[stream_reader]") {
  const random_stream stream({.seed = 5, .step = 9}, 1);
  stream_reader reader(stream);
  std::uint64_t bound = 3;
  for (const std::uint64_t i : {0ULL, 1ULL, 2ULL, 127ULL, 128ULL, 129ULL, 5001ULL, 5002ULL, 7ULL,
                                (77ULL << 32U), (77ULL << 32U) + 1}) {
    CAPTURE(i);
    CHECK(reader.below(i, bound) == stream.below(i, bound));
    bound = bound * 7 + 1;
  }
}
