// SPDX-License-Identifier: Apache-2.0
#include "vattention/functor.hpp"

#include <cstring>
#include <memory>
#include <thread>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/random_cache.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/clt.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/budget/joint.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/presets.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/key_code.hpp"
#include "vattention/top_k/oracle.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
constexpr float masked = -std::numeric_limits<float>::infinity();

const static_indices::sink_window ends(16, 32);
const base_sampling::uniform base(fraction(0.02), 32);
const dynamic_sampling::uniform grow;

/// The usual composition around a predictor and a budget.
template <class TopK, class Budget>
auto composed(TopK top_k, Budget budget) {
  return vattn::vattention(ends, top_k, base, budget, grow);
}
auto certified(double asked) {
  return composed(top_k::key_code(4, fraction(0.02)), budget::output(epsilon{asked}, delta{0.1}));
}

/// A result out of its workspace.
struct kept {
  row_major_matrix output;
  std::vector<double> log_sum_exp, error;
  std::vector<certificate> certificates;

  explicit kept(const result& r)
      : output(r.output),
        log_sum_exp(r.log_sum_exp.begin(), r.log_sum_exp.end()),
        error(r.log_sum_exp_error.begin(), r.log_sum_exp_error.end()),
        certificates(r.certificates.begin(), r.certificates.end()) {}
};

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }
bool same_bits(const kept& a, const kept& b) {
  if (a.output.size() != b.output.size() ||
      std::memcmp(a.output.data(), b.output.data(),
                  static_cast<std::size_t>(a.output.size()) * sizeof(float)) != 0)
    return false;
  for (std::size_t h = 0; h < a.certificates.size(); ++h) {
    const certificate &x = a.certificates[h], &y = b.certificates[h];
    if (!same_bits(a.log_sum_exp[h], b.log_sum_exp[h]) || !same_bits(a.error[h], b.error[h]) ||
        !same_bits(x.epsilon, y.epsilon) || !same_bits(x.denominator, y.denominator) ||
        !same_bits(x.denominator_error, y.denominator_error) || x.status != y.status ||
        x.bound != y.bound || x.basis != y.basis || x.looks != y.looks ||
        x.rows_exact != y.rows_exact || x.rows_sampled != y.rows_sampled ||
        x.rows_total != y.rows_total || x.bytes_touched != y.bytes_touched)
      return false;
  }
  return true;
}

template <class Functor, class View>
kept call(const Functor& functor, const query_group& q, const View& kv, draw_key key = {1}) {
  workspace ws;
  return kept(functor(q, kv, functor.make_index(kv), key, ws));
}

/// Calls `check(predictor, name)` with every predictor of the library that scores rows.
template <class Check>
void for_each_predictor(Check check) {
  check(top_k::oracle(fraction(0.02)), "oracle");
  for (const int bits : {1, 2, 4, 6, 8}) check(top_k::key_code(bits, fraction(0.02)), "key_code");
  check(top_k::sign_hash(64, fraction(0.02)), "sign_hash");
}

}  // namespace

TEST_CASE("policies may be named in any order", "[functor]") {
  const random_cache c({.rows = 2000, .dim = 64, .value_dim = 48, .heads = 2});
  const top_k::key_code codes(4, fraction(0.02));
  const budget::output out(epsilon{0.3}, delta{0.1});
  const kept a = call(vattn::vattention(ends, codes, base, out, grow), c.group(), c.view());
  REQUIRE(a.certificates[0].rows_sampled > 0);
  CHECK(same_bits(a, call(vattn::vattention(grow, out, base, codes, ends), c.group(), c.view())));
  CHECK(same_bits(a, call(vattn::vattention(base, ends, grow, codes, out), c.group(), c.view())));
  CHECK(same_bits(a, call(vattn::vattention(out, grow, codes, ends, base), c.group(), c.view())));
  // Static indices and top-k may be left out.
  const kept fewer = call(vattn::vattention(out, base, grow), c.group(), c.view());
  CHECK(same_bits(fewer,
                  call(vattn::vattention(grow, top_k::none(), static_indices::none(), base, out),
                       c.group(), c.view())));
}

