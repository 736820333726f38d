// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/key_code.hpp"

#include <bit>

#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using top_k::key_code;

namespace {

constexpr int widths[] = {1, 2, 4, 6, 8};

/// Scores of every head of a call, `[heads x rows]`.
std::vector<std::vector<float>> scores_of(int bits, test::prepared_call& c) {
  test::newly_selected(key_code(bits, rows(0)), c);
  std::vector<std::vector<float>> scores;
  for (int h = 0; h < c.shape.heads; ++h) {
    const auto s = std::as_const(c.ws.seen).scores(h);
    scores.emplace_back(s.begin(), s.begin() + c.visible());
  }
  return scores;
}

struct agreement {
  double correlation = 0.0;
  /// Root mean square of (score - logit), in units of ||q|| ||k|| / d, the size of a logit by chance.
  double error = 0.0;
};
agreement compare(int bits, test::prepared_call& c) {
  const std::vector<std::vector<float>> scores = scores_of(bits, c);
  double sx = 0, sy = 0, sxx = 0, syy = 0, sxy = 0, square = 0, count = 0;
  for (int h = 0; h < c.shape.heads; ++h) {
    const Eigen::VectorXd l = logits(c.group(), c.view(), h);
    const double q = c.head.queries.row(h).cast<double>().norm();
    for (index_t row = 0; row < l.size(); ++row) {
      const double x =
          static_cast<double>(scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]);
      const double unit =
          q * c.head.keys.row(row).cast<double>().norm() / static_cast<double>(c.shape.dim);
      sx += x, sy += l[row], sxx += x * x, syy += l[row] * l[row], sxy += x * l[row];
      square += (x - l[row]) * (x - l[row]) / (unit * unit);
      count += 1;
    }
  }
  const double cov = sxy - sx * sy / count;
  return {cov / std::sqrt((sxx - sx * sx / count) * (syy - sy * sy / count)),
          std::sqrt(square / count)};
}

}  // namespace

TEST_CASE("key_code keeps the contract of predictors", "[top_k]") {
  for (const int bits : widths) {
    CAPTURE(bits);
    test::check_top_k_contract([=](extent k) { return key_code(bits, k); });
  }
}

TEST_CASE("scores of normal keys are as near the logits as the quantiser allows", "[top_k]") {
  // A code that loses the share D of a coordinate's variance is off by sqrt(D / (1 - D)) logit units:
  // D = .3634, .1175, .0095 for 1, 2, 4 bits (Max 1960). 6 and 8 bits step through +-largest, about 2.7
  // deviations of 64 to 128 coordinates: .025 and .006. The int8 query adds .006 in quadrature.
  // Correlation 1 / sqrt(1 + error^2).
  const double expected[] = {0.756, 0.365, 0.098, 0.026, 0.009};
  for (const index_t dim : {64, 80, 128})
    for (std::size_t i = 0; i < 5; ++i) {
      test::prepared_call c({2000, dim, 4, element::f32, 21});
      const agreement a = compare(widths[i], c);
      CAPTURE(dim, widths[i], a.error, a.correlation);
      CHECK(a.error < 1.15 * expected[i]);
      CHECK(a.error > 0.75 * expected[i]);
      CHECK(a.correlation > 1.0 / std::sqrt(1.0 + 1.4 * expected[i] * expected[i]));
    }
}

TEST_CASE("a common offset and a scale of all keys change no error", "[top_k]") {
  // Keys of real models have a large common part; the centre takes it out.
  for (const int bits : widths) {
    test::prepared_call plain({2000, 64, 2, element::f32, 21});
    const double error = compare(bits, plain).error;
    test::prepared_call moved({2000, 64, 2, element::f32, 21});
    const Eigen::RowVectorXf offset = 30.0F * moved.head.queries.row(0).reverse().normalized();
    moved.head.keys.rowwise() += offset;
    const std::vector<std::vector<float>> scores = scores_of(bits, moved);
    double square = 0.0;
    for (int h = 0; h < 2; ++h) {
      const Eigen::VectorXd l = logits(moved.group(), moved.view(), h);
      const double unit = moved.head.queries.row(h).cast<double>().norm() / 8.0;
      for (index_t row = 0; row < 2000; ++row)
        square +=
            std::pow((static_cast<double>(
                          scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]) -
                      l[row]) /
                         unit,
                     2);
    }
    CAPTURE(bits, error);
    CHECK(std::sqrt(square / 4000.0) == Approx(error).epsilon(0.1).margin(0.002));
    for (const float size : {0.1F, 1000.0F}) {
      test::prepared_call scaled({2000, 64, 2, element::f32, 21});
      scaled.head.keys *= size;
      CHECK(compare(bits, scaled).error == Approx(error).epsilon(0.03));
    }
  }
}

TEST_CASE("scores are unbiased: they regress on the logits with slope 1", "[top_k]") {
  // Over 8000 (query, key) pairs the slope's standard error is error / sqrt(8000), at most .0085; 5 of them.
  const double expected[] = {0.756, 0.365, 0.098, 0.026, 0.009};
  for (std::size_t i = 0; i < 5; ++i) {
    test::prepared_call c({2000, 64, 4, element::f32, 33});
    const std::vector<std::vector<float>> scores = scores_of(widths[i], c);
    double along = 0.0, square = 0.0;
    for (int h = 0; h < 4; ++h) {
      const Eigen::VectorXd l = logits(c.group(), c.view(), h);
      for (index_t row = 0; row < 2000; ++row) {
        along += l[row] * static_cast<double>(
                              scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]);
        square += l[row] * l[row];
      }
    }
    CAPTURE(widths[i], along / square);
    CHECK(std::fabs(along / square - 1.0) < 5.0 * expected[i] / std::sqrt(8000.0) + 0.002);
  }
}

