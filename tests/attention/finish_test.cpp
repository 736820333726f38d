// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/finish.hpp"

#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "vattention/presets.hpp"
#include "vattention/top_k/oracle.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

void check_same_certificate(const certificate& a, const certificate& b, double tolerance) {
  CHECK(a.status == b.status);
  CHECK(a.basis == b.basis);
  CHECK(a.quantity == b.quantity);
  CHECK(a.bound == b.bound);
  CHECK(a.delta == b.delta);
  CHECK(a.epsilon_asked == b.epsilon_asked);
  CHECK(a.epsilon == Approx(b.epsilon).epsilon(tolerance));
  CHECK(a.max_logit == b.max_logit);
  CHECK(a.denominator == Approx(b.denominator).epsilon(tolerance));
  CHECK(a.denominator_error == Approx(b.denominator_error).epsilon(tolerance));
  CHECK(a.looks == b.looks);
  CHECK(a.rows_total == b.rows_total);
  CHECK(a.rows_exact == b.rows_exact);
  CHECK(a.rows_sampled == b.rows_sampled);
  CHECK(a.bytes_touched == b.bytes_touched);
}

/// Partials of all heads of rows [first, first + count), from rows chosen by hand.
std::vector<partial> shard_partials(const random_cache& c, const chosen_rows& chosen, index_t first,
                                    index_t count) {
  workspace ws;
  const chosen_rows part = chosen.in(first, count);
  run_pass(c.group(), c.view().shard(first, count), part, design::independent,
           count - static_cast<index_t>(part.exact.size()), ws);
  std::vector<partial> heads;
  for (int h = 0; h < c.plan.heads; ++h) heads.emplace_back(ws.head(h));
  return heads;
}

void merge_into(std::vector<partial>& a, std::vector<partial> b) {
  for (std::size_t h = 0; h < a.size(); ++h) a[h].view().merge(b[h].view());
}

}  // namespace

TEST_CASE("the output, its logarithm and their numbers come from the partial", "[finish]") {
  workspace ws;
  ws.reserve(2, 10, 4, 3, false);
  const partial_view p = ws.head(1);
  p.clear();
  p.max_logit() = 2.0;
  p.denominator() = 4.0;
  p.denominator_variance() = 0.25;
  p.numerator()[1] = 8.0;
  p.looks() = 3.0;
  p.rows_total() = 100.0;
  p.rows_exact() = 10.0;
  p.rows_sampled() = 20.0;
  p.bytes_touched() = 1234.0;
  CHECK(detail::write_result(p, 1, ws));
  CHECK(ws.output[4] == 2.0F);
  CHECK(ws.log_sum_exp[1] == Approx(2.0 + std::log(4.0)).epsilon(1e-15));
  CHECK(ws.log_sum_exp_error[1] == Approx(0.5 / 4.0).epsilon(1e-15));
  const certificate c = detail::describe(p);
  CHECK(c.max_logit == 2.0);
  CHECK(c.denominator == 4.0);
  CHECK(c.denominator_error == 0.5);
  CHECK(c.looks == 3);
  CHECK(c.rows_total == 100);
  CHECK(c.rows_exact == 10);
  CHECK(c.rows_sampled == 20);
  CHECK(c.bytes_touched == 1234);
  CHECK(c.density() == 0.3);
  CHECK_FALSE(c.holds());
  CHECK(c.epsilon == infinity);
}

TEST_CASE("a partial of nothing is an output of zero", "[finish]") {
  workspace ws;
  ws.reserve(1, 10, 4, 3, false);
  ws.head(0).clear();
  CHECK(detail::write_result(ws.head(0), 0, ws));
  CHECK(ws.output[0] == 0.0F);
  CHECK(ws.log_sum_exp[0] == -infinity);
}

