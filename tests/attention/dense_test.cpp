// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/dense.hpp"

#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float masked = -std::numeric_limits<float>::infinity();
constexpr float no_number = std::numeric_limits<float>::quiet_NaN();

/// Dense against the reference: outputs to `tolerance` of their norm, logarithms absolutely.
template <class View>
void check_dense(const query_group& queries, const View& kv, double tolerance = 2e-5) {
  workspace ws;
  const result got = dense(queries, kv, ws);
  const exact_attention want = reference(queries, kv);
  REQUIRE(got.output.rows() == queries.heads);
  REQUIRE(got.output.cols() == kv.value_dim());
  REQUIRE(got.certificates.size() == static_cast<std::size_t>(queries.heads));
  for (int h = 0; h < queries.heads; ++h) {
    const auto i = static_cast<std::size_t>(h);
    CAPTURE(h);
    CHECK(relative_error(got.output.row(h), want.output.row(h)) <= tolerance);
    const certificate& c = got.certificates[i];
    if (want.denominator[h] > 0.0) {
      CHECK(std::fabs(got.log_sum_exp[i] - want.log_sum_exp[h]) <= tolerance);
      CHECK(std::fabs(c.max_logit - want.max_logit[h]) <= tolerance);
      CHECK(c.denominator == Approx(want.denominator[h]).epsilon(tolerance));
    } else {
      CHECK(got.log_sum_exp[i] == -infinity);
      CHECK(c.denominator == 0.0);
    }
    CHECK(got.log_sum_exp_error[i] == 0.0);
    CHECK(c.status == status::exact);
    CHECK(c.basis == basis::exact);
    CHECK(c.bound == bound_kind::exact);
    CHECK(c.quantity == quantity::output);
    CHECK(c.epsilon == 0.0);
    CHECK(c.denominator_error == 0.0);
    CHECK(c.holds());
  }
}

/// Every head says non_finite, claims nothing, and its output is not a number.
void check_non_finite(const random_cache& c, int first_head = 0) {
  workspace ws;
  const result got = dense(c.group(), c.view(), ws);
  for (int h = first_head; h < c.plan.heads; ++h) {
    const certificate& cert = got.certificates[static_cast<std::size_t>(h)];
    CHECK(cert.status == status::non_finite);
    CHECK(cert.bound == bound_kind::none);
    CHECK(cert.epsilon == infinity);
    CHECK_FALSE(cert.holds());
  }
}

}  // namespace

TEST_CASE("dense agrees with the reference for every pair of element types", "[dense]") {
  int heads = 1;
  for (const element keys : {element::f32, element::bf16, element::f16, element::q8_0})
    for (const element values : {element::f32, element::bf16, element::f16, element::q8_0}) {
      CAPTURE(static_cast<int>(keys), static_cast<int>(values), heads);
      const random_cache c({.rows = 301,
                            .dim = keys == element::q8_0 ? 160 : 80,
                            .value_dim = 96,
                            .heads = heads,
                            .keys = keys,
                            .values = values,
                            .seed = 5});
      check_dense(c.group(), c.view());
      heads = heads % 8 + 1;
    }
}

TEST_CASE("dense agrees with the reference for every shape", "[dense]") {
  for (const index_t dim : {1, 7, 64, 80, 96, 130})
    for (const index_t value_dim : {1, 7, 80, 128}) {
      const int heads = static_cast<int>((dim + value_dim) % 8) + 1;
      CAPTURE(dim, value_dim, heads);
      const random_cache c({.rows = 70, .dim = dim, .value_dim = value_dim, .heads = heads});
      check_dense(c.group(), c.view());
    }
  for (int heads = 1; heads <= 8; ++heads) {
    CAPTURE(heads);
    const random_cache c({.rows = 260,
                          .dim = 96,
                          .value_dim = 80,
                          .heads = heads,
                          .keys = element::bf16,
                          .values = element::bf16});
    check_dense(c.group(), c.view());
  }
  for (const index_t rows : {1, 2, 31, 255, 256, 257, 511, 513, 1100}) {
    CAPTURE(rows);
    const random_cache c({.rows = rows, .dim = 32, .value_dim = 24, .heads = 3});
    check_dense(c.group(), c.view());
  }
}