TEST_CASE("a call that is refused says why and changes nothing", "[functor]") {
  const random_cache c({.rows = 1000, .dim = 32, .value_dim = 24, .heads = 2});
  const auto functor = certified(0.3);
  const kv_view kv = c.view();
  const auto index = functor.make_index(kv);
  workspace ws;
  const kept before(functor(c.group(), kv, index, {1}, ws));
  const std::vector<row_t> exact(ws.exact.rows().begin(), ws.exact.rows().end());
  const std::vector<row_t> drawn(ws.drawn.rows().begin(), ws.drawn.rows().end());
  REQUIRE_FALSE(drawn.empty());

  const auto refuses = [&](const query_group& q, const kv_view& view, const auto& keys,
                           const std::string& why) {
    CHECK_THROWS_AS(functor(q, view, keys, {2}, ws), std::invalid_argument);
    CHECK_THROWS_WITH(functor(q, view, keys, {2}, ws), "vattention: attend: want " + why);
    CHECK(same_bits(kept(result(ws, 2, 24)), before));
    CHECK(std::equal(exact.begin(), exact.end(), ws.exact.rows().begin(), ws.exact.rows().end()));
    CHECK(std::equal(drawn.begin(), drawn.end(), ws.drawn.rows().begin(), ws.drawn.rows().end()));
    CHECK(index.rows() == 1000);
  };
  query_group q = c.group();
  refuses(q, kv.shard(0, 0), functor.make_index(kv.shard(0, 0)), "at least one key, got 0");
  q.heads = 0;
  refuses(q, kv, index, "at least one query, got 0");
  q.heads = -3;
  refuses(q, kv, index, "at least one query, got -3");
  q = c.group();
  q.data = nullptr;
  refuses(q, kv, index, "at least one query, got 2");
  q = c.group();
  q.dim = 33;
  refuses(q, kv, index, "queries as long as the keys, got 33, 32");
  q = c.group();
  q.stride = 31;
  refuses(q, kv, index, "query stride >= query length, got 31");
  q = c.group();
  q.logits.visible_rows = 1001;
  refuses(q, kv, index, "visible rows within the cache, got 1001, 1000");
  q.logits.visible_rows = 0;
  refuses(q, kv, index, "at least one visible row, got 0");
  q = c.group();
  q.logits.scale = std::numeric_limits<float>::infinity();
  refuses(q, kv, index, "a finite scale, got inf");
  q = c.group();
  q.logits.softcap = -1.0F;
  refuses(q, kv, index, "softcap >= 0, got -1");
  q.logits.softcap = std::numeric_limits<float>::infinity();
  refuses(q, kv, index, "softcap >= 0, got inf");
  q = c.group();
  q.logits.bias_stride = -4;
  refuses(q, kv, index, "bias stride >= 0, got -4");
  const std::vector<float> many(65 * 32, 0.1F);
  refuses(query_group(many.data(), 65, 32), kv, index, "at most 64 query heads a group, got 65");
  const std::string other =
      "an index of the view's keys, their number, dimension and type (rows taken in, rows in view), got ";
  refuses(c.group(), kv, functor.make_index(kv.shard(0, 999)), other + "999, 1000");
  refuses(c.group(), kv.shard(0, 900), index, other + "1000, 900");
  const random_cache wide({.rows = 1000, .dim = 40, .value_dim = 24});
  refuses(c.group(), kv, functor.make_index(wide.view()), other + "1000, 1000");
  CHECK(same_bits(kept(functor(c.group(), kv, index, {1}, ws)), before));
}

TEST_CASE("what is read whole is the dense result, bit for bit", "[functor]") {
  const auto check = [](const auto& functor, const random_cache& c) {
    workspace ws;
    const kept got = call(functor, c.group(), c.view());
    const result want = dense(c.group(), c.view(), ws);
    CHECK(got.output == want.output);
    for (std::size_t h = 0; h < got.certificates.size(); ++h) {
      const certificate& cert = got.certificates[h];
      CHECK(same_bits(got.log_sum_exp[h], want.log_sum_exp[h]));
      CHECK(got.error[h] == 0.0);
      CHECK(cert.status == status::exact);
      CHECK(cert.basis == basis::exact);
      CHECK(cert.bound == bound_kind::exact);
      CHECK(cert.epsilon == 0.0);
      CHECK(cert.holds());
      CHECK(cert.rows_exact == cert.rows_total);
      CHECK(cert.rows_sampled == 0);
      CHECK(cert.denominator == want.certificates[h].denominator);
      CHECK(cert.quantity == functor.budget().guarantees());
      CHECK(cert.delta == functor.budget().delta());
    }
  };
  for (const element type : {element::f32, element::bf16, element::f16, element::q8_0}) {
    random_cache c({.rows = 2000,
                    .dim = type == element::q8_0 ? 96 : 80,
                    .value_dim = type == element::q8_0 ? 32 : 33,
                    .heads = 3,
                    .keys = type,
                    .values = type});
    check(certified(1e-9), c);
    for (const index_t rows : {1, 5, 60, 160}) {
      c.options.visible_rows = rows;
      check(certified(0.3), c);
    }
  }
  const random_cache c({.rows = 2000, .dim = 64, .value_dim = 64, .heads = 2});
  check(composed(top_k::none(), budget::fixed(fraction(1.0))), c);
  check(composed(top_k::none(), budget::clt(epsilon{1e-9}, delta{0.1})), c);
  check(composed(top_k::none(), budget::joint(epsilon{1e-9}, delta{0.1})), c);
  check(composed(top_k::oracle(fraction(0.9)), budget::output(epsilon{0.3}, delta{0.1})), c);
  check(vattn::vattention(static_indices::sink_window(1500, 600), base, grow,
                          budget::output(epsilon{0.3}, delta{0.1})),
        c);
}

