// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/frozen_centre.hpp"

#include "support/catch.hpp"
#include "support/prepared_call.hpp"

using namespace vattn;

TEST_CASE("the centre is the mean of the first 256 keys and of no other", "[top_k]") {
  test::prepared_call c({.rows = 400, .dim = 5});
  top_k::frozen_centre centre(5);
  centre.settle(c.view());
  const Eigen::VectorXd mean = c.head.keys.topRows(256).cast<double>().colwise().mean();
  for (index_t j = 0; j < 5; ++j) CHECK(centre.data()[j] == Approx(mean[j]).margin(1e-6));
  c.head.keys.bottomRows(144).setConstant(1e6F);
  top_k::frozen_centre again(5);
  again.settle(c.view());
  for (index_t j = 0; j < 5; ++j) CHECK(again.data()[j] == centre.data()[j]);
}

TEST_CASE("fewer keys than 256 are averaged as they are", "[top_k]") {
  test::prepared_call c({.rows = 3, .dim = 2});
  c.head.keys << 1, 2, 3, 4, 5, 9;
  top_k::frozen_centre centre(2);
  centre.settle(c.view());
  CHECK(centre.data()[0] == Approx(3.0));
  CHECK(centre.data()[1] == Approx(5.0));
}

TEST_CASE("keys that are not finite do not move the centre", "[top_k]") {
  test::prepared_call c({.rows = 3, .dim = 1});
  c.head.keys << 1, std::numeric_limits<float>::infinity(), 2;
  top_k::frozen_centre centre(1);
  centre.settle(c.view());
  CHECK(centre.data()[0] == Approx(1.5));
  c.head.keys.setConstant(std::numeric_limits<float>::quiet_NaN());
  centre.settle(c.view());
  CHECK(centre.data()[0] == 0.0F);
}

TEST_CASE("a loaded key is relative to the centre, whatever its type", "[top_k]") {
  for (const element type : {element::f32, element::bf16, element::f16}) {
    test::prepared_call c({.rows = 300, .dim = 7, .type = type});
    top_k::frozen_centre centre(7);
    const kv_view kv = c.view();
    centre.settle(kv);
    float x[7];
    centre.load(kv, 299, x);
    for (index_t j = 0; j < 7; ++j)
      CHECK(x[j] + centre.data()[j] == Approx(c.head.keys(299, j)).margin(0.02));
  }
}
