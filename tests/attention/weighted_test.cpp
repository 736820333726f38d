// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/weighted.hpp"

#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "vattention/certify/output.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float masked = -std::numeric_limits<float>::infinity();

template <class T>
void check_vector(const T* got, const Eigen::VectorXd& want, double scale, double tolerance) {
  const Eigen::Map<const Eigen::Matrix<T, Eigen::Dynamic, 1>> g(got, want.size());
  CHECK((g.template cast<double>() - want).norm() <= tolerance * scale);
}

/// The library's partial results against the double-precision ones; each sum to `tolerance` of the sum
/// of its terms' sizes.
void check_estimate(const query_group& queries, const kv_view& kv, const chosen_rows& chosen,
                    design scheme, index_t residual, double tolerance = 3e-5) {
  workspace ws;
  run_pass(queries, kv, chosen, scheme, residual, ws);
  for (int h = 0; h < queries.heads; ++h) {
    CAPTURE(h);
    const partial_view got = ws.head(h);
    const estimate want = estimate_of(queries, kv, h, chosen, scheme, residual);
    CHECK(std::fabs(got.max_logit() - want.max_logit) <= tolerance);
    CHECK(got.denominator() == Approx(want.denominator).epsilon(tolerance));
    CHECK(got.denominator_variance() ==
          Approx(want.denominator_variance).epsilon(tolerance).margin(tolerance * want.a.sum()));
    CHECK(got.numerator_variance() ==
          Approx(want.numerator_variance).epsilon(tolerance).margin(tolerance * want.a_vv.sum()));
    CHECK(got.uncertain() == want.uncertain);
    check_vector(got.numerator(), want.numerator,
                 want.denominator * std::sqrt(1.0 + static_cast<double>(kv.value_dim())),
                 tolerance);
    const double a = want.a.sum() + 1e-300, a_vv = want.a_vv.sum() + 1e-300;
    const double s = want.s.sum() + 1e-300;
    for (int group = 0; group < variance_groups; ++group) {
      CHECK(got.a(group) == Approx(want.a[group]).epsilon(tolerance).margin(1e-12 * a));
      CHECK(got.a_vv(group) == Approx(want.a_vv[group]).epsilon(tolerance).margin(1e-12 * a_vv));
      CHECK(got.s(group) == Approx(want.s[group]).epsilon(tolerance).margin(1e-12 * s));
      check_vector(got.a_v(group), want.a_v.row(group), std::sqrt(a * a_vv), tolerance);
      check_vector(got.s_v(group), want.s_v.row(group), s * std::sqrt(a_vv / a), tolerance);
    }
    const output_variance v = variance_at_output(got);
    double total = 0.0;
    for (int group = 0; group < variance_groups; ++group)
      total += want.output_variance(group, want.output());
    CHECK(v.total == Approx(total).epsilon(10 * tolerance).margin(0x1p-17 * a_vv));
  }
}

index_t rest_of(const random_cache& c, const chosen_rows& chosen) {
  return c.plan.rows - static_cast<index_t>(chosen.exact.size());
}

}  // namespace

TEST_CASE("the sparse pass agrees with plain double precision", "[weighted]") {
  for (const design scheme : {design::independent, design::fixed_size})
    for (const element type : {element::f32, element::bf16, element::f16, element::q8_0})
      for (const int heads : {1, 4, 7}) {
        CAPTURE(static_cast<int>(scheme), static_cast<int>(type), heads);
        const random_cache c({.rows = 1500,
                              .dim = type == element::q8_0 ? 96 : 80,
                              .value_dim = type == element::q8_0 ? 64 : 40,
                              .heads = heads,
                              .keys = type,
                              .values = type,
                              .seed = 9});
        const chosen_rows chosen = choose_rows(1500, 20, 0.3, scheme, 4);
        check_estimate(c.group(), c.view(), chosen, scheme, rest_of(c, chosen));
      }
}

