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

TEST_CASE("upper halves are filled from any place on, and none beyond", "[stream_reader]") {
  const random_stream stream({.seed = 5}, 2);
  for (const std::uint64_t first : {0U, 1U, 2U, 3U, 7U, 8U, 4093U})
    for (const std::size_t count : {0U, 1U, 2U, 7U, 8U, 255U, 256U, 257U, 1000U}) {
      CAPTURE(first, count);
      std::vector<std::uint16_t> halves(count + 1, 12345);
      fill_high_halves(stream, first, {halves.data(), count});
      for (std::size_t i = 0; i < count; ++i)
        REQUIRE(halves[i] == sampling_number(stream, first + i) >> 16U);
      CHECK(halves[count] == 12345);
    }
}

TEST_CASE("numbers of rows are made of halves of the stream, none of them twice",
          "[stream_reader]") {
  const random_stream stream({.seed = 5}, 2);
  for (std::uint64_t row = 0; row < 100; ++row) {
    const std::uint32_t number = sampling_number(stream, row);
    CHECK(number >> 16U == (stream.u32(row / 2) >> (row % 2 == 0 ? 0U : 16U) & 0xFFFFU));
    CHECK((number & 0xFFFFU) == (stream.u32(row + (std::uint64_t{1} << 62U)) & 0xFFFFU));
  }
}
