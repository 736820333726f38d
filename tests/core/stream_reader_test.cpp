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

TEST_CASE("numbers are filled from any place on, and none beyond", "[stream_reader]") {
  const random_stream stream({.seed = 6, .step = 2}, 1);
  for (const std::uint64_t first : {0ULL, 1ULL, 2ULL, 3ULL, 255ULL, 4097ULL, (7ULL << 32U) + 2})
    for (const std::size_t count : {0U, 1U, 3U, 255U, 256U, 257U, 1000U}) {
      CAPTURE(first, count);
      std::vector<std::uint32_t> out(count + 1, 42);
      fill_numbers(stream, first, {out.data(), count});
      bool same = true;
      for (std::size_t i = 0; i < count; ++i) same = same && out[i] == stream.u32(first + i);
      CHECK(same);
      CHECK(out.back() == 42);
    }
}