TEST_CASE("the sparse pass with value dimensions of its own, and as a shard", "[weighted]") {
  for (const index_t value_dim : {1, 7, 96, 130}) {
    CAPTURE(value_dim);
    const random_cache c({.rows = 700, .dim = 24, .value_dim = value_dim, .heads = 2});
    const chosen_rows chosen = choose_rows(700, 10, 0.5, design::independent, 7);
    check_estimate(c.group(), c.view(), chosen, design::independent, rest_of(c, chosen));
    const kv_view shard = c.view().shard(123, 500);
    const chosen_rows part = chosen.in(123, 500);
    check_estimate(c.group(), shard, part, design::independent,
                   500 - static_cast<index_t>(part.exact.size()));
  }
}

TEST_CASE("the sparse pass without exact rows, without drawn rows, with few of them",
          "[weighted]") {
  const random_cache c({.rows = 400, .dim = 16, .value_dim = 16, .heads = 2});
  chosen_rows chosen = choose_rows(400, 0, 0.4, design::fixed_size, 3);
  check_estimate(c.group(), c.view(), chosen, design::fixed_size, 400);
  chosen = {{0, 17, 399}, {}, {}};
  check_estimate(c.group(), c.view(), chosen, design::independent, 397);
  chosen = {{0}, {5, 6}, {threshold_of(0.25), threshold_of(0.5)}};
  check_estimate(c.group(), c.view(), chosen, design::independent, 399);
  // Of one row or none nothing is known about the spread of a draw of fixed size.
  workspace ws;
  for (const int few : {0, 1}) {
    chosen_rows one{{0}, {}, {}};
    if (few == 1) one = {{0}, {5}, {threshold_of(1.0 / 399)}};
    run_pass(c.group(), c.view(), one, design::fixed_size, 399, ws);
    CHECK(ws.head(0).denominator_variance() == infinity);
    CHECK(ws.head(0).numerator_variance() == infinity);
  }
}

TEST_CASE("the whole residual drawn for certain is the exact sum", "[weighted]") {
  const random_cache c({.rows = 600, .dim = 32, .value_dim = 20, .heads = 3});
  chosen_rows all = choose_rows(600, 8, 1.0, design::fixed_size, 2);
  for (const threshold_t t : all.thresholds) REQUIRE(t == certain);
  workspace ws;
  run_pass(c.group(), c.view(), all, design::fixed_size, rest_of(c, all), ws);
  const exact_attention want = reference(c.group(), c.view());
  for (int h = 0; h < 3; ++h) {
    const partial_view got = ws.head(h);
    CHECK(got.denominator() == Approx(want.denominator[h]).epsilon(1e-5));
    const Eigen::VectorXd o = want.output.row(h).transpose() * want.denominator[h];
    check_vector(got.numerator(), o, o.norm(), 1e-5);
    CHECK(got.denominator_variance() == 0.0);
    CHECK(got.numerator_variance() == 0.0);
    CHECK(got.uncertain() == 0.0);
    CHECK(variance_at_output(got).total == 0.0);
  }
}

TEST_CASE("the sparse pass honours the logit options", "[weighted]") {
  constexpr index_t n = 800;
  random_cache c({.rows = n, .dim = 24, .value_dim = 16, .heads = 2});
  std::vector<float> bias(2 * n);
  vattn::detail::head_source source(3, 0);
  for (float& x : bias) x = static_cast<float>(source.normal());
  for (std::size_t i = 0; i < bias.size(); i += 7) bias[i] = masked;
  const std::vector<float> sinks{2.0F, -1.0F};
  c.options.scale = 0.2F;
  c.options.softcap = 3.0F;
  c.options.bias = bias.data();
  c.options.bias_stride = n;
  c.options.sink_logits = sinks.data();
  for (const design scheme : {design::independent, design::fixed_size}) {
    const chosen_rows chosen = choose_rows(n, 10, 0.4, scheme, 6);
    check_estimate(c.group(), c.view(), chosen, scheme, rest_of(c, chosen));
  }
  SECTION("a row that is hidden from a head is no evidence for it") {
    workspace ws;
    const chosen_rows chosen = choose_rows(n, 10, 0.4, design::fixed_size, 6);
    std::fill_n(bias.begin(), n, masked);
    run_pass(c.group(), c.view(), chosen, design::fixed_size, rest_of(c, chosen), ws);
    CHECK(ws.head(0).uncertain() == 0.0);
    CHECK(ws.head(1).uncertain() > 100.0);
  }
}

