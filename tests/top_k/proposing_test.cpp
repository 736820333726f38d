// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/proposing.hpp"

#include <map>

#include "support/sampler_contract.hpp"
#include "support/top_k_contract.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/coverage.hpp"
#include "vattention/testing/reference.hpp"
#include "vattention/top_k/double_sparsity.hpp"
#include "vattention/top_k/product_code.hpp"
#include "vattention/top_k/sign_hash.hpp"

using namespace vattn;
using top_k::double_sparsity;
using top_k::oracle;
using top_k::product_code;
using top_k::proposing;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// An oracle that counts its passes, and without proposals of its own.
class counting {
public:
  using role = vattn::role::top_k;
  using index_type = oracle::index_type;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  counting(pick_size k, int& passes) : inner_(k), k_(k), passes_(&passes) {}
  top_k::no_index make_index(index_t key_dim) const { return inner_.make_index(key_dim); }
  template <cache_view View>
  void predict(const attention_call<View>& call, const top_k::no_index& index, predictions& seen,
               workspace& ws) const noexcept {
    ++*passes_;
    inner_.predict(call, index, seen, ws);
  }
  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& seen,
              workspace& ws) const noexcept {
    inner_.select(call, seen, ws);
  }
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.most(call.visible);
  }
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return inner_.bytes_scanned(call);
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  oracle inner_;
  pick_size k_;
  int* passes_;
};

template <class Predictor>
auto sampled(Predictor predictor, double asked = 0.1) {
  return presets::detail::sampled_by_weight(std::move(predictor),
                                            budget::output(epsilon{asked}, delta{0.1}));
}

/// Rows of a replayed call with their probabilities, 1 for those that are read for certain.
std::map<row_t, double> probabilities(const explanation& all) {
  std::map<row_t, double> rows;
  for (const row_t row : all.exact) rows[row] = 1.0;
  for (const explanation::draw& d : all.drawn) rows[d.row] = d.probability;
  return rows;
}

}  // namespace

TEST_CASE("a proposing predictor keeps the contract of predictors", "[top_k]") {
  SECTION("exact scores") {
    test::check_top_k_contract([](extent k) { return proposing(oracle(k)); });
  }
  SECTION("a few channels") {
    test::check_top_k_contract([](extent k) { return proposing(double_sparsity(16, k)); });
  }
  SECTION("centroids") {
    test::check_top_k_contract([](extent k) { return proposing(product_code(16, 4, k)); });
  }
}

TEST_CASE("a proposing predictor serves samplers in proportion", "[top_k]") {
  const base_sampling::proportional base(rows(30), 1, 30);
  const dynamic_sampling::proportional dynamic;
  SECTION("exact scores") {
    test::check_sampler_contract(base, dynamic, proposing(oracle(rows(0)), 0.5), 0.4F);
  }
  SECTION("a few channels") {
    test::check_sampler_contract(base, dynamic, proposing(double_sparsity(8, rows(0))), 0.3F);
  }
  SECTION("centroids") {
    test::check_sampler_contract(base, dynamic, proposing(product_code(4, 4, rows(0))), 0.3F);
  }
}

TEST_CASE("proposing: which predictors it takes, and what it says of them", "[top_k]") {
  STATIC_REQUIRE(proposes_weights<proposing<double_sparsity>>);
  STATIC_REQUIRE(proposes_weights<proposing<product_code>>);
  STATIC_REQUIRE(proposes_weights<proposing<oracle>>);
  STATIC_REQUIRE_FALSE(proposes_weights<double_sparsity>);
  STATIC_REQUIRE_FALSE(top_k::scores_for_proposals<top_k::sign_hash>);  // no log-weights
  STATIC_REQUIRE_FALSE(top_k::scores_for_proposals<top_k::none>);
  STATIC_REQUIRE(doubts_scores<proposing<top_k::key_code>>);
  STATIC_REQUIRE_FALSE(doubts_scores<proposing<double_sparsity>>);
  // Bounds would be written over the scores that it follows.
  STATIC_REQUIRE_FALSE(bounds_scores<proposing<top_k::key_code>>);

  CHECK(proposing(oracle(rows(0))).coverage() == basis::measured_on_average);
  CHECK(proposing(top_k::key_code(4, rows(0))).coverage() == basis::measured_on_average);
  int passes = 0;
  CHECK(proposing(counting(rows(0), passes)).coverage() == basis::unmeasured);

  test::prepared_call c({500, 64});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  const double_sparsity plain(16, rows(7));
  CHECK(proposing(plain).bytes_proposed(call, 0) == plain.bytes_scanned(call));
  CHECK(proposing(plain).picks(call) == 7);
  CHECK(proposing(double_sparsity(16, mass(0.5))).picks(call) == 500);
  CHECK(proposing(double_sparsity(16, mass(0.0))).picks(call) == 0);
  const top_k::key_code code(2, rows(0));
  const auto index = test::index_of(code, c);
  CHECK(proposing(code).doubt(call, index, 0) == code.doubt(call, index, 0));
  const auto fitted = proposing(plain).predictor().make_index(
      {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 63}, 64);
  CHECK(fitted.channels().back() == 63);
}