TEST_CASE("the error goes to zero with epsilon", "[functor]") {
  const synthetic_head head = make_head(head_kind::power_law, 6000, 64, 32, 1, 8);
  const exact_attention want = reference(head.group(), head.view());
  double before = 1.0, density = 0.0;
  for (const double asked : {0.5, 0.1, 0.02, 1e-3, 1e-6}) {
    const kept got = call(certified(asked), head.group(), head.view());
    const double error = relative_error(got.output, want.output);
    CHECK(error <= asked);
    CHECK(error <= before + 1e-6);
    CHECK(got.certificates[0].density() >= density);
    before = error;
    density = got.certificates[0].density();
  }
  CHECK(before < 1e-5);
  CHECK(density == 1.0);
}

TEST_CASE("the same call gives the same bits, whatever was called before", "[functor]") {
  const random_cache c({.rows = 3000,
                        .dim = 64,
                        .value_dim = 64,
                        .heads = 4,
                        .keys = element::bf16,
                        .values = element::bf16});
  const random_cache small({.rows = 700, .dim = 96, .value_dim = 7, .heads = 7, .seed = 2});
  const random_cache large({.rows = 5000, .dim = 16, .value_dim = 128, .heads = 1, .seed = 3});
  for_each_predictor([&](const auto& top_k, const char* name) {
    CAPTURE(name);
    const auto functor = composed(top_k, budget::output(epsilon{0.2}, delta{0.1}));
    const kv_view kv = c.view();
    const auto index = functor.make_index(kv);
    const kept first = call(functor, c.group(), kv, {5});
    const kept other = call(functor, c.group(), kv, {6});
    CHECK_FALSE(same_bits(first, other));
    workspace ws;
    for (int round = 0; round < 2; ++round) {
      static_cast<void>(
          functor(small.group(), small.view(), functor.make_index(small.view()), {9}, ws));
      CHECK(same_bits(kept(functor(c.group(), kv, index, {5}, ws)), first));
      static_cast<void>(
          functor(large.group(), large.view(), functor.make_index(large.view()), {5}, ws));
      CHECK(same_bits(kept(functor(c.group(), kv, index, {6}, ws)), other));
      CHECK(same_bits(kept(functor(c.group(), kv, index, {5}, ws)), first));
      static_cast<void>(dense(large.group(), large.view(), ws));
    }
  });
}

TEST_CASE("threads with a workspace each share functor, index and cache", "[functor]") {
  const random_cache c({.rows = 2500, .dim = 64, .value_dim = 64, .heads = 2});
  const auto functor = certified(0.2);
  const kv_view kv = c.view();
  const auto index = functor.make_index(kv);
  constexpr int calls = 12;
  std::vector<kept> want;
  for (std::uint64_t i = 0; i < calls; ++i) want.push_back(call(functor, c.group(), kv, {i}));
  std::vector<int> right(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      workspace ws;
      for (std::size_t i = 0; i < calls; ++i) {
        const std::size_t which = (5 * i + 3 * t) % calls;
        right[t] +=
            same_bits(kept(functor(c.group(), kv, index, {which}, ws)), want[which]) ? 1 : 0;
      }
    });
  for (std::thread& thread : threads) thread.join();
  for (const int count : right) CHECK(count == calls);
}

TEST_CASE("a group of four is as valid as four single queries", "[functor]") {
  const synthetic_head head = make_head(head_kind::log_normal, 4096, 64, 32, 4, 12);
  const exact_attention want = reference(head.group(), head.view());
  const auto functor = certified(0.2);
  const kv_view kv = head.view();
  const auto index = functor.make_index(kv);
  workspace ws;
  int violations = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    const kept group(functor(head.group(), kv, index, {seed}, ws));
    const certificate& first = group.certificates[0];
    for (int h = 0; h < 4; ++h) {
      const certificate& c = group.certificates[static_cast<std::size_t>(h)];
      CHECK(c.status == status::met);
      CHECK(c.rows_exact == first.rows_exact);  // shared by the group
      CHECK(c.rows_sampled == first.rows_sampled);
      CHECK(c.bytes_touched == first.bytes_touched);
      violations += relative_error(group.output.row(h), want.output.row(h)) > 0.2 ? 1 : 0;
    }
  }
  CHECK(check_coverage(160, violations, 0.1, 1e-6).holds);
  // The draw does not depend on the queries: where it has a given size it is the same alone.
  const auto given = vattn::vattention(ends, base, budget::fixed(rows(300)), grow);
  const kept group = call(given, head.group(), kv);
  for (int h = 0; h < 4; ++h) {
    const query_group one(head.queries.data() + h * 64, 1, 64);
    const kept alone = call(given, one, kv);
    CHECK((alone.output.row(0) - group.output.row(h)).norm() <= 1e-5F * alone.output.norm());
    CHECK(alone.certificates[0].epsilon ==
          Approx(group.certificates[static_cast<std::size_t>(h)].epsilon).epsilon(1e-4));
  }
}

