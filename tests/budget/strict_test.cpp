// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/strict.hpp"

#include "support/budget_contract.hpp"
#include "support/random_cache.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/reference.hpp"

using namespace vattn;

namespace {

/// A call of a strict composition on a cache of `rows` rows and three queries.
template <class Functor, class Check>
void call_and_check(const Functor& functor, index_t rows, Check check) {
  const synthetic_head head = make_head(head_kind::mixed, rows, 64, 48, 3, 4);
  const auto index = functor.make_index(head.view());
  const exact_attention want = reference(head.group(), head.view());
  workspace ws;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const result got = functor(head.group(), head.view(), index, {.seed = seed}, ws);
    for (int h = 0; h < 3; ++h) check(got, want, h, ws);
  }
}

}  // namespace

TEST_CASE("strict budgets say what they are about") {
  const budget::strict_denominator d(epsilon{0.1}, delta{0.05});
  CHECK(d.asked() == 0.1);
  CHECK(d.delta() == 0.05);
  CHECK(d.guarantees() == quantity::denominator);
  CHECK(d.coverage() == basis::proved);
  CHECK(budget::strict_output(epsilon{0.1}, delta{0.05}).guarantees() == quantity::output);
}

TEST_CASE("a look that spends no delta vouches for nothing, and so do violated bounds") {
  workspace ws;
  partial p(4);
  const partial_view state = p.view();
  state.denominator() = state.floor() = state.numerator()[0] = 1.0;
  state.sampled_shards() = 1.0;
  const budget::strict_denominator d(epsilon{0.1}, delta{0.1});
  const budget::strict_output o(epsilon{0.1}, delta{0.1});
  for (const double look : {1.0, 5.0}) {
    state.looks() = look;
    CHECK(std::isinf(d.judge(state, ws).epsilon));
    CHECK(std::isinf(o.judge(state, ws).epsilon));
  }
  state.looks() = 2.0;
  CHECK(d.end(d.judge(state, ws)) == status::met);
  CHECK(o.end(o.judge(state, ws)) == status::met);
  state.violations() = 1.0;
  CHECK(d.end(d.judge(state, ws)) == status::not_met);
  CHECK(o.end(o.judge(state, ws)) == status::not_met);
}

TEST_CASE("later looks have less of delta and wider radii") {
  workspace ws;
  partial p(4);
  const partial_view state = p.view();
  state.denominator() = state.floor() = state.numerator()[0] = state.reference_norm() = 1.0;
  state.sampled_shards() = 1.0;
  state.spread(0) = state.spread(2) = 1e-4;
  state.largest_term() = 1e-3;
  const budget::strict_output o(epsilon{0.1}, delta{0.1});
  double before = 0.0;
  for (const double look : {2.0, 3.0, 4.0}) {
    state.looks() = look;
    const double bound = o.judge(state, ws).epsilon;
    CHECK(bound > before);
    before = bound;
  }
}

TEST_CASE("the denominator takes two looks, the first of no row") {
  call_and_check(
      presets::strict_denominator(epsilon{0.2}, delta{0.1}), 8192,
      [](const result& got, const exact_attention& want, int h, workspace&) {
        const certificate& c = got.certificates[static_cast<std::size_t>(h)];
        CHECK(c.status == status::met);
        CHECK(c.basis == basis::proved);
        CHECK(c.bound == bound_kind::bernstein);
        CHECK(c.looks == 2);
        CHECK(c.epsilon <= 0.2);
        CHECK(c.density() < 0.4);
        const auto i = static_cast<std::size_t>(h);
        CHECK(std::fabs(std::expm1(got.log_sum_exp[i] - want.log_sum_exp[h])) <= c.epsilon);
      });
}

TEST_CASE("the output takes a pilot and a look, or is read whole") {
  call_and_check(presets::strict_output(epsilon{0.3}, delta{0.1}), 16384,
                 [](const result& got, const exact_attention& want, int h, workspace&) {
                   const certificate& c = got.certificates[static_cast<std::size_t>(h)];
                   CHECK(c.holds());
                   CHECK((c.basis == basis::proved || c.basis == basis::exact));
                   CHECK((c.looks >= 2 && c.looks <= 4));
                   CHECK(relative_error(got.output.row(h), want.output.row(h)) <= c.epsilon + 1e-5);
                 });
}

TEST_CASE("a loose bound far above all others costs rows, not the proof") {
  synthetic_head head = make_head(head_kind::mixed, 4096, 64, 32, 1, 4);
  const Eigen::VectorXf q = head.queries.row(0).transpose();
  Eigen::VectorXf across = head.keys.row(700).transpose();
  across -= across.dot(q) / q.squaredNorm() * q;
  head.keys.row(700) = 3e4F * across.transpose().normalized();
  const exact_attention want = reference(head.group(), head.view());
  workspace ws;
  const auto check = [&](const auto& functor, auto error) {
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const result got =
          functor(head.group(), head.view(), functor.make_index(head.view()), {.seed = seed}, ws);
      const certificate& c = got.certificates[0];
      if (c.holds()) CHECK(error(got) <= c.epsilon + 1e-5);
    }
  };
  check(presets::strict_denominator(epsilon{0.3}, delta{0.1}), [&](const result& got) {
    return std::fabs(std::expm1(got.log_sum_exp[0] - want.log_sum_exp[0]));
  });
  check(presets::strict_output(epsilon{0.3}, delta{0.1}),
        [&](const result& got) { return relative_error(got.output.row(0), want.output.row(0)); });
}

TEST_CASE("an epsilon out of reach ends in the dense result") {
  const synthetic_head head = make_head(head_kind::flat, 2048, 64, 32, 1, 4);
  const auto functor = presets::strict_output(epsilon{1e-4}, delta{0.1});
  workspace ws;
  const result got = functor(head.group(), head.view(), functor.make_index(head.view()), {}, ws);
  CHECK(got.certificates[0].status == status::exact);
  CHECK(got.certificates[0].epsilon == 0.0);
}

#ifdef NDEBUG  // in Debug an assertion stops it
TEST_CASE("a cache that changed behind its index is noticed and never vouched for") {
  test::random_cache c({.rows = 4096, .dim = 32, .value_dim = 16});
  const auto functor = presets::strict_denominator(epsilon{0.2}, delta{0.1});
  const auto index = functor.make_index(c.view());
  c.keys.middleRows(100, 3900) *= 3.0F;  // not those that are read anyway
  c.store();
  workspace ws;
  const result got = functor(c.group(), c.view(), index, {}, ws);
  CHECK(got.certificates[0].status == status::bound_violated);
  CHECK(got.certificates[0].bounds_violated > 0);
  CHECK(std::isinf(got.certificates[0].epsilon));
  CHECK_FALSE(got.certificates[0].holds());
}
#endif

TEST_CASE("strict calls allocate nothing once the workspace has grown") {
  const synthetic_head head = make_head(head_kind::mixed, 4096, 64, 32, 2, 4);
  const auto functor = presets::strict_output(epsilon{0.3}, delta{0.1});
  const auto index = functor.make_index(head.view());
  workspace ws;
  static_cast<void>(functor(head.group(), head.view(), index, {1}, ws));
  CHECK(test::count_allocations(
            [&] { static_cast<void>(functor(head.group(), head.view(), index, {2}, ws)); }) == 0);
}
