// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/query_group.hpp"

#include <type_traits>

#include "support/catch.hpp"

using namespace vattn;

using row_major = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TEST_CASE("plain attention is the default") {
  const logit_options plain;
  CHECK(plain.scale == 0.0F);
  CHECK(plain.softcap == 0.0F);
  CHECK(plain.bias == nullptr);
  CHECK(plain.bias_stride == 0);
  CHECK(plain.sink_logits == nullptr);
  CHECK(plain.visible_rows < 0);
  CHECK(plain.visible_of == nullptr);
}

TEST_CASE("an empty group points nowhere") {
  const query_group none;
  CHECK(none.data == nullptr);
  CHECK(none.dim == 0);
}

TEST_CASE("queries from a pointer follow each other") {
  const float queries[6] = {1, 2, 3, 4, 5, 6};
  const query_group group(queries, 2, 3);
  CHECK(group.data == queries);
  CHECK(group.heads == 2);
  CHECK(group.dim == 3);
  CHECK(group.stride == 3);
  CHECK(group.data[group.stride] == 4.0F);
}

TEST_CASE("a vector is one query, whichever way it lies") {
  const Eigen::VectorXf column = Eigen::VectorXf::LinSpaced(5, 0, 4);
  const Eigen::RowVectorXf row = column.transpose();
  const query_group from_column(column);
  const query_group from_row(row);
  for (const query_group* group : {&from_column, &from_row}) {
    CHECK(group->heads == 1);
    CHECK(group->dim == 5);
    CHECK(group->data[4] == 4.0F);
  }
  CHECK(from_column.data == column.data());
  CHECK(from_row.data == row.data());
}

TEST_CASE("a row-major matrix is one query a row") {
  row_major queries(4, 64);
  for (Eigen::Index head = 0; head < 4; ++head)
    queries.row(head).setConstant(static_cast<float>(head));
  const query_group group(queries);
  CHECK(group.heads == 4);
  CHECK(group.dim == 64);
  for (int head = 0; head < group.heads; ++head) {
    const float* query = group.data + head * group.stride;
    CHECK(query[0] == static_cast<float>(head));
    CHECK(query[group.dim - 1] == static_cast<float>(head));
  }
}

TEST_CASE("a matrix of one row-major row is a vector to Eigen and one query to us") {
  const Eigen::Matrix<float, 1, 8> query = Eigen::Matrix<float, 1, 8>::Constant(2.0F);
  const query_group group(query);
  CHECK(group.heads == 1);
  CHECK(group.dim == 8);
}

TEST_CASE("what would be read the wrong way round, or in the wrong type, is no group") {
  STATIC_REQUIRE(std::is_constructible_v<query_group, const row_major&>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<query_group, const Eigen::MatrixXf&>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<query_group, const Eigen::VectorXd&>);
  STATIC_REQUIRE_FALSE(std::is_convertible_v<const row_major&, query_group>);
}

TEST_CASE("options travel with the group") {
  const Eigen::VectorXf query = Eigen::VectorXf::Zero(4);
  const float bias[2] = {0.5F, -0.5F};
  logit_options options;
  options.scale = 0.25F;
  options.softcap = 30.0F;
  options.bias = bias;
  options.visible_rows = 2;
  const query_group from_matrix(query, options);
  const query_group from_pointer(query.data(), 1, 4, options);
  for (const query_group* group : {&from_matrix, &from_pointer}) {
    CHECK(group->logits.scale == 0.25F);
    CHECK(group->logits.softcap == 30.0F);
    CHECK(group->logits.bias == bias);
    CHECK(group->logits.visible_rows == 2);
  }
}

TEST_CASE("the rows that a group sees between its queries") {
  const std::vector<float> numbers(40, 1.0F);
  const kv_view kv(rows_view(numbers.data(), 10, 4), rows_view(numbers.data(), 10, 2));
  query_group queries(numbers.data(), 3, 4);
  CHECK(visible_rows(queries, kv) == 10);
  queries.logits.visible_rows = 7;
  CHECK(visible_rows(queries, kv) == 7);
  const index_t each[3] = {4, 6, 5};
  queries.logits.visible_of = each;
  CHECK(visible_rows(queries, kv) == 6);
  queries.heads = 1;
  CHECK(visible_rows(queries, kv) == 4);
}