TEST_CASE("a call allocates nothing once its workspace has grown", "[functor]") {
  // Not a new expression: those a compiler may leave out.
  REQUIRE(count_allocations([] { ::operator delete(::operator new(1)); }) ==
          (counts_allocations ? 1 : 0));
  const random_cache c(
      {.rows = 3000, .dim = 96, .value_dim = 80, .heads = 4, .keys = element::f16});
  const auto check = [&](const auto& functor) {
    const kv_view kv = c.view();
    const query_group q = c.group();
    const auto index = functor.make_index(kv);
    workspace ws;
    static_cast<void>(functor(q, kv, index, {0}, ws));
    std::int64_t allocated = 0;
    for (std::uint64_t step = 1; step < 6; ++step)
      allocated += count_allocations(
          [&] { static_cast<void>(functor(q, kv, index, {.seed = 0, .step = step}, ws)); });
    CHECK(allocated == 0);
    // A cache of up to half as many rows more fits without growing again.
    workspace grown;
    const kv_view part = kv.shard(0, 2100);
    static_cast<void>(functor(q, part, functor.make_index(part), {0}, grown));
    CHECK(count_allocations([&] { static_cast<void>(functor(q, kv, index, {1}, grown)); }) == 0);
  };
  for_each_predictor([&](const auto& top_k, const char* name) {
    CAPTURE(name);
    check(composed(top_k, budget::output(epsilon{0.1}, delta{0.1})));
  });
  check(composed(top_k::none(), budget::output(epsilon{0.01}, delta{0.1})));  // falls back to dense
  check(composed(top_k::oracle(rows(50)), budget::clt(epsilon{0.05}, delta{0.1})));
  check(composed(top_k::oracle(rows(50)), budget::joint(epsilon{0.4}, delta{0.1})));
  check(composed(top_k::oracle(rows(50)), budget::fixed(rows(300))));
}

TEST_CASE("a key that is not finite shows in the status, whatever the predictor", "[functor]") {
  constexpr float inf = std::numeric_limits<float>::infinity();
  for_each_predictor([&](const auto& top_k, const char* name) {
    for (const float bad : {std::nanf(""), inf, -inf})
      for (const bool softcap : {false, true}) {
        CAPTURE(name, bad, softcap);
        random_cache c({.rows = 1500, .dim = 32, .value_dim = 16, .heads = 2});
        c.keys(777, 5) = bad;
        if (softcap) c.options.softcap = 20.0F;
        c.store();
        const kept got =
            call(composed(top_k, budget::output(epsilon{0.3}, delta{0.1})), c.group(), c.view());
        for (const certificate& cert : got.certificates) {
          CHECK(cert.status == status::non_finite);
          CHECK(cert.bound == bound_kind::none);
          CHECK(cert.epsilon == infinity);
          CHECK_FALSE(cert.holds());
        }
      }
  });
  // Without a predictor it shows if the row is read.
  random_cache c({.rows = 1500, .dim = 32, .value_dim = 16});
  c.keys(3, 5) = std::nanf("");
  c.store();
  const auto functor = composed(top_k::none(), budget::output(epsilon{0.3}, delta{0.1}));
  CHECK(call(functor, c.group(), c.view()).certificates[0].status == status::non_finite);
}

TEST_CASE("queries and values that are not finite show in the status", "[functor]") {
  for (const bool in_query : {true, false}) {
    random_cache c({.rows = 1500, .dim = 32, .value_dim = 16, .heads = 2});
    if (in_query)
      c.queries(1, 3) = std::nanf("");
    else
      c.values.col(2).setConstant(std::nanf(""));
    c.store();
    const kept got = call(certified(0.3), c.group(), c.view());
    CHECK(got.certificates[1].status == status::non_finite);
    CHECK((got.certificates[0].status == status::non_finite) != in_query);
  }
}