TEST_CASE("scores take scale, soft-cap and bias as logits do", "[top_k]") {
  test::prepared_call c({500, 64, 2});
  std::vector<float> bias(1000);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 7);
  c.options = {.scale = 0.3F, .softcap = 5.0F, .bias = bias.data(), .bias_stride = 500};
  const std::vector<std::vector<float>> scores = scores_of(8, c);
  for (int h = 0; h < 2; ++h) {
    const Eigen::VectorXd l = logits(c.group(), c.view(), h);
    for (index_t row = 0; row < 500; ++row)
      CHECK(
          static_cast<double>(scores[static_cast<std::size_t>(h)][static_cast<std::size_t>(row)]) ==
          Approx(l[row]).margin(0.4));
  }
}

TEST_CASE("code sums are the same integers on every kernel row", "[top_k]") {
  for (const int bits : widths)
    for (const index_t dim : {7, 64, 80, 96, 128}) {
      test::prepared_call c({330, dim, 3});
      const auto index = test::index_of(key_code(bits, rows(0)), c);
      const index_t stride = (dim + 31) / 32 * 32;
      std::vector<std::int8_t> q(static_cast<std::size_t>(3 * stride), 0);
      detail::head_source source(4, 4);
      for (index_t h = 0; h < 3; ++h)
        for (index_t j = 0; j < dim; ++j)
          q[static_cast<std::size_t>(h * stride + j)] =
              static_cast<std::int8_t>(source.below(255) - 127);
      for (int plane = 0; plane < index.book().planes(); ++plane) {
        std::vector<std::vector<std::int32_t>> sums;
        for (const kernels::isa row : kernels::all_isas) {
          if (!kernels::supported(row)) continue;
          std::vector<std::int32_t>& out = sums.emplace_back(3 * 336, -1);
          kernels::get(row).scan_codes(index.book().plane_bits(plane), index.codes(plane, 0), 21,
                                       index.book().words(plane, dim), index.book().lookup(),
                                       q.data(), stride, 3, out.data(), 336);
        }
        CAPTURE(bits, dim, plane);
        for (const std::vector<std::int32_t>& other : sums) CHECK(other == sums.front());
      }
    }
}

#if defined(__x86_64__) && !defined(__FMA__)
TEST_CASE("scores are the same floats on every kernel row", "[top_k]") {
  // Frozen, and run again under VATTN_ISA = scalar, avx2. Keys and queries are sums of integers, so that
  // no library function has a say.
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  for (const int bits : widths) {
    test::prepared_call c({300, 80, 2});
    const random_stream stream({12}, 9);
    std::uint64_t next = 0;
    const auto fill = [&](synthetic_head::matrix& m) {
      for (index_t i = 0; i < m.size(); ++i)
        m.data()[i] =
            static_cast<float>(static_cast<double>(stream.below(next++, 2001)) - 1000.0) / 512.0F;
    };
    fill(c.head.keys);
    fill(c.head.queries);
    for (const std::vector<float>& head : scores_of(bits, c))
      for (const float x : head) hash = (hash ^ std::bit_cast<std::uint32_t>(x)) * 0x100000001B3ULL;
  }
  CHECK(hash == 0xE64AC70C325B7940ULL);
}
#endif

TEST_CASE("queries of any size give usable scores or unpredictable rows, never -inf", "[top_k]") {
  constexpr float nan_value = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const int bits : widths)
    for (const index_t dim : {1, 2, 3, 64})
      for (const float size :
           {0.0F, 1e-45F, 1e-42F, 1e-38F, 1e-36F, 1.0F, 1e30F, 3e38F, infinity, nan_value}) {
        test::prepared_call c({300, dim});
        c.head.keys.col(0).array() += 2.0F;
        c.head.queries.setZero();
        c.head.queries(0, 0) = size;
        CAPTURE(bits, dim, size);
        const std::vector<std::vector<float>> scores = scores_of(bits, c);
        for (const float x : scores[0]) {
          if (size <= 1e20F) REQUIRE(std::isfinite(x));
          if (!std::isfinite(size)) REQUIRE(std::isnan(x));
        }
      }
  // Finite, but its rotation overflows.
  test::prepared_call c({300, 64});
  c.head.queries.setConstant(3e38F);
  const std::vector<std::vector<float>> scores = scores_of(4, c);
  for (const float x : scores[0]) REQUIRE(std::isnan(x));
}

TEST_CASE("k may be a share, and bytes, coverage and widths", "[top_k]") {
  test::prepared_call c({1000, 64, 2});
  CHECK(test::newly_selected(key_code(4, fraction(0.02)), c).size() >= 20);
  c.options.visible_rows = 320;
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  for (const int bits : widths) {
    const key_code policy(bits, rows(1));
    CHECK(policy.bytes_scanned(call) == 320 * (64 * bits / 8 + 2));
    CHECK(policy.bytes_scanned(call) == test::index_of(policy, c).scanned_bytes(320));
    CHECK(policy.coverage() == (bits >= 4 ? basis::measured_per_row : basis::measured_on_average));
  }
  for (const int bits : {0, 3, 5, 7, 16})
    CHECK_THROWS_AS(key_code(bits, rows(1)), std::invalid_argument);
}
