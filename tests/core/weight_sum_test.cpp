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

weight_sum sum_of(const std::vector<float>& t) {
  return sum_weights(kernels::active(), t.data(), static_cast<index_t>(t.size()));
}

}  // namespace

TEST_CASE("a sum of weights is that of the definition, whichever way they lie", "[sampling]") {
  for (const float rise : {-0.01F, 0.0F, 0.01F})
    for (const index_t count : {1, 15, 2048, 2049, 9000}) {
      const std::vector<float> t = log_weights(count, rise);
      const weight_sum all = sum_of(t);
      CHECK(all.largest == *std::max_element(t.begin(), t.end()));
      CHECK(all.sum == Approx(plain_sum(t, all.largest)).epsilon(1e-5));
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

TEST_CASE("sums over parts add up, an empty one to nothing", "[sampling]") {
  const std::vector<float> t = log_weights(9000, 0.003F);
  weight_sum all;
  for (const std::ptrdiff_t from : {6000, 0, 3000})
    all.add(sum_of({t.begin() + from, t.begin() + from + 3000}));
  all.add({});
  all.add(sum_of(std::vector<float>(3, -infinity)));
  CHECK(all.largest == *std::max_element(t.begin(), t.end()));
  CHECK(all.sum == Approx(plain_sum(t, all.largest)).epsilon(1e-5));
  weight_sum none;
  none.add({});
  CHECK(none.sum == 0.0);
}

TEST_CASE("a log-weight that is no number shows in the sum, wherever it is", "[sampling]") {
  for (const float odd : {std::numeric_limits<float>::quiet_NaN(), infinity})
    for (const std::size_t at : {0U, 2500U, 8999U}) {
      std::vector<float> t = log_weights(9000, 0.0F);
      t[at] = odd;
      weight_sum all = sum_of({t.begin(), t.begin() + 4500});
      all.add(sum_of({t.begin() + 4500, t.end()}));
      CHECK_FALSE(std::isfinite(all.sum));
    }
}

TEST_CASE("nor is it missed among log-weights of minus infinity", "[sampling]") {
  std::vector<float> t(5000, -infinity);
  t[100] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(std::isfinite(sum_of(t).sum));
  std::fill(t.begin(), t.end(), std::numeric_limits<float>::quiet_NaN());
  CHECK_FALSE(std::isfinite(sum_of(t).sum));
}

TEST_CASE("log-weights that are no numbers become certain and leave the others' sum alone",
          "[sampling]") {
  std::vector<float> t = log_weights(5000, 0.0F);
  const std::vector<float> before = t;
  t[0] = t[4999] = std::numeric_limits<float>::quiet_NaN();
  t[2100] = infinity;
  std::vector<row_t> odd(t.size());
  const weight_sum all = sum_predicted(kernels::active(), t.data(), 5000, odd.data());
  std::vector<float> rest = before;
  rest[0] = rest[2100] = rest[4999] = -infinity;
  CHECK(all.sum == Approx(plain_sum(rest, all.largest)).epsilon(1e-5));
  for (std::size_t i = 0; i < t.size(); ++i)
    REQUIRE(t[i] == (std::isinf(rest[i]) ? certain_weight : before[i]));
}
