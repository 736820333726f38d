// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/cascade.hpp"

#include "support/propose_all.hpp"
#include "support/top_k_contract.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using top_k::cascade;
using top_k::cascade_index;

namespace {

struct widths {
  int coarse, fine;
};
constexpr widths all_widths[] = {{1, 1}, {1, 2}, {1, 4}, {2, 2}, {2, 4}, {2, 8}, {4, 4}, {4, 8}};

/// Level of coordinate j of a key in a block of `scan_codes`.
int level_in(const top_k::code_book& book, const std::uint8_t* block, index_t key, index_t j) {
  const index_t per = 32 / book.bits();
  const std::uint8_t byte = block[j / per * 64 + 4 * key + j % 4];
  return book.level(byte >> (book.bits() * (j % per / 4)) & ((1 << book.bits()) - 1));
}

/// A record of the refinement, read back: its part of the key, factor times levels, and its error norm.
struct record {
  Eigen::VectorXd part;
  double factor = 0.0, error = 0.0;

  record(const cascade_index& index, row_t row) : part(index.coarse().dim()) {
    const top_k::code_records& fine = index.fine();
    const auto* codes = static_cast<const std::uint8_t*>(fine.record(row));
    std::vector<std::uint8_t> block(static_cast<std::size_t>(64 * fine.words()));
    for (index_t i = 0; i < 4 * fine.words(); ++i)
      block[static_cast<std::size_t>(i / 4 * 64 + i % 4)] = codes[i];
    factor = static_cast<double>(kernels::f16_to_float(fine.factor(row)));
    error = static_cast<double>(kernels::f16_to_float(fine.error(row)));
    for (index_t j = 0; j < part.size(); ++j)
      part[j] = factor * level_in(fine.book(), block.data(), 0, j);
  }
};
Eigen::VectorXd coarse_part(const cascade_index& index, row_t row) {
  const top_k::key_code_index& coarse = index.coarse();
  Eigen::VectorXd part(coarse.dim());
  for (index_t j = 0; j < part.size(); ++j)
    part[j] = static_cast<double>(coarse.factor(row)) *
              level_in(coarse.book(), coarse.codes(0, row / 16 * 16), row % 16, j);
  return part;
}
/// A rotated query as it is coded: whole steps of a 127th of its largest coordinate.
Eigen::VectorXd coded_query(const cascade_index& index, const Eigen::VectorXf& q) {
  Eigen::VectorXf x = q;
  index.coarse().rotated().apply(x.data());
  const float step = x.cwiseAbs().maxCoeff() / 127.0F;
  Eigen::VectorXd coded(x.size());
  for (index_t j = 0; j < x.size(); ++j)
    coded[j] =
        static_cast<double>(step) * static_cast<double>(std::nearbyint(x[j] * (1.0F / step)));
  return coded;
}

/// Scores of the scan and log-weights of the refinement for listed rows, `[heads x rows]`, in double.
struct looks {
  Eigen::MatrixXd scanned, refined;

  looks(const cascade& policy, const cascade_index& index, test::prepared_call& c,
        const std::vector<row_t>& rows) {
    const kv_view kv = c.view();
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    c.begin(true);
    test::propose_all(call, policy, index, c.ws);
    predictions seen;
    seen.reset(c.shape.heads, c.shape.rows);
    workspace other;
    other.reserve(c.shape.heads, c.shape.rows, c.shape.dim, 4, true);
    policy.predict(call, index, seen, other);
    const auto count = static_cast<index_t>(rows.size());
    const index_t stride = count + 5;
    std::vector<float> out(static_cast<std::size_t>(c.shape.heads * stride), -7.0F);
    test::refine_listed(call, policy, index, rows, out.data(), stride, c.ws);
    scanned.resize(c.shape.heads, count);
    refined.resize(c.shape.heads, count);
    for (int h = 0; h < c.shape.heads; ++h) {
      for (index_t i = 0; i < count; ++i) {
        const auto at = static_cast<std::size_t>(h * stride + i);
        scanned(h, i) = static_cast<double>(seen.scores(h)[rows[static_cast<std::size_t>(i)]]);
        refined(h, i) = static_cast<double>(out[at]);
      }
      for (index_t i = count; i < stride; ++i)
        REQUIRE(out[static_cast<std::size_t>(h * stride + i)] == -7.0F);
    }
  }
};

/// Rows in no order, one of them twice: more than a batch, and no whole number of them.
std::vector<row_t> some_rows() {
  std::vector<row_t> rows;
  for (row_t i = 0; i < 200; ++i) rows.push_back(i * 73 % 487);
  rows.push_back(rows.front());
  return rows;
}

/// Root mean square over heads and rows.
double rms(const Eigen::MatrixXd& m) {
  return std::sqrt(m.squaredNorm() / static_cast<double>(m.size()));
}

}  // namespace

