// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/share_histogram.hpp"

#include <numeric>
#include <vector>

#include "support/catch.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;

namespace {

/// Shares of normal log-weights of a given deviation, summing to 1.
std::vector<float> shares(double deviation, std::size_t count) {
  detail::head_source source(5, 3);
  std::vector<double> g(count);
  for (double& x : g) x = std::exp(deviation * source.normal());
  const double sum = std::accumulate(g.begin(), g.end(), 0.0);
  std::vector<float> out;
  for (const double x : g) out.push_back(static_cast<float>(x / sum));
  return out;
}
double expected(const std::vector<float>& g, double scale) {
  double size = 0.0;
  for (const float x : g) size += std::min(1.0, scale * static_cast<double>(x));
  return size;
}

}  // namespace

TEST_CASE("the scale for a size gives about that size, whatever the shares") {
  std::vector<double> counts(share_histogram::buckets);
  share_histogram histogram(counts.data());
  for (const double deviation : {0.0, 0.5, 2.0, 4.0, 8.0})
    for (const std::size_t count : {65U, 1000U, 20000U}) {
      const std::vector<float> g = shares(deviation, count);
      histogram.clear();
      histogram.add_all(g);
      double before = 0.0;
      for (const double size : {1.0, 10.0, 64.0}) {
        CAPTURE(deviation, count, size);
        const double scale = histogram.scale_for(size);
        // Smaller shares are as good as 0.
        const auto counted =
            std::count_if(g.begin(), g.end(), [](float x) { return x >= 0x1p-31F; });
        if (size > static_cast<double>(counted)) {
          CHECK(std::isinf(scale));
          continue;
        }
        CHECK(expected(g, scale) == Approx(size).epsilon(0.07));
        CHECK(histogram.size_at(scale) == Approx(size).epsilon(1e-9));
        CHECK(scale > before);
        before = scale;
      }
      CHECK(std::isinf(histogram.scale_for(static_cast<double>(count) + 1.0)));
    }
}

TEST_CASE("rows may stand for several, and a share of 0 for none") {
  std::vector<double> counts(share_histogram::buckets);
  share_histogram histogram(counts.data());
  histogram.clear();
  CHECK(std::isinf(histogram.scale_for(1.0)));
  histogram.add(0.001F, 100.0);
  CHECK(histogram.size_at(10.0) == Approx(1.0).epsilon(0.07));
  CHECK(histogram.size_at(1e9) == 100.0);
  const std::vector<float> none(50, 0.0F);
  histogram.add_all(none);
  CHECK(histogram.size_at(1e9) == 100.0);
}

TEST_CASE("shares beyond the ends fall into the last buckets") {
  std::vector<double> counts(share_histogram::buckets);
  share_histogram histogram(counts.data());
  histogram.clear();
  histogram.add(1e30F, 1.0);
  histogram.add(1e-30F, 1.0);
  CHECK(histogram.size_at(1.0) == Approx(1.0).epsilon(1e-6));
  CHECK(counts[share_histogram::buckets - 1] == 1.0);
  CHECK(counts[0] == 1.0);
}

TEST_CASE("shares counted an array after the other are those counted at once") {
  const std::vector<float> g = shares(2.0, 1001);
  std::vector<double> one(share_histogram::buckets), other(share_histogram::buckets);
  share_histogram(one.data()).add_all(g);
  share_counts counts;
  const std::span<const float> all(g);
  counts.add(all.first(256));
  counts.add(all.subspan(256, 3));
  counts.add(all.subspan(259));
  counts.add_to(share_histogram(other.data()), 2.0);
  CHECK(std::accumulate(one.begin(), one.end(), 0.0) > 900.0);
  for (std::size_t k = 0; k < one.size(); ++k) REQUIRE(other[k] == 2.0 * one[k]);
}

TEST_CASE("shares counted with weights stand for as many rows") {
  const std::vector<float> g = shares(2.0, 1001);
  std::vector<float> weights(g.size());
  for (std::size_t i = 0; i < g.size(); ++i) weights[i] = static_cast<float>(i % 7) * 0.5F;
  std::vector<double> one(share_histogram::buckets), other(share_histogram::buckets);
  for (std::size_t i = 0; i < g.size(); ++i)
    share_histogram(one.data()).add(g[i], static_cast<double>(weights[i]));
  share_counts<double> counts;
  counts.add(g, weights.data());
  counts.add_to(share_histogram(other.data()), 1.0);
  for (std::size_t k = 1; k < one.size(); ++k) REQUIRE(other[k] == Approx(one[k]));
}
