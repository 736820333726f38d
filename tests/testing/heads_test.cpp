// SPDX-License-Identifier: Apache-2.0
#include "vattention/testing/heads.hpp"

#include <cmath>
#include <functional>
#include <stdexcept>

#include "support/catch.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

constexpr head_kind kinds[] = {head_kind::sharp,     head_kind::mixed,      head_kind::flat,
                               head_kind::power_law, head_kind::log_normal, head_kind::missed_key};
constexpr index_t n = 4000, d = 64, d_v = 32;

/// Softmax weights of one head, largest first.
Eigen::VectorXd sorted_weights(const synthetic_head& head, int h) {
  Eigen::VectorXd w = softmax_weights(head.group(), head.view(), h);
  std::sort(w.data(), w.data() + w.size(), std::greater<>());
  return w;
}

/// The row of the longest key, and the share of keys a sign code (keys less their mean, one bit a
/// coordinate, one scale a key) ranks at or above it.
struct longest {
  index_t row = 0;
  double rank_share = 0.0;
};
longest longest_key(const synthetic_head& head, int h) {
  longest out;
  head.keys.rowwise().squaredNorm().maxCoeff(&out.row);
  const Eigen::RowVectorXf mean = head.keys.colwise().mean();
  Eigen::VectorXf predicted(head.keys.rows());
  for (index_t i = 0; i < head.keys.rows(); ++i) {
    const Eigen::RowVectorXf x = head.keys.row(i) - mean;
    predicted[i] = x.squaredNorm() / x.lpNorm<1>() * x.cwiseSign().dot(head.queries.row(h));
  }
  const float own = predicted[out.row];
  out.rank_share = static_cast<double>((predicted.array() >= own).count()) /
                   static_cast<double>(head.keys.rows());
  return out;
}

}  // namespace

TEST_CASE("heads have the promised weights", "[heads]") {
  for (const std::uint64_t seed : {1ULL, 2ULL, 3ULL})
    for (const int h : {0, 2}) {
      CAPTURE(seed, h);
      const auto make = [&](head_kind kind) { return make_head(kind, n, d, d_v, 3, seed); };
      const auto weights = [&](head_kind kind) { return sorted_weights(make(kind), h); };

      const Eigen::VectorXd sharp = weights(head_kind::sharp);
      CHECK(sharp.head(8).sum() == Approx(0.95).epsilon(1e-4));
      CHECK(sharp[0] == Approx(0.3495).epsilon(1e-3));
      CHECK(sharp[0] == Approx(8 * sharp[7]).epsilon(1e-4));

      const Eigen::VectorXd mixed = weights(head_kind::mixed);
      CHECK(mixed.head(n / 100).sum() == Approx(0.5).epsilon(1e-4));
      CHECK(mixed[0] == Approx(mixed[n / 100 - 1]).epsilon(1e-4));
      CHECK(mixed[n / 100] < 1.0 / n);

      const Eigen::VectorXd flat = weights(head_kind::flat);
      CHECK(flat[0] < 1.6 / n);
      CHECK(flat[n - 1] > 0.6 / n);
      const synthetic_head even = make(head_kind::flat);
      CHECK(reference(even.group(), even.view()).entropy_share[h] == Approx(0.995).margin(1e-3));

      const Eigen::VectorXd power = weights(head_kind::power_law);
      for (const index_t r : {1, 10, 1000})
        CHECK(power[r - 1] * static_cast<double>(r) == Approx(power[0]).epsilon(1e-4));

      // The standard deviation of 4000 normals is off by more than 5 % with odds of 1e-5.
      const Eigen::ArrayXd l = weights(head_kind::log_normal).array().log();
      CHECK(std::sqrt((l - l.mean()).square().sum() / (n - 1)) == Approx(2.0).epsilon(0.05));
    }
}

