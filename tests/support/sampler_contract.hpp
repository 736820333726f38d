// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every pair of samplers must do: `check_sampler_contract(base, dynamic)`.
#pragma once

#include <cmath>
#include <numeric>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/top_k/oracle.hpp"

namespace vattn::test {

/// What the contract is asked of. The predictor's scores are made for queries times `sharpness`.
template <class Base, class Dynamic, class Predictor>
struct samplers {
  Base base;
  Dynamic dynamic;
  Predictor predictor;
  float sharpness = 1.0F;
};
template <class Base, class Dynamic, class Predictor>
samplers(Base, Dynamic, Predictor) -> samplers<Base, Dynamic, Predictor>;
/// With exact scores to look at.
template <class Base, class Dynamic>
samplers<Base, Dynamic, top_k::oracle> with_oracle(const Base& base, const Dynamic& dynamic) {
  return {base, dynamic, top_k::oracle(rows(0))};
}

/// A residual with everything a sampler may look at, and one draw from it. The cache has 400 rows, of
/// which rows 0..9 and every 7th are read exactly; the predictor takes no row.
template <class Base, class Dynamic, class Predictor>
class sampling {
public:
  explicit sampling(const samplers<Base, Dynamic, Predictor>& of, int heads = 2,
                    index_t visible = -1)
      : base_(of.base),
        dynamic_(of.dynamic),
        predictor_(of.predictor),
        c_({400, 16, heads}),
        kv_(c_.view()),
        index_(predictor_.make_index(16)) {
    for (index_t i = 0; i < c_.head.queries.size(); ++i) c_.head.queries.data()[i] *= of.sharpness;
    index_.append(kv_);
    c_.options.visible_rows = visible;
    queries_ = c_.group();
    for (row_t row = 0; row < c_.visible(); ++row)
      if (row < 10 || row % 7 == 0) exact_.push_back(row);
  }

  /// Begins a call and takes the base sample.
  void draw(draw_key key) {
    begin(key);
    base_.draw(drawing_());
  }
  void begin(draw_key key) {
    call_.reset();
    call_ = std::make_unique<attention_call<kv_view>>(queries_, kv_, key);
    c_.begin(true, exact_);
    predictor_.predict(*call_, index_, c_.ws.seen, c_.ws);
    predictor_.select(*call_, c_.ws.seen, c_.ws);
    if constexpr (proposes_weights<Predictor>) predictor_.prepare(*call_, index_, c_.ws);
    rest_ = std::make_unique<population>(call_->visible, c_.ws.exact);
  }
  /// Grows every head's sample to `size`.
  void grow(index_t size) {
    const std::vector<index_t> sizes(static_cast<std::size_t>(heads()), size);
    dynamic_.grow(drawing_(), sizes);
  }
  void grow_heads(const std::vector<index_t>& sizes) { dynamic_.grow(drawing_(), sizes); }

  int heads() const { return queries_.heads; }
  index_t residual() const { return rest_->size(); }
  index_t size(int head = 0) { return dynamic_.size(drawing_(), head); }
  double variance_at(const contributions& y, index_t size, correction finite, int head = 0) {
    return dynamic_.variance_at(drawing_(), head, y, size, finite);
  }
  double resolution(int head = 0) { return dynamic_.resolution(drawing_(), head); }
  const sample& drawn() const { return c_.ws.drawn; }
  std::vector<row_t> drawn_rows() const { return {drawn().rows().begin(), drawn().rows().end()}; }
  std::vector<threshold_t> thresholds() const {
    return {drawn().thresholds().begin(), drawn().thresholds().end()};
  }
  /// Rows of the residual, ascending.
  std::vector<row_t> rest_rows() const {
    return rows_without(row_range(0, call_->visible), exact_);
  }
  const Base& base() const { return base_; }