TEST_CASE("a drawn row far above the exact rows does no harm, nor one far below", "[weighted]") {
  std::vector<float> l(500);
  for (std::size_t i = 0; i < l.size(); ++i) l[i] = static_cast<float>(i % 10) * 0.25F;
  chosen_rows chosen = choose_rows(500, 5, 0.4, design::independent, 8);
  const row_t high = chosen.drawn[3];
  for (const float far : {30.0F, 100.0F, 1e4F, -1e4F}) {
    CAPTURE(far);
    l[high] = far;
    const random_cache c = cache_with_logits(l, 2);
    check_estimate(c.group(), c.view(), chosen, design::independent, rest_of(c, chosen));
    const chosen_rows fixed = choose_rows(500, 5, 0.4, design::fixed_size, 8);
    REQUIRE(fixed.drawn == chosen.drawn);
    check_estimate(c.group(), c.view(), fixed, design::fixed_size, rest_of(c, fixed));
  }
  // All at -1e4, one exact row at +1e4, and the other way round.
  for (const float side : {1.0F, -1.0F}) {
    std::fill(l.begin(), l.end(), -1e4F * side);
    l[chosen.exact[0]] = 1e4F * side;
    const random_cache c = cache_with_logits(l);
    check_estimate(c.group(), c.view(), chosen, design::independent, rest_of(c, chosen));
  }
}

TEST_CASE("the smallest inclusion probability is no trouble for float sums", "[weighted]") {
  const random_cache c({.rows = 100, .dim = 16, .value_dim = 8});
  const chosen_rows chosen{{0, 1}, {10, 20, 30}, {0, 1, threshold_of(1e-6)}};
  check_estimate(c.group(), c.view(), chosen, design::independent, 98);
}

TEST_CASE("reading a growth apart from the rows before it changes no bit", "[weighted]") {
  const random_cache c({.rows = 1200, .dim = 64, .value_dim = 64, .heads = 4});
  const chosen_rows chosen = choose_rows(1200, 12, 0.6, design::fixed_size, 12);
  workspace once, steps;
  run_pass(c.group(), c.view(), chosen, design::fixed_size, rest_of(c, chosen), once);

  const query_group queries = c.group();
  const kv_view kv = c.view();
  const attention_call<kv_view> call(queries, kv, {});
  steps.reserve(4, 1200, 64, 64, false);
  for (const row_t row : chosen.exact) steps.exact.add(row);
  steps.exact.list();
  weighted_attention<kv_view> pass(call, steps);
  for (const std::size_t until : {std::size_t{40}, std::size_t{333}, chosen.drawn.size()}) {
    steps.drawn.begin_growth();
    for (auto i = static_cast<std::size_t>(steps.drawn.size()); i < until; ++i)
      steps.drawn.append(chosen.drawn[i], chosen.thresholds[i]);
    pass.read_fresh();
    pass.estimate(design::fixed_size, rest_of(c, chosen));
  }
  for (int h = 0; h < 4; ++h)
    for (std::size_t i = 0; i < 5; ++i)
      CHECK(steps.head(h).numbers()[i] == once.head(h).numbers()[i]);
  for (int h = 0; h < 4; ++h)
    for (index_t j = 0; j < 64; ++j)
      CHECK(steps.head(h).numerator()[j] == once.head(h).numerator()[j]);
}

TEST_CASE("the sparse pass lets nothing non-finite vanish", "[weighted]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  chosen_rows chosen = choose_rows(300, 10, 0.5, design::fixed_size, 8);
  for (const float bad : {inf, -inf, std::nanf("")})
    for (const row_t row : {chosen.exact[2], chosen.drawn[7]})
      for (const bool in_key : {true, false}) {
        CAPTURE(bad, row, in_key);
        random_cache c({.rows = 300, .dim = 24, .value_dim = 8, .heads = 2});
        (in_key ? c.keys(row, 3) : c.values(row, 3)) = bad;
        c.store();
        workspace ws;
        run_pass(c.group(), c.view(), chosen, design::fixed_size, rest_of(c, chosen), ws);
        for (int h = 0; h < 2; ++h) {
          CHECK_FALSE(detail::write_result(ws.head(h), h, ws));
          CHECK(bound_output(ws.head(h), 0.1, ws).epsilon == infinity);
        }
      }
}