TEST_CASE("cascade keeps the contract of predictors", "[top_k]") {
  SECTION("2 bits, then 4") {
    test::check_top_k_contract([](extent k) { return cascade(2, 4, k); });
  }
  SECTION("1 bit, then 2") {
    test::check_top_k_contract([](extent k) { return cascade(1, 2, k); });
  }
  SECTION("4 bits, then 8") {
    test::check_top_k_contract([](extent k) { return cascade(4, 8, k); });
  }
}

TEST_CASE("the scan is that of a key code", "[top_k]") {
  for (const int bits : {1, 2, 4}) {
    test::prepared_call c({500, 80, 3, element::bf16, 4});
    const auto two = test::newly_selected(cascade(bits, 4, rows(20)), c);
    CHECK(two == test::newly_selected(top_k::key_code(bits, rows(20)), c));
  }
}

TEST_CASE("refined log-weights are scale q.(coarse + fine) + kappa s^2, through soft-cap and bias",
          "[top_k]") {
  std::vector<float> bias(3 * 500);
  for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = static_cast<float>(i % 11) - 5.0F;
  for (const auto& [coarse, fine] : all_widths)
    for (const index_t d : {1, 64, 80, 96, 128})
      for (const element type : {element::f32, element::bf16, element::f16, element::q8_0})
        for (const bool plain : {true, false}) {
          if (d % block_values(type) != 0) continue;
          test::prepared_call c({500, d, 3, type, 6});
          if (!plain) {
            c.options.softcap = 8.0F;
            c.options.bias = bias.data();
            c.options.bias_stride = 500;
            c.options.scale = 0.2F;
          }
          const cascade policy(coarse, fine);
          const cascade_index index = test::index_of(policy, c);
          const std::vector<row_t> rows = some_rows();
          const looks got(policy, index, c, rows);
          const double scale = plain ? 1.0 / std::sqrt(static_cast<double>(d)) : 0.2;
          for (int h = 0; h < 3; ++h) {
            const Eigen::VectorXf q = c.head.queries.row(h);
            const Eigen::VectorXd x = coded_query(index, q);
            double centre = 0.0;
            for (index_t j = 0; j < d; ++j)
              centre += static_cast<double>(q[j]) * static_cast<double>(index.coarse().centre()[j]);
            const double kappa =
                0.5 * scale * scale * q.cast<double>().squaredNorm() / static_cast<double>(d);
            for (std::size_t i = 0; i < rows.size(); ++i) {
              const record r(index, rows[i]);
              double l = scale * (centre + x.dot(coarse_part(index, rows[i]) + r.part));
              if (!plain)
                l = 8.0 * std::tanh(l / 8.0) +
                    static_cast<double>(bias[static_cast<std::size_t>(h) * 500 + rows[i]]);
              CAPTURE(coarse, fine, d, plain, h, rows[i]);
              REQUIRE(got.refined(h, static_cast<index_t>(i)) ==
                      Approx(l + kappa * r.error * r.error).epsilon(1e-4).margin(1e-4));
            }
          }
        }
}

TEST_CASE("the refinement is the code of what the scan's code leaves: the norm bounds the rest",
          "[top_k]") {
  for (const auto& [coarse, fine] : all_widths)
    for (const index_t d : {1, 64, 80}) {
      test::prepared_call c({300, d});
      const cascade_index index = test::index_of(cascade(coarse, fine), c);
      double before = 0.0, after = 0.0;
      for (row_t row = 0; row < 300; ++row) {
        Eigen::VectorXf x = c.head.keys.row(row);
        for (index_t j = 0; j < d; ++j) x[j] -= index.coarse().centre()[j];
        index.coarse().rotated().apply(x.data());
        const record r(index, row);
        const Eigen::VectorXd left = x.cast<double>() - coarse_part(index, row);
        CAPTURE(coarse, fine, d, row);
        REQUIRE((left - r.part).norm() <= r.error + 1e-6 * x.cast<double>().norm());
        REQUIRE(left.norm() <= static_cast<double>(index.coarse().error_norm(row)) * (1.0 + 1e-6));
        before += left.squaredNorm();
        after += (left - r.part).squaredNorm();
      }
      if (d > 1) CHECK(after < (fine == 1 ? 0.6 : fine == 2 ? 0.2 : 0.03) * before);
    }
}

