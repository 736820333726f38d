// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/lsh_sample.hpp"

#include <memory>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/base_sampling/lsh.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/dynamic_sampling/lsh.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/lsh.hpp"

using namespace vattn;
using list = std::vector<row_t>;

namespace {

/// A call up to the draw, rows 0..9 and every 50th read exactly.
class lsh_call {
public:
  explicit lsh_call(const top_k::lsh& of, const test::cache_shape& shape = {3000, 64, 3})
      : predictor(of), c(shape) {
    for (row_t row = 0; row < shape.rows; ++row)
      if (row < 10 || row % 50 == 0) exact.push_back(row);
  }

  void draw(draw_key key, index_t size, index_t first_row = 0) {
    const kv_view all = c.view();
    kv_ = std::make_unique<kv_view>(all.keys(), all.values(), first_row);
    index = predictor.make_index(c.shape.dim);
    index.append(*kv_);
    queries_ = c.group();
    call_ = std::make_unique<attention_call<kv_view>>(queries_, *kv_, key);
    c.begin(true, exact);
    rest_ = std::make_unique<population>(call_->visible, c.ws.exact);
    lsh_sample(d()).begin(size);
  }
  void grow(const std::vector<index_t>& sizes) { lsh_sample(d()).grow(sizes); }

  drawing<kv_view, top_k::lsh> d() { return {*call_, *rest_, predictor, index, c.ws}; }
  list drawn() const {
    list rows(c.ws.drawn.rows().begin(), c.ws.drawn.rows().end());
    std::sort(rows.begin(), rows.end());
    return rows;
  }
  list rest() const { return test::rows_without(test::row_range(0, call_->visible), exact); }
  std::uint32_t number(row_t row) const {
    const random_stream stream(call_->key, static_cast<std::uint32_t>(purpose::sampling));
    return sampling_number(stream, static_cast<std::uint64_t>(kv_->first_row()) + row);
  }
  int collisions_of(row_t row) const { return c.ws.draws.collisions.tables(row); }
  std::size_t half_of(row_t row) const { return c.ws.draws.collisions.half(row); }
  bool must_read(row_t row) const { return c.ws.draws.collisions.must_read(row); }
  double same_side(row_t row) { return predictor.same_side(*call_, index, row, c.ws); }

  /// The rule of a half at a size, by its definition: what the other half's counts say.
  collision_rule rule(std::size_t half, index_t size) const {
    std::vector<index_t> counts(static_cast<std::size_t>(predictor.tables()) + 1);
    for (const row_t row : rest())
      if (half_of(row) != half && !must_read(row))
        ++counts[static_cast<std::size_t>(collisions_of(row))];
    collision_rule r{predictor.tables(), predictor.bits()};
    r.set(static_cast<double>(size) / static_cast<double>(rest().size()), 0.3, counts);
    return r;
  }

  top_k::lsh predictor;
  test::prepared_call c;
  list exact;
  top_k::lsh_index index = predictor.make_index(1);

private:
  std::unique_ptr<kv_view> kv_;
  query_group queries_;
  std::unique_ptr<attention_call<kv_view>> call_;
  std::unique_ptr<population> rest_;
};

/// Checks a draw of some size against the definition.
void check_draw(lsh_call& call, index_t size) {
  const collision_rule rules[2] = {call.rule(0, size), call.rule(1, size)};
  list expected;
  for (const row_t row : call.rest()) {
    const int collisions = call.collisions_of(row);
    if (call.must_read(row) || call.number(row) <= rules[call.half_of(row)].threshold(collisions))
      expected.push_back(row);
  }
  CHECK(call.drawn() == expected);
  const sample& drawn = call.c.ws.drawn;
  for (std::size_t i = 0; i < drawn.rows().size(); ++i) {
    const row_t row = drawn.rows()[i];
    const threshold_t wanted =
        call.must_read(row) ? certain
                            : threshold_of(rules[call.half_of(row)].chance(call.same_side(row)));
    CAPTURE(row);
    REQUIRE(drawn.thresholds()[i] == wanted);
  }
}

}  // namespace

