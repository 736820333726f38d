// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/result.hpp"

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a result looks into its workspace", "[result]") {
  workspace ws;
  ws.reserve(3, 10, 4, 5, false);
  for (index_t i = 0; i < 15; ++i) ws.output[i] = static_cast<float>(i);
  for (index_t h = 0; h < 3; ++h) {
    ws.log_sum_exp[h] = static_cast<double>(h);
    ws.log_sum_exp_error[h] = 0.5 * static_cast<double>(h);
    ws.certificates[h].looks = static_cast<int>(h) + 1;
  }
  const result r(ws, 3, 5);
  CHECK(r.output.rows() == 3);
  CHECK(r.output.cols() == 5);
  CHECK(r.output(2, 1) == 11.0F);
  CHECK(r.output.data() == ws.output.data());
  CHECK(r.log_sum_exp.size() == 3);
  CHECK(r.log_sum_exp[2] == 2.0);
  CHECK(r.log_sum_exp_error[1] == 0.5);
  CHECK(r.certificates.size() == 3);
  CHECK(r.certificates[2].looks == 3);
}

TEST_CASE("an output is the quotient, and zero where nothing weighs", "[result]") {
  const double numerator[3] = {1.0, -2.0, 1e-30};
  float out[3] = {9.0F, 9.0F, 9.0F};
  CHECK(detail::write_output(numerator, 4.0, 3, out));
  CHECK(out[0] == 0.25F);
  CHECK(out[1] == -0.5F);
  CHECK(out[2] == 2.5e-31F);
  const double zero[3] = {0.0, 0.0, 0.0};
  CHECK(detail::write_output(zero, 0.0, 3, out));
  CHECK(out[0] == 0.0F);
  CHECK(out[2] == 0.0F);
}

TEST_CASE("an output that is not finite is reported", "[result]") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const double not_a_number = std::nan("");
  float out[2];
  const double good[2] = {1.0, 2.0};
  const double bad[2] = {1.0, not_a_number};
  const double huge[2] = {1.0, infinity};
  CHECK_FALSE(detail::write_output(bad, 1.0, 2, out));
  CHECK_FALSE(detail::write_output(huge, 1.0, 2, out));
  CHECK_FALSE(detail::write_output(good, not_a_number, 2, out));
  CHECK_FALSE(detail::write_output(good, infinity, 2, out));
}