TEST_CASE("merged shards finish as the unsplit cache does", "[finish]") {
  const random_cache c({.rows = 3000, .dim = 32, .value_dim = 24, .heads = 3});
  const chosen_rows chosen = choose_rows(3000, 20, 0.3, design::independent, 31);
  const auto check = [&](const auto& functor) {
    workspace ws, merged_ws;
    std::vector<partial> whole = shard_partials(c, chosen, 0, 3000);
    const result want = functor.finish(whole, ws);
    for (const index_t cut : {5, 1500, 2980}) {
      CAPTURE(cut);
      std::vector<partial> both = shard_partials(c, chosen, 0, cut);
      merge_into(both, shard_partials(c, chosen, cut, 3000 - cut));
      const result got = functor.finish(both, merged_ws);
      REQUIRE(got.certificates.size() == 3);
      for (int h = 0; h < 3; ++h) {
        const auto i = static_cast<std::size_t>(h);
        CHECK((got.output.row(h) - want.output.row(h)).norm() <= 1e-5F * want.output.row(h).norm());
        CHECK(got.log_sum_exp[i] == Approx(want.log_sum_exp[i]).epsilon(1e-6));
        CHECK(got.log_sum_exp_error[i] == Approx(want.log_sum_exp_error[i]).epsilon(1e-5));
        check_same_certificate(got.certificates[i], want.certificates[i], 1e-5);
      }
    }
  };
  check(presets::uniform_output(epsilon{0.1}, delta{0.1}));
  check(presets::uniform_output(epsilon{0.9}, delta{0.2}));
  check(presets::paper(epsilon{0.05}, delta{0.1}, top_k::oracle(fraction(0.02))));
}

TEST_CASE("finishing the partials of one call gives that call's result", "[finish]") {
  const synthetic_head head = make_head(head_kind::log_normal, 4096, 32, 24, 2, 3);
  const auto functor = presets::uniform_output(epsilon{0.3}, delta{0.1});
  const kv_view kv = head.view();
  const auto index = functor.make_index(kv);
  workspace ws, other;
  const result first = functor(head.group(), kv, index, {7}, ws);
  REQUIRE(first.certificates[0].rows_sampled > 0);
  std::vector<partial> heads;
  for (int h = 0; h < 2; ++h) heads.push_back(take_partial(ws, h, 24));
  const result again = functor.finish(heads, other);
  for (int h = 0; h < 2; ++h) {
    const auto i = static_cast<std::size_t>(h);
    CHECK(again.output.row(h) == first.output.row(h));
    CHECK(again.log_sum_exp[i] == first.log_sum_exp[i]);
    CHECK(again.log_sum_exp_error[i] == first.log_sum_exp_error[i]);
    check_same_certificate(again.certificates[i], first.certificates[i], 1e-12);
  }
}

TEST_CASE("shards that the functor read merge into a certificate that holds", "[finish]") {
  const synthetic_head head = make_head(head_kind::power_law, 9000, 32, 16, 2, 3);
  const exact_attention want = reference(head.group(), head.view());
  const auto functor = presets::uniform_output(epsilon{0.2}, delta{0.1});
  workspace ws;
  std::vector<partial> whole;
  index_t total = 0, exact = 0, sampled = 0, bytes = 0;
  // The last shard is short and read whole.
  for (const auto& [first, count] :
       {std::pair<index_t, index_t>{0, 4000}, {4000, 4900}, {8900, 100}}) {
    const kv_view kv = head.view().shard(first, count);
    const result part = functor(head.group(), kv, functor.make_index(kv), {7}, ws);
    const certificate& c = part.certificates[0];
    total += c.rows_total;
    exact += c.rows_exact;
    sampled += c.rows_sampled;
    bytes += c.bytes_touched;
    CHECK((c.status == status::exact) == (first == 8900));
    std::vector<partial> heads;
    for (int h = 0; h < 2; ++h) heads.push_back(take_partial(ws, h, 16));
    if (whole.empty())
      whole = heads;
    else
      merge_into(whole, heads);
  }
  const result got = functor.finish(whole, ws);
  for (int h = 0; h < 2; ++h) {
    const certificate& c = got.certificates[static_cast<std::size_t>(h)];
    CHECK(total == 9000);
    CHECK(c.rows_total == 9000);
    CHECK(c.rows_exact == exact);
    CHECK(c.rows_sampled == sampled);
    CHECK(c.bytes_touched == bytes);
    CHECK(c.bound == bound_kind::rank_quantile);
    CHECK(c.epsilon < 0.4);
    CHECK(relative_error(got.output.row(h), want.output.row(h)) <= c.epsilon);
  }
}