TEST_CASE("a row is drawn by its number and what the other half's counts ask of its collisions",
          "[sampling]") {
  for (const auto& [tables, bits, kept] : {std::tuple{128, 1, 128}, {32, 8, 32}, {64, 2, 30}})
    for (const index_t first_row : {index_t{0}, index_t{1003}}) {
      lsh_call call(top_k::lsh(tables, bits, rows(0), 11, kept));
      call.draw({.seed = 4, .step = 9}, 60, first_row);
      CAPTURE(tables, bits, kept, first_row);
      check_draw(call, 60);
      for (const std::vector<index_t>& sizes :
           {std::vector<index_t>{61, 60, 0}, {70, 300, 100}, {1500, 1, 1}, {2900, 2900, 2900}}) {
        call.grow(sizes);
        check_draw(call, *std::max_element(sizes.begin(), sizes.end()));
      }
    }
}

TEST_CASE("about as many rows are drawn as asked for", "[sampling]") {
  for (const index_t size : {60, 300, 1000}) {
    double drawn = 0.0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      lsh_call call(top_k::lsh(128, 1, rows(0), seed));
      call.draw({seed}, size);
      drawn += static_cast<double>(call.c.ws.drawn.size()) / 20.0;
    }
    CHECK(drawn == Approx(static_cast<double>(size)).epsilon(0.1));
  }
}

TEST_CASE("the rule for a half of the rows does not depend on how these are hashed", "[sampling]") {
  lsh_call call(top_k::lsh(64, 1, rows(0), 3));
  call.draw({1}, 100);
  const collision_rule before = call.rule(0, 100);
  const sample& drawn = call.c.ws.drawn;
  // Keys of half 0 that look the other way: another half-1 rule, the same half-0 rule.
  for (const row_t row : call.rest())
    if (call.half_of(row) == 0 && row >= 256) call.c.head.keys.row(row) *= -1.0F;
  call.draw({1}, 100);
  CHECK(call.rule(0, 100).least == before.least);
  CHECK(call.rule(0, 100).edge == before.edge);
  CHECK(call.rule(0, 100).even == before.even);
  check_draw(call, 100);
  CHECK(drawn.size() > 0);
}

TEST_CASE("rows that cannot be hashed are certain", "[sampling]") {
  lsh_call call(top_k::lsh(64, 1));
  for (const row_t row : {31U, 401U, 2999U})
    call.c.head.keys(row, 5) = std::numeric_limits<float>::quiet_NaN();
  call.draw({1}, 40);
  check_draw(call, 40);
  for (const row_t row : {31U, 401U, 2999U}) {
    const list drawn = call.drawn();
    CHECK(std::binary_search(drawn.begin(), drawn.end(), row));
  }
  call.grow({500, 1, 1});
  check_draw(call, 500);
}

TEST_CASE("keys that equal the centre are drawn with their true chance", "[sampling]") {
  // All keys the same: collisions are coins of the query's, and the chance a plane is a half.
  lsh_call call(top_k::lsh(64, 1, rows(0), 8));
  call.c.head.keys.setOnes();
  call.draw({1}, 200);
  check_draw(call, 200);
  for (const row_t row : call.drawn()) REQUIRE(call.same_side(row) == 0.5);
}

namespace {

auto functor_of(std::uint64_t seed, extent size = fraction(0.05), extent picked = rows(0)) {
  return vattention(static_indices::sink_window(16, 16), top_k::lsh(128, 1, picked, seed),
                    base_sampling::lsh(size, 1), budget::fixed(size, delta{0.1}),
                    dynamic_sampling::lsh());
}

}  // namespace

