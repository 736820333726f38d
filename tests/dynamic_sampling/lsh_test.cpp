// SPDX-License-Identifier: Apache-2.0
#include "vattention/dynamic_sampling/lsh.hpp"

#include "support/reseeded.hpp"
#include "vattention/base_sampling/lsh.hpp"
#include "vattention/top_k/lsh.hpp"

using namespace vattn;

namespace {

auto some(std::uint64_t seed) {
  return test::samplers{base_sampling::lsh(rows(20), 1), dynamic_sampling::lsh(),
                        top_k::lsh(64, 1, rows(0), seed)};
}

}  // namespace

TEST_CASE("dynamic lsh keeps the contract of samplers over the seeds of the index", "[sampling]") {
  SECTION("two bits a table") {
    test::check_reseeded_samplers([](std::uint64_t seed) {
      return test::samplers{base_sampling::lsh(rows(20), 1), dynamic_sampling::lsh(),
                            top_k::lsh(64, 2, rows(0), seed)};
    });
  }
  SECTION("no table kept for the sampler") {
    test::check_reseeded_samplers([](std::uint64_t seed) {
      return test::samplers{base_sampling::lsh(rows(40), 1), dynamic_sampling::lsh(),
                            top_k::lsh(64, 1, rows(0), seed, 0)};
    });
  }
}

TEST_CASE("one size serves all heads: the largest that any asks for", "[sampling]") {
  test::sampling s(some(1), 3);
  s.draw({5});
  for (int h = 0; h < 3; ++h) CHECK(s.size(h) == 20);
  s.grow_heads({20, 31, 25});
  for (int h = 0; h < 3; ++h) CHECK(s.size(h) == 31);
  s.grow_heads({20, 10, 5});  // a smaller wish changes nothing
  for (int h = 0; h < 3; ++h) CHECK(s.size(h) == 31);
  s.grow_heads({31, 1000000, 5});
  CHECK(s.drawn().size() == s.residual());
}

TEST_CASE("a growth by nothing changes nothing and has no fresh rows, by collisions too") {
  test::sampling s(some(2));
  s.draw({5});
  const std::vector<row_t> before = s.drawn_rows();
  const std::vector<threshold_t> thresholds = s.thresholds();
  s.grow(20);
  CHECK(s.drawn_rows() == before);
  CHECK(s.thresholds() == thresholds);
  CHECK(s.drawn().fresh() == s.drawn().size());
}

TEST_CASE("the resolution of a sample by collisions falls as it grows", "[sampling]") {
  test::sampling s(some(2));
  s.draw({5});
  const double before = s.resolution();
  s.grow(100);
  CHECK(s.resolution() < before);
}