TEST_CASE("refined predictions are nearer to the logits than the scan's, by a measured factor",
          "[top_k]") {
  struct expected {
    int coarse, fine;
    double factor;
  };
  for (const auto& [coarse, fine, factor] :
       {expected{1, 2, 2.2}, {1, 4, 6.0}, {2, 4, 5.0}, {2, 8, 8.0}, {4, 8, 3.0}}) {
    test::prepared_call c({500, 64, 4, element::f32, 2});
    const cascade policy(coarse, fine);
    const cascade_index index = test::index_of(policy, c);
    const std::vector<row_t> rows = test::row_range(0, 500);
    const looks got(policy, index, c, rows);
    Eigen::MatrixXd truth(4, 500), refined = got.refined;
    for (int h = 0; h < 4; ++h) {
      truth.row(h) = logits(c.group(), c.view(), h).transpose();
      const double kappa = 0.5 * c.head.queries.row(h).cast<double>().squaredNorm() / (64.0 * 64.0);
      for (const row_t row : rows) {
        const double error = record(index, row).error;
        refined(h, row) -= kappa * error * error;
      }
    }
    const double gained = rms(got.scanned - truth) / rms(refined - truth);
    CAPTURE(coarse, fine, gained);
    CHECK(gained > factor);
  }
}

TEST_CASE("rows without a code stay unpredictable, hidden ones hidden", "[top_k]") {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  test::prepared_call c({300, 64, 2});
  std::vector<float> bias(300, 0.0F);
  bias[280] = bias[282] = -infinity;
  c.options.bias = bias.data();
  c.head.keys(280, 1) = c.head.keys(281, 1) = std::numeric_limits<float>::quiet_NaN();
  c.head.keys.row(283) *= 1e30F;
  const cascade policy;
  const cascade_index index = test::index_of(policy, c);
  const looks got(policy, index, c, {280, 281, 282, 283, 284});
  for (int h = 0; h < 2; ++h) {
    CHECK_FALSE(std::isfinite(got.refined(h, 0)));
    CHECK(std::isnan(got.refined(h, 1)));
    CHECK(got.refined(h, 2) == -HUGE_VAL);
    CHECK(std::isnan(got.refined(h, 3)));
    CHECK(std::isfinite(got.refined(h, 4)));
  }
}

TEST_CASE("reach times spread is z standard errors of the scan's prediction", "[top_k]") {
  for (const int bits : {1, 2, 4}) {
    test::prepared_call c({600, 64, 2});
    const cascade policy(bits, 4);
    const cascade_index index = test::index_of(policy, c);
    const kv_view kv = c.view();
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    for (int h = 0; h < 2; ++h) {
      float spread[256];
      policy.spread(index, 256, 256, spread);
      const auto reach = static_cast<double>(policy.reach(call, h));
      const double per = static_cast<double>(c.head.queries.row(h).norm()) / 64.0;
      CHECK(reach == Approx((bits == 1 ? 1.5 : 1.6) * per).epsilon(1e-5));
      float listed[256];
      const std::vector<row_t> rows = test::row_range(256, 512);
      policy.spread(index, rows, listed);
      for (index_t i = 0; i < 256; ++i) {
        REQUIRE(spread[i] == index.coarse().error_norm(256 + i));
        REQUIRE(listed[i] == spread[i]);
      }
    }
  }
}

TEST_CASE("a cascade index grown in steps is the one built at once", "[top_k]") {
  test::prepared_call c({400, 80});
  const kv_view kv = c.view();
  cascade_index once = cascade(2, 4).make_index(80), grown = once;
  once.append(kv);
  for (const index_t rows : {1, 2, 17, 255, 256, 257, 390, 400}) grown.append(kv.shard(0, rows));
  CHECK(grown.matches(kv));
  for (row_t row = 0; row < 400; ++row) {
    const record a(once, row), b(grown, row);
    REQUIRE(a.part == b.part);
    REQUIRE(a.error == b.error);
    REQUIRE(coarse_part(once, row) == coarse_part(grown, row));
  }
}

TEST_CASE("bytes, coverage and widths of a cascade", "[top_k]") {
  test::prepared_call c({1600, 64, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const cascade usual;
  CHECK(usual.bytes_scanned(call) == 1600 * 18);
  CHECK(usual.bytes_proposed(call, 0) == 1600 * 19);
  CHECK(usual.bytes_proposed(call, 100) == 1600 * 19 + 100 * 36);
  CHECK(cascade(4, 8).bytes_proposed(call, 10) == 1600 * 36 + 10 * 68);
  CHECK(usual.coverage() == basis::measured_per_row);
  CHECK(cascade(1, 4).coverage() == basis::measured_on_average);
  CHECK(usual.level(0).floor == 0.1);
  CHECK(usual.level(1).floor == 0.05);
  CHECK_THROWS_WITH(cascade(8, 4), "vattention: cascade: want a scan of 1, 2 or 4 bits, got 8");
  CHECK_THROWS_WITH(cascade(6, 4), "vattention: cascade: want a scan of 1, 2 or 4 bits, got 6");
  CHECK_THROWS_WITH(cascade(2, 6),
                    "vattention: cascade: want a refinement of 1, 2, 4 or 8 bits, got 6");
  CHECK_THROWS_AS(cascade(3, 4), std::invalid_argument);
  CHECK_THROWS_AS(cascade(2, 5), std::invalid_argument);
}