TEST_CASE("dense reads strided rows, strided queries and shards", "[dense]") {
  for (const element type : {element::f32, element::bf16, element::f16, element::q8_0}) {
    const random_cache c({.rows = 300,
                          .dim = type == element::q8_0 ? 96 : 80,
                          .value_dim = type == element::q8_0 ? 32 : 7,
                          .heads = 4,
                          .keys = type,
                          .values = type,
                          .gap = 3});
    check_dense(c.group(), c.view());
    check_dense(c.group(), c.view().shard(37, 201));
    CHECK(c.view().shard(37, 201).first_row() == 37);
  }
  const random_cache c({.rows = 50, .heads = 1});
  synthetic_head::matrix wide(3, 80);
  wide.setConstant(no_number);
  wide.leftCols(64).setRandom();
  query_group queries(wide.data(), 3, 64);
  queries.stride = 80;
  check_dense(queries, c.view());
}

TEST_CASE("dense honours every combination of logit options", "[dense]") {
  constexpr index_t n = 290;
  random_cache c({.rows = n, .dim = 40, .value_dim = 24, .heads = 3});
  std::vector<float> bias(3 * n);
  vattn::detail::head_source source(3, 0);
  for (float& x : bias) x = static_cast<float>(source.normal());
  for (std::size_t i = 0; i < bias.size(); i += 5)
    bias[i] = masked;                        // some rows, other for each head
  for (index_t row = 100; row < 130; ++row)  // and some for all of them
    for (index_t h = 0; h < 3; ++h) bias[static_cast<std::size_t>(h * n + row)] = masked;
  const std::vector<float> sinks{2.0F, -1.0F, masked};
  for (unsigned choice = 0; choice < 64; ++choice) {
    CAPTURE(choice);
    c.options = {};
    if ((choice & 1U) != 0) c.options.scale = 0.3F;
    if ((choice & 2U) != 0) c.options.softcap = 2.5F;
    if ((choice & 4U) != 0) c.options.bias = bias.data();
    if ((choice & 8U) != 0) c.options.bias_stride = n;
    if ((choice & 16U) != 0) c.options.sink_logits = sinks.data();
    if ((choice & 32U) != 0) c.options.visible_rows = 201;
    check_dense(c.group(), c.view());
  }
}

TEST_CASE("dense counts the rows and bytes that it reads", "[dense]") {
  random_cache c({.rows = 100, .dim = 64, .value_dim = 32, .heads = 2, .keys = element::bf16});
  workspace ws;
  const certificate all = dense(c.group(), c.view(), ws).certificates[1];
  CHECK(all.rows_total == 100);
  CHECK(all.rows_exact == 100);
  CHECK(all.rows_sampled == 0);
  CHECK(all.density() == 1.0);
  CHECK(all.looks == 0);
  CHECK(all.bytes_touched == 100 * (64 * 2 + 32 * 4));
  c.options.visible_rows = 30;
  CHECK(dense(c.group(), c.view(), ws).certificates[0].bytes_touched == 30 * (64 * 2 + 32 * 4));
  std::vector<float> bias(100, 0.0F);
  std::fill_n(bias.begin() + 10, 5, masked);
  c.options.bias = bias.data();
  const certificate some = dense(c.group(), c.view(), ws).certificates[0];
  CHECK(some.rows_total == 25);
  CHECK(some.bytes_touched == 25 * (64 * 2 + 32 * 4));
}

TEST_CASE("dense: what is masked or beyond the visible rows may hold anything", "[dense]") {
  random_cache c({.rows = 60, .dim = 16, .value_dim = 16, .heads = 2});
  c.keys.row(3).setConstant(no_number);
  c.values.row(3).setConstant(no_number);
  c.keys(7, 0) = std::numeric_limits<float>::infinity();
  c.store();
  check_non_finite(c);
  std::vector<float> bias(60, 0.0F);
  bias[3] = bias[7] = masked;
  SECTION("masked for all heads") { c.options.bias = bias.data(); }
  SECTION("out of sight") { c.options.visible_rows = 3; }
  if (c.options.bias != nullptr || c.options.visible_rows > 0) check_dense(c.group(), c.view());
}

TEST_CASE("dense with everything masked gives zero", "[dense]") {
  random_cache c({.rows = 300, .dim = 16, .value_dim = 8, .heads = 2});
  std::vector<float> bias(600, 0.0F);
  std::fill_n(bias.begin(), 300, masked);
  c.options.bias = bias.data();
  SECTION("for both heads") { c.options.bias_stride = 0; }
  SECTION("for one of them") { c.options.bias_stride = 300; }
  SECTION("beside a learned sink") {
    static const float sinks[2] = {-3.0F, 5.0F};
    c.options.sink_logits = sinks;
  }
  check_dense(c.group(), c.view());
  workspace ws;
  CHECK(dense(c.group(), c.view(), ws).output.row(0).norm() == 0.0F);
}