TEST_CASE("shards that were all read exactly merge into an exact result", "[finish]") {
  const synthetic_head head = make_head(head_kind::mixed, 300, 32, 16, 2, 3);
  const exact_attention want = reference(head.group(), head.view());
  const auto functor = presets::uniform_output(epsilon{0.1}, delta{0.1});
  workspace ws;
  std::vector<partial> whole;
  for (const index_t first : {0, 100, 200}) {
    const kv_view kv = head.view().shard(first, 100);
    static_cast<void>(functor(head.group(), kv, functor.make_index(kv), {7}, ws));
    std::vector<partial> heads;
    for (int h = 0; h < 2; ++h) heads.push_back(take_partial(ws, h, 16));
    if (whole.empty())
      whole = heads;
    else
      merge_into(whole, heads);
  }
  const result got = functor.finish(whole, ws);
  for (int h = 0; h < 2; ++h) {
    const certificate& c = got.certificates[static_cast<std::size_t>(h)];
    CHECK(c.status == status::exact);
    CHECK(c.basis == basis::exact);
    CHECK(c.bound == bound_kind::exact);
    CHECK(c.epsilon == 0.0);
    CHECK(c.rows_exact == 300);
    CHECK(relative_error(got.output.row(h), want.output.row(h)) < 1e-5);
  }
}

TEST_CASE("every row drawn, but not for certain, is not exact", "[finish]") {
  const random_cache c({.rows = 100, .dim = 16, .value_dim = 8});
  chosen_rows chosen;
  for (row_t row = 0; row < 100; ++row) {
    chosen.drawn.push_back(row);
    chosen.thresholds.push_back(threshold_of(0.9));
  }
  const auto functor = presets::uniform_output(epsilon{0.1}, delta{0.1});
  workspace ws;
  std::vector<partial> heads = shard_partials(c, chosen, 0, 100);
  const certificate independent = functor.finish(heads, ws).certificates[0];
  CHECK(independent.status != status::exact);
  CHECK(independent.epsilon > 0.0);
  for (threshold_t& t : chosen.thresholds) t = certain;
  heads = shard_partials(c, chosen, 0, 100);
  CHECK(functor.finish(heads, ws).certificates[0].status == status::exact);
}

TEST_CASE("a merged result that is not finite says so", "[finish]") {
  random_cache c({.rows = 1000, .dim = 16, .value_dim = 8, .heads = 2});
  const chosen_rows chosen = choose_rows(1000, 20, 0.3, design::independent, 31);
  c.keys(chosen.drawn[0], 0) = std::nanf("");
  c.store();
  const auto functor = presets::uniform_output(epsilon{0.1}, delta{0.1});
  workspace ws;
  std::vector<partial> both = shard_partials(c, chosen, 0, 500);
  merge_into(both, shard_partials(c, chosen, 500, 500));
  for (const certificate& cert : functor.finish(both, ws).certificates) {
    CHECK(cert.status == status::non_finite);
    CHECK(cert.bound == bound_kind::none);
    CHECK(cert.epsilon == infinity);
  }
}

TEST_CASE("finish refuses no heads, too many, and heads that differ", "[finish]") {
  const auto functor = presets::uniform_output(epsilon{0.1}, delta{0.1});
  workspace ws;
  std::vector<partial> heads;
  CHECK_THROWS_WITH(functor.finish(heads, ws), "vattention: finish: want 1 to 64 heads, got 0");
  heads.assign(65, partial(4));
  CHECK_THROWS_WITH(functor.finish(heads, ws), "vattention: finish: want 1 to 64 heads, got 65");
  heads.assign(2, partial(4));
  heads[1] = partial(5);
  CHECK_THROWS_WITH(functor.finish(heads, ws),
                    "vattention: finish: want values of one dimension, got 5, 4");
}