TEST_CASE("proposing: a tau of 0 or less, or above 1, is refused", "[top_k]") {
  const auto made = [](double tau) { return proposing(oracle(rows(0)), tau); };
  CHECK_NOTHROW(made(1.0));
  CHECK_NOTHROW(made(0.01));
  CHECK_THROWS_WITH(made(1.5), "vattention: proposing: want 0 < tau <= 1, got 1.5");
  for (const double tau : {0.0, -0.5, 1e-60, std::nan("")})
    CHECK_THROWS_AS(made(tau), std::invalid_argument);
}

TEST_CASE("proposing: log-weights are tau times the scores, of any block", "[top_k]") {
  for (const test::cache_shape& shape : test::contract_shapes()) {
    test::prepared_call c(shape);
    std::vector<float> bias(static_cast<std::size_t>(shape.rows));
    for (std::size_t i = 0; i < bias.size(); ++i) bias[i] = 0.1F * static_cast<float>(i % 7);
    bias[33] = -infinity;
    c.options.bias = bias.data();
    c.head.keys(70, 1) = 1e9F;  // beyond labels in fp32 and bf16
    const kv_view kv = c.view();
    const query_group queries = c.group();
    const attention_call<kv_view> call(queries, kv, {});
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    const double_sparsity inner(16, rows(0));
    const auto index = test::index_of(inner, c);
    c.begin(true);
    inner.predict(call, index, c.ws.seen, c.ws);
    std::vector<float> want;
    for (int h = 0; h < shape.heads; ++h)
      want.insert(want.end(), c.ws.seen.scores(h).begin(), c.ws.seen.scores(h).end());
    const proposing policy(inner, 0.625);
    c.begin(true);
    policy.prepare(call, index, c.ws);
    const attention_call<kv_view>& again = call;
    for (const auto& [at, count] :
         {std::pair<index_t, index_t>{0, 256}, {16, 50}, {256, shape.rows - 256}, {496, 1}}) {
      const index_t stride = count + 3;
      std::vector<float> out(static_cast<std::size_t>(shape.heads * stride), -7.0F);
      workspace scratch;  // needs none
      policy.propose(again, index, at, count, out.data(), stride, c.ws, scratch);
      for (int h = 0; h < shape.heads; ++h)
        for (index_t i = 0; i < stride; ++i) {
          const float got = out[static_cast<std::size_t>(h * stride + i)];
          if (i >= count) {
            REQUIRE(got == -7.0F);
            continue;
          }
          const float score = want[static_cast<std::size_t>(h * shape.rows + at + i)];
          if (std::isnan(score))
            REQUIRE(std::isnan(got));
          else
            REQUIRE(got == 0.625F * score);
          REQUIRE((at + i != 33 || got == -infinity));
          if (at + i == 70 && (shape.type == element::f32 || shape.type == element::bf16))
            REQUIRE(std::isnan(got));
        }
    }
  }
}

TEST_CASE("proposing: each call predicts once, whatever it picks", "[top_k]") {
  test::prepared_call c({3000, 64, 2});
  const kv_view kv = c.view();
  for (const pick_size& k :
       {pick_size(rows(0)), pick_size(rows(20)), pick_size(mass(0.0)), pick_size(mass(0.3))}) {
    int passes = 0;
    const auto functor = sampled(proposing(counting(k, passes)));
    const auto index = functor.make_index(kv);
    for (std::uint64_t seed = 0; seed < 3; ++seed) {
      const result got = functor(c.group(), kv, index, {seed}, c.ws);
      CHECK(got.certificates[0].density() < 0.9);
      CHECK(passes == static_cast<int>(seed) + 1);
    }
  }
}