TEST_CASE("dense survives scores of +-1e4 in any order", "[dense]") {
  std::vector<float> l(700);
  for (std::size_t i = 0; i < l.size(); ++i)
    l[i] = static_cast<float>((static_cast<int>(i) * 37 % 201 - 100) * 100);
  l[650] = 10000.0F;
  l[651] = 9998.5F;
  check_dense(cache_with_logits(l, 3).group(), cache_with_logits(l, 3).view(), 2e-6);
  std::sort(l.begin(), l.end());
  random_cache rising = cache_with_logits(l);
  check_dense(rising.group(), rising.view(), 2e-6);
  for (float& x : l) x = -1e4F - std::fabs(x) * 1e-4F;
  random_cache low = cache_with_logits(l);
  check_dense(low.group(), low.view(), 2e-6);
  const float sink = 1e4F;
  low.options.sink_logits = &sink;
  workspace ws;
  const result all_sink = dense(low.group(), low.view(), ws);
  CHECK(all_sink.output.norm() == 0.0F);
  CHECK(all_sink.log_sum_exp[0] == 1e4);
  CHECK(all_sink.certificates[0].status == status::exact);
}

TEST_CASE("dense: nothing non-finite goes unseen", "[dense]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  enum { in_key, in_key_under_softcap, in_value, in_query };
  for (const float bad : {no_number, inf, -inf})
    for (const index_t row : {0, 150, 299})
      for (const int where : {in_key, in_key_under_softcap, in_value, in_query}) {
        CAPTURE(bad, row, where);
        random_cache c({.rows = 300, .dim = 24, .value_dim = 8, .heads = 2});
        if (where == in_key || where == in_key_under_softcap) c.keys(row, 11) = bad;
        if (where == in_key_under_softcap) c.options.softcap = 5.0F;
        if (where == in_value) c.values(row, 5) = bad;
        if (where == in_query) c.queries.col(3).setConstant(bad);
        c.store();
        check_non_finite(c);
      }
  random_cache c({.rows = 300, .dim = 24, .value_dim = 8, .heads = 2});
  std::vector<float> bias(300, 0.0F);
  for (const float bad : {no_number, inf}) {
    bias[299] = bad;
    c.options = {};
    c.options.bias = bias.data();
    check_non_finite(c);
    const float sinks[2] = {0.0F, bad};
    c.options = {};
    c.options.sink_logits = sinks;
    check_non_finite(c, 1);
    workspace ws;
    CHECK(dense(c.group(), c.view(), ws).certificates[0].status == status::exact);
  }
}

namespace {

/// Caches of a user's own that no kernel can read: values of q8_0 that are no whole block, or no rows.
struct blocks_without_rows {
  index_t rows() const noexcept { return 20; }
  element key_type() const noexcept { return element::f32; }
  element value_type() const noexcept { return element::q8_0; }
  const void* key_row(row_t /*row*/) const noexcept { return nullptr; }
  index_t first_row() const noexcept { return 0; }
};
struct part_of_a_block : blocks_without_rows {
  index_t key_dim() const noexcept { return 16; }
  index_t value_dim() const noexcept { return 8; }
  const void* value_row(row_t /*row*/) const noexcept { return nullptr; }
};
struct scattered_blocks : blocks_without_rows {
  index_t key_dim() const noexcept { return 32; }
  index_t value_dim() const noexcept { return 32; }
  const void* value_element(row_t /*row*/, index_t /*j*/) const noexcept { return nullptr; }
};

}  // namespace

TEST_CASE("dense refuses what does not fit, and says what", "[dense]") {
  const random_cache c({.rows = 20, .dim = 16, .value_dim = 8, .heads = 2});
  workspace ws;
  query_group q = c.group();
  q.dim = 15;
  CHECK_THROWS_WITH(dense(q, c.view(), ws),
                    "vattention: dense: want queries as long as the keys, got 15, 16");
  q = c.group();
  q.logits.visible_rows = 21;
  CHECK_THROWS_WITH(dense(q, c.view(), ws),
                    "vattention: dense: want visible rows within the cache, got 21, 20");
  CHECK_THROWS_WITH(dense(c.group(), part_of_a_block{}, ws),
                    "vattention: dense: want rows of whole blocks (keys, values), got 16, 8");
  CHECK_THROWS_WITH(dense(query_group(c.queries.data(), 1, 32), scattered_blocks{}, ws),
                    "vattention: dense: want scattered values of a type without blocks, got q8_0");
}