  drawing<kv_view, Predictor> drawing_() { return {*call_, *rest_, predictor_, index_, c_.ws}; }

private:
  Base base_;
  Dynamic dynamic_;
  Predictor predictor_;
  prepared_call c_;
  kv_view kv_;
  typename Predictor::index_type index_;
  query_group queries_;
  std::vector<row_t> exact_;
  std::unique_ptr<attention_call<kv_view>> call_;
  std::unique_ptr<population> rest_;
};

/// Sum of y(row) / p over the draw: the Horvitz-Thompson estimate of a total.
template <class Y>
double estimated_total(const sample& drawn, Y y) {
  double sum = 0.0;
  for (index_t i = 0; i < drawn.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    sum += y(drawn.rows()[at]) / probability(drawn.thresholds()[at]);
  }
  return sum;
}

/// Every row in the residual, each once.
template <class S>
void check_valid_draw(const S& s) {
  std::vector<row_t> drawn = s.drawn_rows();
  std::sort(drawn.begin(), drawn.end());
  CHECK(std::adjacent_find(drawn.begin(), drawn.end()) == drawn.end());
  CHECK(rows_without(drawn, s.rest_rows()).empty());
}

/// A growth keeps the rows and their order, lets no probability fall, and adds fresh rows behind.
template <class S>
void check_growth(const S& of) {
  sampling s(of);
  s.draw({42});
  check_valid_draw(s);
  CHECK(s.drawn().fresh() == 0);
  const index_t n = s.residual();
  for (const double share : {0.0, 0.1, 0.35, 0.7, 1.0}) {
    const std::vector<row_t> rows = s.drawn_rows();
    const std::vector<threshold_t> thresholds = s.thresholds();
    const index_t before = s.size();
    const index_t asked = before + static_cast<index_t>(share * static_cast<double>(n - before));
    CAPTURE(share, before, asked);
    s.grow(asked);
    check_valid_draw(s);
    CHECK(s.drawn().fresh() == static_cast<index_t>(rows.size()));
    REQUIRE(s.drawn().size() >= static_cast<index_t>(rows.size()));
    CHECK(std::equal(rows.begin(), rows.end(), s.drawn_rows().begin()));
    for (std::size_t i = 0; i < rows.size(); ++i) REQUIRE(s.thresholds()[i] >= thresholds[i]);
    for (int h = 0; h < s.heads(); ++h) CHECK(s.size(h) >= asked);
  }
  CHECK(s.drawn().size() == n);
  for (const threshold_t threshold : s.thresholds()) REQUIRE(threshold == certain);
  CHECK(estimated_total(s.drawn(), [](row_t) { return 1.0; }) == static_cast<double>(n));
}

/// The draw is a function of the draw key; other keys draw other rows. In steps or at once: the same.
template <class S>
void check_reproducible(const S& of) {
  const auto rows_of = [&](draw_key key, bool twice) {
    sampling s(of);
    if (twice) s.draw({1, 2, 3, 4, 5});
    s.draw(key);
    s.grow(s.size() + 60);
    return std::pair(s.drawn_rows(), s.thresholds());
  };
  const draw_key key{7, 11, 3, 5, 13};
  CHECK(rows_of(key, false) == rows_of(key, false));
  CHECK(rows_of(key, false) == rows_of(key, true));
  for (const draw_key other : {draw_key{8, 11, 3, 5, 13},
                               {7, 12, 3, 5, 13},
                               {7, 11, 4, 5, 13},
                               {7, 11, 3, 6, 13},
                               {7, 11, 3, 5, 14}})
    CHECK(rows_of(key, false).first != rows_of(other, false).first);

  sampling a(of), b(of);
  a.draw(key);
  b.draw(key);
  const index_t size = a.size();
  for (const index_t more : {10, 40, 90}) a.grow(size + more);
  b.grow(size + 90);
  std::vector<row_t> steps = a.drawn_rows(), once = b.drawn_rows();
  std::sort(steps.begin(), steps.end());
  std::sort(once.begin(), once.end());
  CHECK(steps == once);
}

/// Over 2000 keys, sum y / p is unbiased: within 5 standard errors for each of three y, of which a
/// correct sampler fails one in 6e5 times. Counts where the estimator has a spread at all.
template <class S>
void check_unbiased(const S& of) {
  constexpr int trials = 2000;
  sampling s(of, 1);
  const auto y = [](int which, row_t row) {
    return which == 0 ? 1.0 : which == 1 ? (row % 3 == 0 ? 1.0 : 0.0) : static_cast<double>(row);
  };
  double sum[3] = {}, squares[3] = {}, truth[3] = {};
  for (std::uint64_t t = 0; t < trials; ++t) {
    s.draw({3, 0, 0, 0, t});
    s.grow(s.size() + 30);
    for (int which = 0; which < 3; ++which) {
      const double total = estimated_total(s.drawn(), [&](row_t row) { return y(which, row); });
      sum[which] += total;
      squares[which] += total * total;
    }
  }
  for (const row_t row : s.rest_rows())
    for (int which = 0; which < 3; ++which) truth[which] += y(which, row);
  for (int which = 0; which < 3; ++which) {
    const double mean = sum[which] / trials;
    const double variance = std::max(0.0, squares[which] / trials - mean * mean);
    CAPTURE(which, mean, truth[which]);
    CHECK(std::fabs(mean - truth[which]) <=
          5.0 * std::sqrt(variance / trials) + 1e-6 * truth[which]);
  }
}

/// Draws of fixed size: every rank equally likely, in the base sample and in the growth. Pearson's
/// statistic with the covariance of sampling without replacement, (n - 1) / n sum (c - Tp)^2 / (Tp q),
/// against the chi-square quantile of false alarm 1e-6 by Wilson and Hilferty.
template <class S>
void check_equally_likely(const S& of) {
  constexpr int trials = 4000;
  sampling s(of, 1);
  std::vector<double> count(400, 0.0);
  double drawn = 0.0;
  for (std::uint64_t t = 0; t < trials; ++t) {
    s.draw({9, 0, 0, 0, t});
    if (t % 2 == 0) s.grow(s.size() + 25);
    const index_t first = t % 2 == 0 ? s.drawn().fresh() : 0;
    for (index_t i = first; i < s.drawn().size(); ++i)
      count[s.drawn().rows()[static_cast<std::size_t>(i)]] += 1.0;
    drawn += static_cast<double>(s.drawn().size() - first);
  }
  const auto n = static_cast<double>(s.residual());
  const double p = drawn / (n * trials);
  double statistic = 0.0;
  for (const row_t row : s.rest_rows()) {
    const double off = count[row] - trials * p;
    statistic += off * off / (trials * p * (1.0 - p));
  }
  const double c = 2.0 / (9.0 * (n - 1.0));
  const double quantile = (n - 1.0) * std::pow(1.0 - c + 4.7534 * std::sqrt(c), 3.0);
  CHECK(statistic * (n - 1.0) / n < quantile);
}

/// Of one draw: variance_at falls with the size, to 0 at the whole residual; without the correction it is no smaller. The
/// resolution is a share.
template <class Sampling>
void check_foretold_variance(Sampling& s, const contributions& squared) {
  const double coarse = s.resolution();
  REQUIRE((coarse >= 0.0 && coarse < 1.0));
  double before = std::numeric_limits<double>::infinity();
  for (index_t size = s.size(); size <= s.residual(); ++size) {
    const double v = s.variance_at(squared, size, correction::finite_population);
    REQUIRE(v >= 0.0);
    REQUIRE(v <= before);
    REQUIRE(v <= s.variance_at(squared, size, correction::none));
    before = v;
  }
  CHECK(before <= 1e-9 * static_cast<double>(s.residual()));
}

/// variance_at falls with the size, to 0 at the whole residual; without the correction it is no
/// smaller. The resolution is a share. At the present size it averages to the true variance of sum y / p, here with y = +-1 in
/// turn along the residual: 1500 trials, 6 standard errors of a variance.
template <class S>
void check_variance(const S& of) {
  constexpr int trials = 1500;
  sampling s(of, 1);
  s.begin({});
  std::vector<double> y(400, 0.0);
  double truth = 0.0;
  for (double sign = 1.0; const row_t row : s.rest_rows()) {
    truth += y[row] = sign;
    sign = -sign;
  }
  const std::vector<float> ones(400, 1.0F);
  double squares = 0.0, foretold = 0.0;
  for (std::uint64_t t = 0; t < trials; ++t) {
    s.draw({5, 0, 0, 0, t});
    s.grow(s.size() + 20);
    const auto count = static_cast<std::size_t>(s.drawn().size());
    const contributions squared{{ones.data(), count}, static_cast<double>(count)};
    const double off = estimated_total(s.drawn(), [&](row_t row) { return y[row]; }) - truth;
    squares += off * off;
    foretold += s.variance_at(squared, s.size(), correction::finite_population);
    if (t > 10) continue;
    check_foretold_variance(s, squared);
  }
  CHECK(foretold / squares == Approx(1.0).margin(6.0 * std::sqrt(2.0 / trials)));
}

/// Drawing and growing allocate nothing; hidden causal rows and an empty residual are no trouble.
template <class S>
void check_draw_edges(const S& of) {
  sampling s(of);
  s.begin({1});
  const auto d = s.drawing_();
  const std::vector<index_t> half(2, s.residual() / 2), all(2, s.residual());
  CHECK(count_allocations([&] {
          of.base.draw(d);
          of.dynamic.grow(d, half);
          of.dynamic.grow(d, all);
        }) == 0);
  for (const index_t visible : {399, 64, 12, 11, 1}) {
    CAPTURE(visible);
    sampling few(of, 3, visible);
    few.draw({2});
    check_valid_draw(few);
    CHECK(of.base.size(few.residual()) <= few.residual());
    few.grow(few.residual());
    check_valid_draw(few);
    CHECK(few.drawn().size() == few.residual());
  }
}

/// A group is served by its neediest head.
template <class S>
void check_group(const S& of) {
  sampling s(of, 3);
  s.draw({8});
  const index_t size = s.size(0);
  s.grow_heads({size, size + 50, size + 10});
  CHECK(s.size(0) >= size);
  CHECK(s.size(1) >= size + 50);
  CHECK(s.size(2) >= size + 10);
}

template <class Base, class Dynamic, class Predictor = top_k::oracle>
void check_sampler_contract(const Base& base, const Dynamic& dynamic,
                            const Predictor& predictor = Predictor(rows(0)),
                            float sharpness = 1.0F) {
  STATIC_REQUIRE(base_sampling_policy<Base>);
  STATIC_REQUIRE(dynamic_sampling_policy<Dynamic>);
  STATIC_REQUIRE(Base::scheme == Dynamic::scheme);
  const samplers<Base, Dynamic, Predictor> of{base, dynamic, predictor, sharpness};
  check_growth(of);
  check_reproducible(of);
  check_unbiased(of);
  if constexpr (Base::scheme == design::fixed_size) check_equally_likely(of);
  check_variance(of);
  check_draw_edges(of);
  check_group(of);
}

}  // namespace vattn::test