TEST_CASE("every logit option, element type and shape gives a certificate that holds",
          "[functor]") {
  constexpr index_t n = 4000;
  const auto functor = certified(0.2);
  std::vector<float> bias(3 * n);
  vattn::detail::head_source source(5, 0);
  for (float& x : bias) x = static_cast<float>(0.5 * source.normal());
  for (std::size_t i = 0; i < bias.size(); i += 4) bias[i] = masked;
  const std::vector<float> sinks{5.0F, 8.0F, masked};
  int violations = 0, trials = 0;
  for (unsigned choice = 0; choice < 64; ++choice) {
    const element type = choice % 3 == 0   ? element::f32
                         : choice % 3 == 1 ? element::bf16
                                           : element::f16;
    random_cache c({.rows = n,
                    .dim = 80,
                    .value_dim = choice % 2 == 0 ? 96 : 24,
                    .heads = 3,
                    .keys = type,
                    .values = type,
                    .gap = 2,
                    .seed = choice});
    if ((choice & 1U) != 0) c.options.scale = 0.05F;
    if ((choice & 2U) != 0) c.options.softcap = 2.5F;
    if ((choice & 4U) != 0) c.options.bias = bias.data();
    if ((choice & 8U) != 0) c.options.bias_stride = n;
    if ((choice & 16U) != 0) c.options.sink_logits = sinks.data();
    if ((choice & 32U) != 0) c.options.visible_rows = 3001;
    CAPTURE(choice);
    const kept got = call(functor, c.group(), c.view(), {choice});
    const exact_attention want = reference(c.group(), c.view());
    for (int h = 0; h < 3; ++h) {
      const auto i = static_cast<std::size_t>(h);
      const certificate& cert = got.certificates[i];
      CHECK(cert.holds());
      ++trials;
      violations += relative_error(got.output.row(h), want.output.row(h)) > cert.epsilon + 1e-5;
      CHECK(std::fabs(got.log_sum_exp[i] - want.log_sum_exp[h]) <= 6.0 * got.error[i] + 1e-4);
    }
  }
  CHECK(check_coverage(trials, violations, 0.1, 1e-6).holds);
}

TEST_CASE("rows that are masked for all are not read, whatever they hold", "[functor]") {
  constexpr index_t n = 4000;
  random_cache c({.rows = n, .dim = 32, .value_dim = 16, .heads = 2});
  std::vector<float> bias(n, 0.0F);
  for (row_t row = 0; row < n; row += 3) {
    bias[row] = masked;
    c.keys.row(row).setConstant(std::nanf(""));
    c.values.row(row).setConstant(std::nanf(""));
  }
  c.store();
  c.options.bias = bias.data();
  const exact_attention want = reference(c.group(), c.view());
  for_each_predictor([&](const auto& top_k, const char* name) {
    CAPTURE(name);
    const kept got =
        call(composed(top_k, budget::output(epsilon{0.2}, delta{0.1})), c.group(), c.view());
    for (int h = 0; h < 2; ++h) {
      const certificate& cert = got.certificates[static_cast<std::size_t>(h)];
      CHECK(cert.holds());
      CHECK(cert.rows_total == n - (n + 2) / 3);
      CHECK(relative_error(got.output.row(h), want.output.row(h)) <= 0.2);
    }
  });
}

TEST_CASE("rows hidden from one head are no evidence for it", "[functor]") {
  // Head 0 sees 100 of 4096 rows, head 1 all of them. Drawn rows that head 0 must not see weigh nothing
  // and once passed for 41 rows of equal weight: 19 % of the calls said `met` and were wrong.
  constexpr index_t n = 4096;
  const synthetic_head head = make_head(head_kind::flat, n, 64, 64, 2, 5);
  std::vector<float> bias(2 * n, 0.0F);
  std::fill_n(bias.begin(), n, masked);
  const random_stream stream({77}, 9);
  for (std::uint64_t i = 0, left = 100; left > 0; ++i) {
    float& x = bias[stream.below(i, n)];
    left -= x != 0.0F ? 1 : 0;
    x = 0.0F;
  }
  logit_options options;
  options.bias = bias.data();
  options.bias_stride = n;
  const query_group q = head.group(options);
  const exact_attention want = reference(q, head.view());
  const auto functor = composed(top_k::none(), budget::output(epsilon{0.3}, delta{0.1}));
  workspace ws;
  const auto index = functor.make_index(head.view());
  int wrong = 0;
  for (std::uint64_t seed = 0; seed < 100; ++seed) {
    const result got = functor(q, head.view(), index, {seed}, ws);
    wrong +=
        got.certificates[0].holds() && relative_error(got.output.row(0), want.output.row(0)) > 0.3;
  }
  CHECK(check_coverage(100, wrong, 0.1, 1e-3).holds);
}

TEST_CASE("everything masked gives zero, exactly", "[functor]") {
  random_cache c({.rows = 2000, .dim = 32, .value_dim = 16, .heads = 2});
  const std::vector<float> bias(4000, masked);
  c.options.bias = bias.data();
  c.options.bias_stride = 2000;
  const kept got = call(certified(0.2), c.group(), c.view());
  CHECK(got.output.norm() == 0.0F);
  CHECK(got.log_sum_exp[1] == -infinity);
  CHECK(got.certificates[0].status == status::exact);
  CHECK(got.certificates[0].rows_total == 0);
}

