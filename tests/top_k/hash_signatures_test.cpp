// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/hash_signatures.hpp"

#include <algorithm>
#include <bit>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/rng.hpp"

using namespace vattn;
using test::count_allocations;
using top_k::hash_signatures;

namespace {

constexpr int most_words = hash_signatures::most_words;

/// Random signatures of `bits` bits, four words each, those not used 0.
std::vector<std::uint64_t> random_signatures(int bits, index_t rows, std::uint64_t seed) {
  const random_stream stream({.seed = seed}, 0);
  std::vector<std::uint64_t> all(static_cast<std::size_t>(most_words * rows));
  for (std::size_t i = 0; i < all.size(); ++i) {
    const int left = bits - 64 * static_cast<int>(i % most_words);
    const std::uint64_t mask = left >= 64  ? ~std::uint64_t{0}
                               : left <= 0 ? 0
                                           : (std::uint64_t{1} << left) - 1;
    all[i] = stream.u64(i) & mask;
  }
  return all;
}

hash_signatures packed(int bits, index_t first, index_t rows, const std::vector<std::uint64_t>& all,
                       hash_signatures to) {
  to.reserve(rows);
  to.grow(rows);
  for (index_t row = first; row < rows; ++row) to.set(row, all.data() + most_words * row);
  CHECK(to.bits() == bits);
  return to;
}
hash_signatures packed(int bits, index_t rows, const std::vector<std::uint64_t>& all) {
  return packed(bits, 0, rows, all, hash_signatures(bits));
}

bool same(const hash_signatures& a, const hash_signatures& b, index_t rows) {
  return std::equal(a.data(), a.data() + hash_signatures::bytes_of(a.bits(), rows) / 8, b.data());
}

}  // namespace

TEST_CASE("signatures are counted against a query, whole chunks and parts", "[top_k]") {
  for (const int bits : {32, 64, 96, 128, 256})
    for (const index_t rows : {1, 2, 301, 4096, 4097, 9001}) {
      const auto all = random_signatures(bits, rows, 3);
      const auto query = random_signatures(bits, 1, 4);
      const hash_signatures signatures = packed(bits, rows, all);
      std::vector<std::uint16_t> counts(static_cast<std::size_t>(rows));
      const row_chunks chunks(rows);
      for (index_t chunk = 0; chunk < chunks.count(); ++chunk)
        signatures.count(kernels::active(), chunks[chunk], query.data(),
                         counts.data() + chunks[chunk].first);
      const int width = bits == 32 ? 32 : 64 * signatures.words();
      index_t off = 0;
      for (index_t row = 0; row < rows; ++row) {
        int different = 0;
        for (int w = 0; w < most_words; ++w)
          different += std::popcount(all[static_cast<std::size_t>(most_words * row + w)] ^
                                     query[static_cast<std::size_t>(w)]);
        off += counts[static_cast<std::size_t>(row)] == 1 + width - different ? 0 : 1;
      }
      CAPTURE(bits, rows);
      CHECK(off == 0);
      CHECK(hash_signatures::most(bits) == 1 + width);
      CHECK(hash_signatures::bytes_of(bits, rows) ==
            (bits == 32 ? 8 * ((rows + 1) / 2) : rows * width / 8));
    }
}

TEST_CASE("signatures that were forgotten and set again are the same", "[top_k]") {
  for (const int bits : {32, 96}) {
    const auto all = random_signatures(bits, 300, 5);
    const hash_signatures whole = packed(bits, 300, all);
    for (const index_t rows : {299, 298, 101, 2, 1, 0}) {
      hash_signatures cut = whole;
      CHECK(count_allocations([&] { cut.forget(rows); }) == 0);
      CAPTURE(bits, rows);
      CHECK(same(cut, packed(bits, rows, all), rows));
      CHECK(same(packed(bits, rows, 300, all, cut), whole, 300));
    }
  }
}
