// SPDX-License-Identifier: Apache-2.0
#include "vattention/attend.hpp"

#include "support/catch.hpp"
#include "vattention/cost/model.hpp"
#include "vattention/testing/heads.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

TEST_CASE("one line on Eigen matrices is the default composition", "[attend]") {
  const synthetic_head head = make_head(head_kind::power_law, 5000, 64, 48, 3, 2);
  const owned_result got =
      attend(head.queries, head.keys, head.values, epsilon{0.2}, delta{0.05}, {9});
  const auto functor = presets::standard(epsilon{0.2}, delta{0.05});
  workspace ws;
  const result want = functor(head.group(), head.view(), functor.make_index(head.view()), {9}, ws);
  CHECK(got.output == want.output);
  REQUIRE(got.certificates.size() == 3);
  REQUIRE(got.log_sum_exp.size() == 3);
  REQUIRE(got.log_sum_exp_error.size() == 3);
  for (std::size_t h = 0; h < 3; ++h) {
    CHECK(got.log_sum_exp[h] == want.log_sum_exp[h]);
    CHECK(got.log_sum_exp_error[h] == want.log_sum_exp_error[h]);
    CHECK(got.certificates[h].epsilon == want.certificates[h].epsilon);
    CHECK(got.certificates[h].status == status::met);
    CHECK(got.certificates[h].epsilon_asked == 0.2);
    CHECK(got.certificates[h].delta == 0.05);
  }
}

TEST_CASE("one line takes any scalar, storage order and expression", "[attend]") {
  const synthetic_head head = make_head(head_kind::mixed, 3000, 32, 32, 2, 2);
  const owned_result want = attend(head.queries, head.keys, head.values);
  const Eigen::MatrixXd q = head.queries.cast<double>(), k = head.keys.cast<double>();
  const Eigen::MatrixXd v = head.values.cast<double>();
  CHECK(attend(q, k, v).output == want.output);
  CHECK(attend(2.0 * q / 2.0, k.topRows(3000), v.array().matrix()).output == want.output);
  const Eigen::MatrixXf columns = head.keys;
  CHECK(attend(head.queries, columns, head.values).output == want.output);
}

TEST_CASE("one query may be a vector, lying or standing", "[attend]") {
  const synthetic_head head = make_head(head_kind::mixed, 3000, 32, 32, 2, 2);
  const owned_result want = attend(head.queries.topRows(1), head.keys, head.values);
  const Eigen::VectorXf standing = head.queries.row(0);
  const Eigen::RowVectorXd lying = head.queries.row(0).cast<double>();
  CHECK(attend(standing, head.keys, head.values).output == want.output);
  CHECK(attend(lying, head.keys, head.values).output == want.output);
  CHECK(want.output.rows() == 1);
}

TEST_CASE("the defaults are epsilon .1 and delta .1", "[attend]") {
  const synthetic_head head = make_head(head_kind::flat, 4000, 32, 16, 1, 2);
  const owned_result got = attend(head.queries, head.keys, head.values);
  CHECK(got.certificates[0].epsilon_asked == 0.1);
  CHECK(got.certificates[0].delta == 0.1);
  CHECK(got.certificates[0].status == status::met);
  const exact_attention want = reference(head.group(), head.view());
  CHECK(relative_error(got.output, want.output) <= 0.1);
}

TEST_CASE("a short cache is read exactly", "[attend]") {
  const synthetic_head head = make_head(head_kind::mixed, 100, 32, 24, 2, 2);
  const owned_result got = attend(head.queries, head.keys, head.values);
  CHECK(got.certificates[1].status == status::exact);
  CHECK(relative_error(got.output, reference(head.group(), head.view()).output) < 1e-5);
}

TEST_CASE("one line takes a cost policy", "[attend]") {
  const synthetic_head head = make_head(head_kind::mixed, 1000, 32, 24, 2, 2);
  const auto answer = [&](auto cost) {
    return attend(head.queries, head.keys, head.values, epsilon{0.3}, delta{0.1}, {1}, cost);
  };
  workspace ws;
  CHECK(answer(cost::model()).certificates[0].status == status::exact);
  CHECK(answer(cost::model()).output == dense(head.group(), head.view(), ws).output);
  CHECK(answer(cost::none()).certificates[0].rows_sampled > 0);
}

TEST_CASE("one line refuses shapes that do not fit", "[attend]") {
  const Eigen::MatrixXf q = Eigen::MatrixXf::Ones(2, 8), k = Eigen::MatrixXf::Ones(50, 8);
  const Eigen::MatrixXf v = Eigen::MatrixXf::Ones(50, 4);
  CHECK_THROWS_WITH(attend(q.leftCols(7), k, v),
                    "vattention: attend: want queries as long as the keys, got 7, 8");
  CHECK_THROWS_WITH(attend(q, k, v.topRows(49)),
                    "vattention: kv_view: want as many values as keys, got 50, 49");
  CHECK_THROWS_AS(attend(q, k.topRows(0), v.topRows(0)), std::invalid_argument);
  CHECK_THROWS_AS(attend(q, k.leftCols(0), v), std::invalid_argument);
}