TEST_CASE("proposing: exact scores untempered draw what the oracle draws", "[top_k]") {
  for (const pick_size& k : {pick_size(rows(0)), pick_size(rows(30))}) {
    test::prepared_call c({3000, 64, 3});
    const kv_view kv = c.view();
    const auto whole = sampled(oracle(k));
    const auto wrapped = sampled(proposing(oracle(k), 1.0));
    const auto index = whole.make_index(kv);
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      const explanation want = whole.explain(c.group(), kv, index, {seed}, c.ws);
      const explanation got = wrapped.explain(c.group(), kv, index, {seed}, c.ws);
      CHECK(want.drawn.size() > 40);
      CHECK(probabilities(got) == probabilities(want));
      CHECK(got.certificates[2].epsilon == want.certificates[2].epsilon);
      CHECK(got.certificates[2].basis == basis::measured_on_average);
      CHECK(want.certificates[2].basis == basis::measured_per_row);
    }
  }
}

TEST_CASE("proposing: unpredictable rows are certain and hidden ones are not read", "[top_k]") {
  for (const index_t k : {0, 40}) {
    test::prepared_call c({3000, 64, 2});
    c.head.keys.row(700) *= 0.0F;
    c.head.keys(700, 5) = 1e6F;  // finite, and too large for labels
    c.head.queries.col(5).setZero();
    std::vector<float> bias(3000, 0.0F);
    for (const std::size_t row : {500U, 501U, 900U}) bias[row] = -infinity;
    c.head.keys.row(501) = 10.0F * c.head.queries.row(0);  // would weigh most
    c.options.bias = bias.data();
    const kv_view kv = c.view();
    const auto functor = sampled(proposing(double_sparsity(32, rows(k))), 0.2);
    const auto index = functor.make_index(kv);
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const explanation all = functor.explain(c.group(), kv, index, {seed}, c.ws);
      const auto read = probabilities(all);
      CAPTURE(k, seed);
      REQUIRE_FALSE(all.all_read());
      REQUIRE(read.contains(700));
      CHECK(read.at(700) == 1.0);
      for (const row_t hidden : {500U, 501U, 900U}) CHECK_FALSE(read.contains(hidden));
      for (const row_t fixed : {0U, 31U, 2936U, 2999U}) CHECK(read.at(fixed) == 1.0);
    }
  }
}

TEST_CASE("proposing: a call allocates nothing once it was as large", "[top_k]") {
  test::prepared_call c({3000, 64, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const auto functor = sampled(proposing(product_code(16, 4, rows(0))));
  const auto index = functor.make_index(kv);
  static_cast<void>(functor(queries, kv, index, {1}, c.ws));
  CHECK(test::count_allocations(
            [&] { static_cast<void>(functor(queries, kv, index, {1}, c.ws)); }) == 0);
}

TEST_CASE("proposing: threads that share a call change no bit", "[top_k]") {
  test::prepared_call c({9000, 64, 2});
  const kv_view kv = c.view();
  const auto functor = sampled(proposing(double_sparsity(16, rows(0))));
  const auto index = functor.make_index(kv);
  const result alone = functor(c.group(), kv, index, {3}, c.ws);
  const synthetic_head::matrix want = alone.output;
  const certificate said = alone.certificates[1];
  test::worker_spaces spaces;
  parallel::thread_pool pool(4);
  for (workspace& space : spaces.of) functor.reserve({2, 9000, 64, 4}, space);
  spaces.of[0].workers = team(pool, &spaces, test::worker_spaces::at);
  const result shared = functor(c.group(), kv, index, {3}, spaces.of[0]);
  CHECK(shared.output == want);
  CHECK(shared.certificates[1].rows_sampled == said.rows_sampled);
  CHECK(shared.certificates[1].epsilon == said.epsilon);
}

TEST_CASE("proposing: a predictor that sees enough keeps epsilon", "[top_k]") {
  // All channels as 4-bit labels. Judged at a false-alarm rate of 1e-3 for all three heads together, as if they
  // just kept delta.
  for (const head_kind kind : {head_kind::sharp, head_kind::mixed, head_kind::power_law}) {
    const synthetic_head head = make_head(kind, 4096, 64, 48, 1, 9);
    const exact_attention want = reference(head.group(), head.view());
    const auto functor = sampled(proposing(double_sparsity(64, rows(0))));
    const auto index = functor.make_index(head.view());
    workspace ws;
    double density = 0.0;
    const auto trial = [&](std::uint64_t seed) {
      const result got = functor(head.group(), head.view(), index, {seed}, ws);
      density += got.certificates[0].density() / 100.0;
      return relative_error(got.output.row(0), want.output.row(0));
    };
    const coverage_report report = run_coverage(100, 0.1, 0.1, trial, 1e-3 / 3.0);
    CAPTURE(static_cast<int>(kind), density);
    INFO(report.message());
    CHECK(report.holds);
    CHECK(density < 0.7);
  }
}