TEST_CASE("missed_key hides a heavy key behind its norm", "[heads]") {
  double total = 0.0;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const synthetic_head head = make_head(head_kind::missed_key, 1000, d, d_v, 3, seed);
    for (int h = 0; h < 3; ++h) {
      CAPTURE(seed, h);
      const longest key = longest_key(head, h);
      CHECK(head.keys.row(key.row).norm() == Approx(60.0F).margin(4.0));
      Eigen::VectorXd w = softmax_weights(head.group(), head.view(), h);
      CHECK(w[key.row] == Approx(0.2).epsilon(1e-3));
      CHECK(key.rank_share > 0.98);
      w[key.row] = 0.0;
      const Eigen::MatrixXd values = head.values.cast<double>();
      const Eigen::VectorXd without = values.transpose() * w / w.sum();
      const double error =
          relative_error(without, reference(head.group(), head.view()).output.row(h));
      CHECK(error > 0.2);
      total += error / 60;
    }
  }
  CHECK(total == Approx(0.4).margin(0.06));
}

TEST_CASE("no other kind has an outlying key", "[heads]") {
  for (const head_kind kind : kinds) {
    if (kind == head_kind::missed_key) continue;
    const synthetic_head head = make_head(kind, n, d, d_v, 2, 4);
    CHECK(head.keys.rowwise().norm().maxCoeff() < 20.0F);
  }
}

TEST_CASE("heads lie where the formula says", "[heads]") {
  const synthetic_head head = make_head(head_kind::flat, n, d, d_v, 3, 5);
  const Eigen::MatrixXf gram = head.queries * head.queries.transpose();
  CHECK((gram - 9.0F * d * Eigen::MatrixXf::Identity(3, 3)).cwiseAbs().maxCoeff() < 1e-2F);
  // rms ||v||^2 = 1.25 d_v; the output of a flat head is the mean value, .25 d_v.
  CHECK(head.values.squaredNorm() / (n * d_v) == Approx(1.25F).epsilon(0.05));
  const exact_attention exact = reference(head.group(), head.view());
  for (int h = 0; h < 3; ++h)
    CHECK(exact.output.row(h).squaredNorm() == Approx(0.25 * d_v).epsilon(0.1));
}

TEST_CASE("a head is a function of its arguments", "[heads]") {
  for (const head_kind kind : kinds) {
    const synthetic_head a = make_head(kind, 50, 16, 8, 2, 6);
    const synthetic_head b = make_head(kind, 50, 16, 8, 2, 6);
    const synthetic_head c = make_head(kind, 50, 16, 8, 2, 7);
    CHECK(a.keys == b.keys);
    CHECK(a.values == b.values);
    CHECK(a.queries == b.queries);
    CHECK((a.keys - c.keys).norm() > 1.0F);
    CHECK(a.keys.allFinite());
  }
}

TEST_CASE("small and odd heads are made as well, impossible ones refused", "[heads]") {
  for (const head_kind kind : kinds)
    for (const index_t rows : {1, 2, 3, 5, 17}) {
      const synthetic_head head = make_head(kind, rows, 5, 1, 4, 8);
      CAPTURE(static_cast<int>(kind), rows);
      CHECK(head.keys.allFinite());
      CHECK(head.values.rows() == rows);
      const exact_attention exact = reference(head.group(), head.view());
      CHECK(exact.output.allFinite());
      CHECK((rows > 1 || exact.entropy_share[0] == Approx(1.0)));
    }
  CHECK_THROWS_AS(make_head(head_kind::flat, 0, 4, 4, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_head(head_kind::flat, 4, 4, 0, 1, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_head(head_kind::flat, 4, 4, 4, 5, 0), std::invalid_argument);
  CHECK_THROWS_AS(make_head(head_kind::missed_key, 4, 4, 4, 4, 0), std::invalid_argument);
}

TEST_CASE("narrow copies move logits by what the doc says", "[heads]") {
  const synthetic_head head = make_head(head_kind::log_normal, n, d, d_v, 1, 9);
  const auto keys = narrow<Eigen::bfloat16>(head.keys);
  const auto values = narrow<Eigen::half>(head.values);
  const kv_view view(rows_view(keys.data(), n, d), rows_view(values.data(), n, d_v));
  const Eigen::ArrayXd moved = logits(head.group(), view, 0) - logits(head.group(), head.view(), 0);
  CHECK(std::sqrt(moved.square().mean()) == Approx(0.006).margin(0.002));
  CHECK(narrow<float>(head.keys)[d + 1] == head.keys(1, 1));
  CHECK(static_cast<float>(keys[d + 1]) == Approx(head.keys(1, 1)).epsilon(0.004));
}
