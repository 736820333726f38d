// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/signature_index.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;

namespace {

/// The signs of a vector's first coordinates.
struct first_coordinates {
  static constexpr const char* appending = "first_coordinates::append";
  int count;
  index_t key_dim;

  int bits() const noexcept { return count; }
  index_t dim() const noexcept { return key_dim; }
  void hash(const float* x, float* /*turned*/, std::uint64_t* signature) const noexcept {
    std::fill_n(signature, (count + 63) / 64, 0);
    for (int bit = 0; bit < count; ++bit)
      if (x[bit] > 0.0F) signature[bit / 64] |= std::uint64_t{1} << (bit % 64);
  }
};

}  // namespace

TEST_CASE("signatures are those of centred keys, and equal signs are counted", "[top_k]") {
  for (const auto& [bits, rows] :
       {std::pair{32, 301}, {64, 301}, {96, 301}, {32, 9001}, {64, 9001}}) {
    constexpr index_t dim = 96;
    test::prepared_call c({rows, dim, 2});
    top_k::signature_index<first_coordinates> index({bits, dim});
    const kv_view kv = c.view();
    index.append(kv);
    CHECK(index.signatures().halves() == (bits == 32));
    CHECK(index.bytes_of(rows) == 8 * (bits == 32 ? (rows + 1) / 2 : bits == 64 ? rows : 2 * rows));
    const int unused = bits == 96 ? 32 : 0;  // of the last word
    CHECK(top_k::hash_signatures::most(bits) == 1 + bits + unused);
    const Eigen::VectorXf centre = c.head.keys.topRows(256).colwise().mean();
    for (const float scale : {0.5F, -0.5F}) {
      c.options.scale = scale;
      c.begin(true);
      const query_group queries = c.group();
      index.count(attention_call<kv_view>(queries, kv, {}), c.ws.seen, c.ws);
      for (int h = 0; h < 2; ++h) {
        int off = 0;
        for (index_t row = 0; row < rows; ++row) {
          int equal = 0;
          for (int j = 0; j < bits; ++j)
            equal +=
                (scale * c.head.queries(h, j) > 0.0F) == (c.head.keys(row, j) - centre[j] > 0.0F)
                    ? 1
                    : 0;
          const int count = c.ws.seen.counts(h)[static_cast<std::size_t>(row)];
          off += count != 1 + equal + unused ? 1 : 0;
        }
        // But where a coordinate is within rounding of the centre.
        CAPTURE(bits, scale, h);
        CHECK(off <= rows / 100);
      }
    }
  }
}

TEST_CASE("errors of an append name the index of the directions") {
  test::prepared_call c({30, 40});
  top_k::signature_index<first_coordinates> index({32, 41});
  CHECK_THROWS_WITH(index.append(c.view()), Catch::Contains("first_coordinates::append"));
  CHECK(index.rows() == 0);
}
