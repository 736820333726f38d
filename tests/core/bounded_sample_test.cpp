// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/bounded_sample.hpp"

#include <optional>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/attention/residual_range.hpp"
#include "vattention/attention/weighted.hpp"
#include "vattention/top_k/bounded_code.hpp"

using namespace vattn;

namespace {

/// A call on 600 rows up to the sampler: rows 0..9 are exact.
template <quantity What>
class looks {
public:
  using drawing_type = drawing<kv_view, top_k::bounded_code>;

  explicit looks(draw_key key, int heads = 2)
      : c_({600, 16, heads}),
        kv_(c_.view()),
        index_((c_.head.queries *= 0.3F, policy_.make_index(16))),
        queries_(c_.group()),
        call_(queries_, kv_, key) {
    index_.append(kv_);
    c_.begin(true, test::row_range(0, 10));
    c_.ws.reserve_bounds(heads, 600);
    bound_residual(policy_, call_, index_, true, c_.ws);
    rest_.emplace(call_.visible, c_.ws.exact);
    d_.emplace(drawing_type{call_, *rest_, policy_, index_, c_.ws});
    pass_.emplace(call_, c_.ws);
  }
  bounded_sample<What, drawing_type> sample() { return bounded_sample<What, drawing_type>(*d_); }
  /// Estimates from the draw, as the functor does after each look.
  void estimate() {
    pass_->read_fresh();
    pass_->estimate(design::independent, rest_->size());
    for (int h = 0; h < call_.heads(); ++h) {
      c_.ws.head(h).sampled_shards() = 1.0;
      sample().describe(h, 0.0);
    }
  }
  workspace& ws() { return c_.ws; }
  partial_view state(int h) { return c_.ws.head(h); }
  /// The logits of all rows in double.
  std::vector<double> logits(int h) const {
    std::vector<double> l;
    for (index_t row = 0; row < 600; ++row)
      l.push_back(c_.head.queries.row(h).cast<double>().dot(c_.head.keys.row(row).cast<double>()) /
                  4.0);
    return l;
  }

private:
  test::prepared_call c_;
  kv_view kv_;
  top_k::bounded_code policy_{8};
  top_k::bounded_code_index index_;
  query_group queries_;
  attention_call<kv_view> call_;
  std::optional<population> rest_;
  std::optional<drawing_type> d_;
  std::optional<weighted_attention<kv_view>> pass_;
};

}  // namespace

TEST_CASE("weights are bounded by what the sampler follows, and exact rows count for nothing") {
  looks<quantity::denominator> s({1});
  for (int h = 0; h < 2; ++h) {
    const std::vector<double> l = s.logits(h);
    const auto bounds = s.ws().seen.scores(h);
    for (std::size_t row = 0; row < 600; ++row) {
      const double weight = std::exp(l[row] - s.ws().ranges[2 * h]);
      CHECK(static_cast<double>(bounds[row]) >= (row < 10 ? 0.0 : weight));
      if (row < 10)
        CHECK(bounds[row] == 0.0F);
      else
        CHECK(static_cast<double>(bounds[row]) <= 2.0 * weight);
    }
  }
}

TEST_CASE("a pilot of no row draws none, and one of all rows draws all") {
  looks<quantity::denominator> s({1});
  s.sample().begin(0);
  CHECK(s.ws().drawn.size() == 0);
  const std::vector<index_t> all(2, 600);
  s.sample().grow(all);
  CHECK(s.ws().drawn.size() == 590);
  for (const threshold_t threshold : s.ws().drawn.thresholds()) CHECK(threshold == certain);
}

TEST_CASE("each look has fresh numbers, and what was drawn before is certain") {
  looks<quantity::denominator> s({7});
  s.sample().begin(0);
  s.estimate();
  const std::vector<index_t> sizes(2, 60);
  s.sample().grow(sizes);
  const index_t first = s.ws().drawn.size();
  CHECK((first > 30 && first < 140));
  s.estimate();
  s.sample().grow(sizes);
  CHECK(s.ws().drawn.fresh() == first);
  CHECK(s.ws().drawn.size() > first);
  for (index_t i = 0; i < first; ++i)
    CHECK(s.ws().drawn.thresholds()[static_cast<std::size_t>(i)] == certain);
  std::vector<row_t> rows(s.ws().drawn.rows().begin(), s.ws().drawn.rows().end());
  std::sort(rows.begin(), rows.end());
  CHECK(std::adjacent_find(rows.begin(), rows.end()) == rows.end());
  CHECK(rows.front() >= 10);
}

TEST_CASE("V and R of a look are those of the probabilities it was drawn with") {
  looks<quantity::denominator> s({3}, 1);
  s.sample().begin(0);
  s.estimate();
  const std::vector<index_t> sizes(1, 50);
  s.sample().grow(sizes);
  s.estimate();
  const double unit = std::exp(s.ws().ranges[0] - s.state(0).max_logit());
  const double scale = s.ws().draws.bounded[0].scale;
  double variance = 0.0;
  for (const float bound : s.ws().seen.scores(0)) {
    const double z = static_cast<double>(bound);
    if (z > 0.0 && scale * z < 1.0) variance += z * z * (1.0 - scale * z) / (scale * z);
  }
  CHECK(s.state(0).spread(0) == Approx(unit * unit * variance).epsilon(1e-6));
  CHECK(s.state(0).largest_term() <= unit / scale * (1.0 + 1e-12));
  CHECK(s.state(0).largest_term() == Approx(unit / scale).epsilon(1e-3));
  CHECK(s.state(0).violations() == 0.0);
}

TEST_CASE("the radius foretold is the radius found, to the width of a bucket") {
  looks<quantity::output> s({3}, 1);
  s.sample().begin(40);
  s.estimate();
  const double log_term = 3.0;
  for (const index_t size : {40, 100, 200}) {
    CAPTURE(size);
    const double exact = s.sample().exact_radius_at(0, size, log_term);
    CHECK(s.sample().radius_at(0, size, log_term) == Approx(exact).epsilon(0.08));
  }
  const std::vector<index_t> sizes(1, 100);
  const double foretold = s.sample().exact_radius_at(0, 100, log_term);
  s.sample().grow(sizes);
  s.estimate();
  const partial_view state = s.state(0);
  CHECK(output_radius(state, state.reference_norm(), log_term) == Approx(foretold).epsilon(0.02));
}

TEST_CASE("the estimate is unbiased over looks") {
  // 1200 seeds, two looks; mean of D^ within 5 standard errors: one false alarm in 2e6.
  double sum = 0.0;
  double squares = 0.0;
  double truth = 0.0;
  for (std::uint64_t seed = 0; seed < 1200; ++seed) {
    looks<quantity::denominator> s({seed}, 1);
    if (seed == 0)
      for (const double l : s.logits(0)) truth += std::exp(l);
    s.sample().begin(0);
    s.estimate();
    s.sample().grow(std::vector<index_t>(1, 25));
    s.estimate();
    s.sample().grow(std::vector<index_t>(1, 25));
    s.estimate();
    const double d = s.state(0).denominator() * std::exp(s.state(0).max_logit());
    sum += d;
    squares += d * d;
  }
  const double mean = sum / 1200.0;
  const double deviation = std::sqrt(std::max(0.0, squares / 1200.0 - mean * mean));
  CHECK(std::fabs(mean - truth) <= 5.0 * deviation / std::sqrt(1200.0) + 1e-5 * truth);
}
