// SPDX-License-Identifier: Apache-2.0
#include "vattention/testing/adversaries.hpp"

#include <stdexcept>

#include "support/catch.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

constexpr index_t n = 1000, d = 64, d_v = 16;

synthetic_head make(adversary kind, std::uint64_t seed = 3) {
  return make_adversary(kind, n, d, d_v, 2, seed);
}
Eigen::VectorXd weights(const synthetic_head& head, int h) {
  return softmax_weights(head.group(), head.view(), h);
}
index_t heaviest(const synthetic_head& head) {
  index_t row = 0;
  weights(head, 0).maxCoeff(&row);
  return row;
}
Eigen::VectorXf norms(const synthetic_head& head) { return head.keys.rowwise().norm(); }

}  // namespace

TEST_CASE("one key holds a tenth of the mass of every query head", "[heads]") {
  for (const adversary kind : {adversary::long_key, adversary::needle, adversary::twenty_long_keys,
                               adversary::opposite_keys})
    for (const std::uint64_t seed : {1U, 2U, 3U}) {
      const synthetic_head head = make(kind, seed);
      CAPTURE(static_cast<int>(kind), seed);
      for (int h = 0; h < 2; ++h) {
        const Eigen::VectorXd w = weights(head, h);
        // The opposite key replaces an ordinary one, which held about .1 %.
        CHECK(w[heaviest(head)] == Approx(0.1).epsilon(0.01));
        CHECK((w.array() > 0.02).count() == 1);
      }
    }
}

TEST_CASE("long keys are as long as they say, and the heavy one is among them", "[heads]") {
  const synthetic_head one = make(adversary::long_key);
  CHECK(norms(one)[heaviest(one)] == Approx(60.0F).margin(6.0));
  CHECK((norms(one).array() > 30.0F).count() == 1);
  const synthetic_head many = make(adversary::twenty_long_keys);
  CHECK(norms(many)[heaviest(many)] == Approx(40.0F).margin(6.0));
  const auto count = (norms(many).array() > 25.0F).count();
  CHECK(count >= 15);  // drawn with replacement
  CHECK(count <= 20);
  for (const adversary kind : {adversary::needle, adversary::opposite_keys, adversary::equal_keys,
                               adversary::duplicated_keys, adversary::long_values})
    CHECK(norms(make(kind)).maxCoeff() < 25.0F);
}

TEST_CASE("the heavy key's neighbour is its opposite about the mean key", "[heads]") {
  const synthetic_head head = make(adversary::opposite_keys);
  const index_t heavy = heaviest(head);
  const index_t next = heavy + 1 < n ? heavy + 1 : heavy - 1;
  const Eigen::RowVectorXf middle = 0.5F * (head.keys.row(heavy) + head.keys.row(next));
  const Eigen::RowVectorXf mean = head.keys.colwise().mean();
  CHECK((middle - mean).norm() < 0.5F);  // the mean of 1000 keys is off by .25
  CHECK((head.keys.row(heavy) - mean).norm() > 5.0F);
}

TEST_CASE("duplicated keys occur fifty times, equal ones always", "[heads]") {
  const synthetic_head twins = make(adversary::duplicated_keys);
  for (index_t i = 20; i < n; ++i) REQUIRE(twins.keys.row(i) == twins.keys.row(i - 20));
  CHECK(twins.keys.row(0) != twins.keys.row(1));
  CHECK(twins.values.row(0) != twins.values.row(20));
  for (int h = 0; h < 2; ++h) CHECK(weights(twins, h).maxCoeff() == Approx(0.1 / 50).epsilon(1e-4));
  const synthetic_head equal = make(adversary::equal_keys);
  for (index_t i = 1; i < n; ++i) REQUIRE(equal.keys.row(i) == equal.keys.row(0));
}

TEST_CASE("a tenth of the values is long", "[heads]") {
  const synthetic_head head = make(adversary::long_values);
  const Eigen::VectorXf lengths = head.values.rowwise().norm();
  const auto count = (lengths.array() > 50.0F).count();
  CHECK(count > 50);  // 5 standard deviations about 100
  CHECK(count < 150);
  CHECK((lengths.array() < 10.0F).count() == n - count);
}

TEST_CASE(
    "an adversary is a function of its arguments; small ones are made, impossible ones refused",
    "[heads]") {
  for (const adversary kind : all_adversaries) {
    CAPTURE(static_cast<int>(kind));
    const synthetic_head a = make(kind, 6), b = make(kind, 6), c = make(kind, 7);
    CHECK(a.keys == b.keys);
    CHECK(a.values == b.values);
    CHECK((a.keys - c.keys).norm() > 1.0F);
    for (const index_t rows : {1, 2, 3, 49, 51}) {
      const synthetic_head head = make_adversary(kind, rows, 5, 1, 4, 8);
      CHECK(head.keys.allFinite());
      CHECK(head.values.rows() == rows);
    }
  }
  CHECK_THROWS_AS(make_adversary(adversary::needle, 0, 4, 4, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_adversary(adversary::needle, 4, 4, 0, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_adversary(adversary::needle, 4, 4, 4, 4, 0), std::invalid_argument);
}
