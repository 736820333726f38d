// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/weight_sum.hpp"

#include <random>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::vector<float> log_weights(index_t count, float rise) {
  std::mt19937 engine(4);
  std::normal_distribution<float> normal;
  std::vector<float> t(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < t.size(); ++i)
    t[i] = 3.0F * normal(engine) + rise * static_cast<float>(i);
  return t;
}

/// sum exp(t - largest) over the finite ones.
double plain_sum(const std::vector<float>& t, float largest) {
  double sum = 0.0;
  for (const float x : t)
    if (std::isfinite(x)) sum += std::exp(static_cast<double>(x) - static_cast<double>(largest));
  return sum;
}

weight_sum sum_of(std::vector<float>& t) {
  std::vector<row_t> odd(t.size());
  return sum_weights(kernels::active(), t.data(), static_cast<index_t>(t.size()), odd.data());
}

}  // namespace

TEST_CASE("a sum of weights is that of the definition, whichever way they lie", "[sampling]") {
  for (const float rise : {-0.01F, 0.0F, 0.01F})
    for (const index_t count : {1, 15, 2048, 2049, 9000}) {
      std::vector<float> t = log_weights(count, rise);
      const std::vector<float> before = t;
      const weight_sum all = sum_of(t);
      CHECK(all.largest == *std::max_element(t.begin(), t.end()));
      CHECK(all.sum == Approx(plain_sum(t, all.largest)).epsilon(1e-5));
      CHECK(t == before);
    }
}

TEST_CASE("log-weights of minus infinity weigh nothing", "[sampling]") {
  std::vector<float> t = log_weights(5000, 0.0F);
  std::fill_n(t.begin(), 2500, -infinity);
  const weight_sum all = sum_of(t);
  CHECK(all.sum == Approx(plain_sum(t, all.largest)).epsilon(1e-5));
  std::fill(t.begin(), t.end(), -infinity);
  CHECK(sum_of(t).sum == 0.0);
  std::vector<float> none;
  CHECK(sum_of(none).sum == 0.0);
}

TEST_CASE("log-weights that are no numbers become certain and leave the others' sum alone",
          "[sampling]") {
  std::vector<float> t = log_weights(5000, 0.0F);
  const std::vector<float> before = t;
  t[0] = t[4999] = std::numeric_limits<float>::quiet_NaN();
  t[2100] = infinity;
  const weight_sum all = sum_of(t);
  std::vector<float> rest = before;
  rest[0] = rest[2100] = rest[4999] = -infinity;
  CHECK(all.sum == Approx(plain_sum(rest, all.largest)).epsilon(1e-5));
  for (std::size_t i = 0; i < t.size(); ++i)
    REQUIRE(t[i] == (std::isinf(rest[i]) ? certain_weight : before[i]));
}