TEST_CASE("the certificate counts rows, bytes and looks", "[functor]") {
  const random_cache c(
      {.rows = 5000, .dim = 64, .value_dim = 32, .heads = 1, .keys = element::bf16});
  const index_t row_bytes = 64 * 2 + 32 * 4;
  SECTION("a draw of given size") {
    const kept got = call(vattn::vattention(ends, top_k::oracle(rows(70)), base,
                                            budget::fixed(rows(400), delta{0.2}), grow),
                          c.group(), c.view());
    const certificate& cert = got.certificates[0];
    CHECK(cert.rows_total == 5000);
    CHECK(cert.rows_exact == 16 + 32 + 70);
    CHECK(cert.rows_sampled == 400);
    CHECK(cert.density() == Approx(518.0 / 5000).epsilon(1e-15));
    CHECK(cert.looks == 2);
    CHECK(cert.bytes_touched == 5000 * 64 * 2 + 518 * row_bytes);
    CHECK(cert.status == status::no_target);
    CHECK(cert.quantity == quantity::output);
    CHECK(cert.bound == bound_kind::rank_quantile);
    CHECK(cert.basis == basis::measured_per_row);
    CHECK(std::isnan(cert.epsilon_asked));
    CHECK(cert.delta == 0.2);
    CHECK(cert.denominator_error > 0.0);
    CHECK(got.error[0] == Approx(cert.denominator_error / cert.denominator).epsilon(1e-14));
    CHECK(got.log_sum_exp[0] == Approx(cert.max_logit + std::log(cert.denominator)).epsilon(1e-14));
    CHECK_FALSE(cert.holds());
  }
  SECTION("codes count once a key") {
    const kept got = call(certified(0.5), c.group(), c.view());
    const certificate& cert = got.certificates[0];
    REQUIRE(cert.status == status::met);
    CHECK(cert.bytes_touched ==
          5000 * 2 + 5008 / 16 * 64 * 8 + (cert.rows_exact + cert.rows_sampled) * row_bytes);
    CHECK(cert.epsilon <= 0.5);
    CHECK(cert.epsilon_asked == 0.5);
    CHECK(cert.delta == 0.1);
  }
  SECTION("rows read for a group count once") {
    const random_cache group(
        {.rows = 5000, .dim = 64, .value_dim = 32, .heads = 4, .keys = element::bf16});
    const kept got =
        call(vattn::vattention(base, budget::fixed(rows(400)), grow), group.group(), group.view());
    for (const certificate& cert : got.certificates) {
      CHECK(cert.rows_exact == 0);
      CHECK(cert.rows_sampled == 400);
      CHECK(cert.bytes_touched == 400 * row_bytes);
      CHECK(cert.basis == basis::measured_on_average);  // no predictor
    }
  }
  SECTION("the basis is that of the weaker of budget and predictor") {
    const auto basis_of = [&](const auto& functor) {
      return call(functor, c.group(), c.view()).certificates[0].basis;
    };
    const budget::output out(epsilon{0.5}, delta{0.1});
    CHECK(basis_of(composed(top_k::key_code(4, rows(50)), out)) == basis::measured_per_row);
    CHECK(basis_of(composed(top_k::key_code(2, rows(50)), out)) == basis::measured_on_average);
    CHECK(basis_of(composed(top_k::sign_hash(64, rows(50)), out)) == basis::measured_on_average);
    CHECK(basis_of(composed(top_k::oracle(rows(50)), budget::clt(epsilon{0.5}, delta{0.1}))) ==
          basis::measured_on_average);
  }
}

TEST_CASE("a limit shows in the status, with the bound that was reached", "[functor]") {
  const synthetic_head head = make_head(head_kind::flat, 6000, 64, 64, 1, 2);
  const auto functor = composed(top_k::key_code(4, fraction(0.02)),
                                budget::output(epsilon{0.02}, delta{0.1}, at_most(rows(800))));
  const certificate c = call(functor, head.group(), head.view()).certificates[0];
  CHECK(c.status == status::capped);
  CHECK(c.rows_exact + c.rows_sampled <= 800);
  CHECK(c.rows_exact + c.rows_sampled > 720);
  CHECK(c.epsilon > 0.02);
  CHECK(c.epsilon < 0.5);
  CHECK(c.bound == bound_kind::rank_quantile);
  CHECK_FALSE(c.holds());
}