TEST_CASE("the denominator is unbiased over the seeds of the index, for each head of a group",
          "[sampling]") {
  const synthetic_head head = make_head(head_kind::log_normal, 2000, 32, 8, 3, 4);
  const exact_attention want = reference(head.group(), head.view());
  // With picks as well, by tables that the sampler does not ask: 6 means within 5 standard errors, false once in 3e5.
  constexpr int trials = 400;
  for (const extent picked : {rows(0), rows(40)}) {
    double sum[3] = {}, squares[3] = {};
    workspace ws;
    for (std::uint64_t seed = 0; seed < trials; ++seed) {
      const auto functor = functor_of(seed, fraction(0.1), picked);
      const auto index = functor.make_index(head.view());
      const result got = functor(head.group(), head.view(), index, {.seed = seed}, ws);
      for (int h = 0; h < 3; ++h) {
        const double ratio =
            std::exp(got.log_sum_exp[static_cast<std::size_t>(h)] - want.log_sum_exp[h]);
        sum[h] += ratio;
        squares[h] += ratio * ratio;
      }
    }
    for (int h = 0; h < 3; ++h) {
      const double mean = sum[h] / trials;
      const double error = std::sqrt((squares[h] / trials - mean * mean) / trials);
      CAPTURE(h, mean, error);
      CHECK(std::fabs(mean - 1.0) <= 5.0 * error);
      CHECK(error > 0.0);
    }
  }
}

TEST_CASE("calls by collisions allocate nothing, are repeatable, and end exact", "[sampling]") {
  const synthetic_head head = make_head(head_kind::mixed, 3000, 64, 16, 2, 4);
  const auto functor = functor_of(2);
  const auto index = functor.make_index(head.view());
  workspace ws;
  const result first = functor(head.group(), head.view(), index, {.seed = 1}, ws);
  const Eigen::MatrixXf output = first.output;
  CHECK(first.certificates[0].rows_sampled > 50);
  CHECK(first.certificates[0].basis == basis::unmeasured);
  CHECK(test::count_allocations(
            [&] { functor(head.group(), head.view(), index, {.seed = 1}, ws); }) == 0);
  const result again = functor(head.group(), head.view(), index, {.seed = 1}, ws);
  CHECK(again.output == output);
  // 16 bytes of signatures a key, then keys and values of the rows read.
  const certificate& said = again.certificates[1];
  CHECK(said.bytes_touched == 16 * 3000 + (said.rows_exact + said.rows_sampled) * (64 + 16) * 4);

  const auto all = functor_of(2, fraction(1.0));
  const result exact = all(head.group(), head.view(), index, {.seed = 1}, ws);
  const exact_attention want = reference(head.group(), head.view());
  CHECK(exact.certificates[0].status == status::exact);
  CHECK(relative_error(exact.output.row(1), want.output.row(1)) < 1e-5);
}

TEST_CASE("hidden rows, NaN keys and picks go together with sampling by collisions", "[sampling]") {
  synthetic_head head = make_head(head_kind::log_normal, 1500, 32, 8, 2, 4);
  head.keys(700, 3) = std::numeric_limits<float>::quiet_NaN();
  std::vector<float> bias(1500, 0.0F);
  bias[700] = bias[701] = -std::numeric_limits<float>::infinity();
  logit_options options;
  options.bias = bias.data();
  const exact_attention want = reference(head.group(options), head.view());
  workspace ws;
  for (const extent picked : {rows(0), rows(20)}) {
    double error = 0.0;
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
      const vattention functor(static_indices::sink_window(16, 16),
                               top_k::lsh(256, 1, picked, seed), base_sampling::lsh(rows(60)),
                               budget::output(epsilon{0.3}, delta{0.1}), dynamic_sampling::lsh());
      const auto index = functor.make_index(head.view());
      const result got = functor(head.group(options), head.view(), index, {.seed = seed}, ws);
      REQUIRE(got.output.allFinite());
      error += relative_error(got.output.row(0), want.output.row(0)) / 20.0;
    }
    CHECK(error < 0.3);
  }
}
