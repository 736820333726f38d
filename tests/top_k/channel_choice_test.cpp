// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/channel_choice.hpp"

#include "support/catch.hpp"
#include "support/channels.hpp"
#include "support/top_k_contract.hpp"

using namespace vattn;
using test::by_size;
using test::keys_of;
using test::magnitudes;

TEST_CASE("channel_magnitudes: means are of the finite vectors, and 0 where there is none") {
  top_k::channel_magnitudes of(3);
  for (index_t j = 0; j < 3; ++j) CHECK(of.mean(j) == 0.0);
  of.add(std::vector<float>{1.0F, -2.0F, 0.0F});
  of.add(std::vector<float>{8.0F, std::nanf(""), 8.0F});
  of.add(std::vector<float>{8.0F, 8.0F, -HUGE_VALF});
  of.add(std::vector<float>{-3.0F, 0.5F, 0.0F});
  CHECK(of.mean(0) == 2.0);
  CHECK(of.mean(1) == 1.25);
  CHECK(of.mean(2) == 0.0);
}

TEST_CASE("channel_magnitudes: the largest come first, equal ones by number") {
  const std::vector<double> sizes{1.0, 5.0, 0.0, 5.0, 7.0, 1.0};
  const auto largest = [&](index_t count) {
    return top_k::channel_magnitudes::largest(
        6, count, [&](index_t j) { return sizes[static_cast<std::size_t>(j)]; });
  };
  using list = std::vector<std::int32_t>;
  CHECK(largest(0).empty());
  CHECK(largest(1) == list{4});
  CHECK(largest(4) == list{4, 1, 3, 0});
  CHECK(largest(6) == list{4, 1, 3, 0, 5, 2});
}

TEST_CASE("choose_channels: the channels are those of the largest mean products") {
  for (const test::cache_shape& shape : test::contract_shapes()) {
    test::prepared_call c(shape);
    test::prepared_call sampled({.rows = 90, .dim = shape.dim, .seed = 77});
    const synthetic_head::matrix& queries = sampled.head.keys;
    c.head.keys.col(3).setZero();
    c.head.keys.col(5).setZero();
    const kv_view kv = c.view();
    const Eigen::VectorXd size = magnitudes(queries).cwiseProduct(magnitudes(keys_of(kv)));
    for (const index_t count : {index_t{1}, index_t{7}, index_t{32}, shape.dim, index_t{5000}}) {
      CAPTURE(shape.dim, count);
      const auto chosen = top_k::choose_channels(queries.data(), 90, kv, count);
      CHECK(chosen == by_size(size, count));
      if (count < shape.dim) continue;
      CHECK(chosen[chosen.size() - 2] == 3);  // tied at 0
      CHECK(chosen.back() == 5);
    }
    // What is not finite does not count.
    synthetic_head::matrix more(91, shape.dim);
    more.topRows(90) = queries;
    more.row(90).setConstant(1e6F);
    more(90, 1) = std::numeric_limits<float>::infinity();
    CHECK(top_k::choose_channels(more.data(), 91, kv, 7) == by_size(size, 7));
    CHECK_THROWS_AS(top_k::choose_channels(queries.data(), 0, kv, 7), std::invalid_argument);
    CHECK_THROWS_AS(top_k::choose_channels(queries.data(), 90, kv, 0), std::invalid_argument);
    CHECK_THROWS_AS(top_k::choose_channels(queries.data(), 90, kv.shard(0, 0), 7),
                    std::invalid_argument);
  }
}