TEST_CASE("a certificate says what its error is measured in", "[functor]") {
  const synthetic_head head = make_head(head_kind::mixed, 6000, 64, 32, 2, 2);
  const double rms = std::sqrt(head.values.cast<double>().squaredNorm() / 6000.0);
  const auto said = [&](auto target, index_t rows) {
    const auto functor = presets::standard(target, delta{0.1});
    const kv_view kv = head.view().shard(0, rows);
    return call(functor, head.group(), kv).certificates[1];
  };
  const certificate of_values = said(epsilon_of_values{0.05}, 6000);
  CHECK(of_values.scale == error_scale::values);
  CHECK(of_values.unit == Approx(rms).epsilon(1e-5));
  CHECK(of_values.epsilon_asked == 0.05);
  CHECK(of_values.epsilon <= 0.05);
  CHECK(of_values.status == status::met);
  const certificate absolute = said(absolute_error{0.05 * rms}, 6000);
  CHECK(absolute.scale == error_scale::absolute);
  CHECK(absolute.unit == 1.0);
  CHECK(absolute.epsilon == Approx(rms * of_values.epsilon).epsilon(1e-5));
  const certificate relative = said(epsilon{0.05}, 6000);
  CHECK(relative.scale == error_scale::output);
  CHECK(std::isnan(relative.unit));
  const certificate whole = said(epsilon_of_values{0.05}, 300);
  CHECK(whole.status == status::exact);
  CHECK(whole.scale == error_scale::values);
  CHECK(whole.unit > 0.0);
}

TEST_CASE("shards of an error measured in values merge to the unit of the whole", "[functor]") {
  synthetic_head head = make_head(head_kind::mixed, 8000, 64, 32, 1, 2);
  head.values.topRows(4000) *= 2.0F;
  const double rms = std::sqrt(head.values.cast<double>().squaredNorm() / 8000.0);
  const auto functor = presets::standard(epsilon_of_values{0.1}, delta{0.1});
  std::vector<partial> merged;
  workspace ws;
  for (const index_t first : {0, 4000}) {
    const kv_view kv = head.view().shard(first, 4000);
    functor(head.group(), kv, functor.make_index(kv), {}, ws);
    partial part = take_partial(ws, 0, 32);
    if (merged.empty())
      merged.push_back(part);
    else
      merged[0].view().merge(part.view());
  }
  CHECK(functor.finish(merged, ws).certificates[0].unit == Approx(rms).epsilon(1e-5));
}

TEST_CASE("a sample too small to judge by is never called met", "[functor]") {
  const synthetic_head head = make_head(head_kind::flat, 6000, 64, 64, 1, 2);
  const base_sampling::uniform tiny(rows(4));
  const budget::clt clt(epsilon{0.3}, delta{0.1});
  const kept few = call(vattn::vattention(ends, tiny, clt, grow), head.group(), head.view());
  CHECK(few.certificates[0].rows_sampled < 16);
  CHECK(few.certificates[0].status == status::sample_too_small);
  const kept more =
      call(vattn::vattention(ends, tiny, budget::output(epsilon{0.3}, delta{0.1}), grow),
           head.group(), head.view());
  CHECK(more.certificates[0].status == status::met);
  CHECK(more.certificates[0].rows_sampled >= 16);
}

TEST_CASE("an index that grew with the cache is the index of the cache", "[functor]") {
  const random_cache c({.rows = 2000, .dim = 64, .value_dim = 32, .heads = 2});
  const auto functor = certified(0.2);
  workspace ws;
  auto index = functor.make_index(c.view().shard(0, 700));
  for (const index_t rows : {701, 1300, 1999, 2000}) index.append(c.view().shard(0, rows));
  CHECK(same_bits(kept(functor(c.group(), c.view(), index, {3}, ws)),
                  call(functor, c.group(), c.view(), {3})));
}

namespace {

/// A cache of the user's own, whose rows lie in pages of 16, in any order.
class paged_cache {
public:
  explicit paged_cache(kv_view whole) : whole_(whole) {
    for (row_t page = 0; page < static_cast<row_t>((whole.rows() + 15) / 16); ++page)
      pages_.insert(pages_.begin() + page / 2, page);
    table_.resize(pages_.size());
    for (std::size_t i = 0; i < pages_.size(); ++i) table_[pages_[i]] = static_cast<row_t>(i);
  }
  index_t rows() const noexcept { return whole_.rows(); }
  index_t key_dim() const noexcept { return whole_.key_dim(); }
  index_t value_dim() const noexcept { return whole_.value_dim(); }
  element key_type() const noexcept { return whole_.key_type(); }
  element value_type() const noexcept { return whole_.value_type(); }
  const void* key_row(row_t i) const noexcept { return whole_.key_row(place(i)); }
  const void* value_row(row_t i) const noexcept { return whole_.value_row(place(i)); }
  index_t first_row() const noexcept { return 0; }

private:
  row_t place(row_t i) const noexcept { return 16 * pages_[table_[i / 16]] + i % 16; }
  kv_view whole_;
  std::vector<row_t> pages_, table_;
};
static_assert(cache_view<paged_cache>);

}  // namespace

TEST_CASE("a cache of the user's own is a cache", "[functor]") {
  const random_cache c({.rows = 2000, .dim = 64, .value_dim = 32, .heads = 2});
  const paged_cache paged(c.view());
  const auto functor = certified(0.2);
  workspace ws;
  const kept got(functor(c.group(), paged, functor.make_index(paged), {3}, ws));
  CHECK(same_bits(got, call(functor, c.group(), c.view(), {3})));
}

TEST_CASE("scores of +-1e4 are certified like any other", "[functor]") {
  std::vector<float> l(3000);
  vattn::detail::head_source source(5, 0);
  for (const float level : {1e4F, -1e4F}) {
    for (float& x : l) x = level + static_cast<float>(std::floor(16.0 * source.normal())) / 8.0F;
    const random_cache c = cache_with_logits(l, 2);
    const exact_attention want = reference(c.group(), c.view());
    for_each_predictor([&](const auto& top_k, const char* name) {
      CAPTURE(name, level);
      const kept got =
          call(composed(top_k, budget::output(epsilon{0.2}, delta{0.1})), c.group(), c.view());
      CHECK(got.certificates[0].holds());
      CHECK(relative_error(got.output.row(0), want.output.row(0)) <= 0.2);
    });
  }
}

namespace {

/// A budget that asks for a ceiling and hands out the states it sees.
struct probe : budget::fixed {
  static constexpr bool needs_ceiling = true;
  explicit probe(std::vector<partial>& seen) : fixed(rows(100)), states(&seen) { seen.reserve(64); }
  judgement judge(const partial_view& state, workspace& ws) const noexcept {
    states->emplace_back(state);
    return fixed::judge(state, ws);
  }
  std::vector<partial>* states;
};
struct needy : budget::fixed {
  static constexpr bool needs_ceiling = true;
  using fixed::fixed;
};

}  // namespace

TEST_CASE("a budget that asks for it gets a ceiling and a floor, at every look", "[functor]") {
  std::vector<float> bias(2 * 1500, 0.0F);
  for (std::size_t i = 0; i < 400; ++i) bias[1000 + i] = -infinity;  // of head 0
  for (const bool biased : {false, true}) {
    const synthetic_head head = make_head(head_kind::power_law, 1500, 64, 8, 2, 3);
    logit_options options;
    if (biased) options = {.bias = bias.data(), .bias_stride = 1500};
    std::vector<partial> states;
    const auto functor = composed(top_k::key_code(8, fraction(0.02)), probe(states));
    workspace ws;
    const auto index = functor.make_index(head.view());
    const result r = functor(head.group(options), head.view(), index, {1}, ws);
    REQUIRE(states.size() == 4);  // two heads, two looks
    for (std::size_t i = 0; i < 4; ++i) {
      const int h = static_cast<int>(i % 2);
      const Eigen::VectorXd l = logits(head.group(options), head.view(), h);
      double largest = -infinity, denominator = 0.0;
      const partial_view s = states[i].view();
      for (index_t row = 0; row < 1500; ++row) {
        denominator += std::exp(l[row] - s.max_logit());
        if (!ws.exact.contains(static_cast<row_t>(row))) largest = std::max(largest, l[row]);
      }
      CAPTURE(biased, i, s.ceiling(), s.floor());
      CHECK(s.ceiling() >= largest);
      CHECK(s.ceiling() <= largest + 0.5);
      CHECK(s.floor() <= denominator);
      CHECK(s.floor() >= 0.8 * denominator);
      CHECK(s.sampled_shards() == 1.0);
      CHECK(s.looks() == static_cast<double>(1 + i / 2));
      CHECK(s.rows_total() == 1500.0);
      CHECK(s.rows_sampled() == (i < 2 ? 32.0 : 100.0));
      CHECK(s.rows_exact() == static_cast<double>(r.certificates[0].rows_exact));
    }
  }
}

TEST_CASE("without a budget that asks the ceiling is unknown, the floor that of the exact rows",
          "[functor]") {
  const synthetic_head head = make_head(head_kind::power_law, 1500, 64, 8, 1, 3);
  const auto functor = certified(0.3);
  workspace ws;
  const result r = functor(head.group(), head.view(), functor.make_index(head.view()), {1}, ws);
  REQUIRE(r.certificates[0].rows_sampled > 0);
  partial p = take_partial(ws, 0, 8);
  CHECK(p.view().ceiling() == infinity);
  CHECK(p.view().floor() > 0.0);
  CHECK(p.view().floor() < p.view().denominator());
  dense(head.group(), head.view(), ws);
  partial whole = take_partial(ws, 0, 8);
  CHECK(whole.view().ceiling() == -infinity);
  CHECK(whole.view().floor() == whole.view().denominator());
  CHECK(whole.view().sampled_shards() == 0.0);
}

TEST_CASE("bounding the residual allocates nothing once the workspace has grown", "[functor]") {
  const synthetic_head head = make_head(head_kind::flat, 1500, 64, 8, 1, 3);
  const auto functor = composed(top_k::key_code(6, fraction(0.02)), needy(rows(100)));
  const auto index = functor.make_index(head.view());
  workspace ws;
  functor(head.group(), head.view(), index, {1}, ws);
  CHECK(count_allocations([&] { functor(head.group(), head.view(), index, {2}, ws); }) == 0);
}
