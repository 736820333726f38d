// SPDX-License-Identifier: Apache-2.0
#include "vattention/attention/partial.hpp"

#include <numeric>

#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "vattention/certify/denominator.hpp"
#include "vattention/certify/joint.hpp"
#include "vattention/certify/output.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

/// The partial result of rows [first, first + count) of a cache, as a shard of its own.
partial shard_partial(const random_cache& c, const chosen_rows& chosen, index_t first,
                      index_t count, int head, design scheme = design::independent) {
  workspace ws;
  const chosen_rows part = chosen.in(first, count);
  run_pass(c.group(), c.view().shard(first, count), part, scheme,
           count - static_cast<index_t>(part.exact.size()), ws);
  return partial(ws.head(head));
}

/// Equal to rounding, on the scale of the largest.
template <class T>
void check_close(std::span<T> x, std::span<T> y, double tolerance) {
  REQUIRE(x.size() == y.size());
  double largest = 0.0;
  double off = 0.0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    largest = std::max(largest, std::fabs(static_cast<double>(y[i])));
    off = std::max(off, std::fabs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
  }
  CHECK(off <= tolerance * largest);
}

/// Every number equal to rounding, on the scale of the largest of its kind; counts exactly. The groups'
/// vectors are floats.
void check_same(partial a, partial b, double tolerance, double of_vectors) {
  const partial_view x = a.view(), y = b.view();
  REQUIRE(x.value_dim() == y.value_dim());
  CHECK(x.max_logit() == y.max_logit());
  CHECK(x.denominator() == Approx(y.denominator()).epsilon(tolerance));
  CHECK(x.denominator_variance() == Approx(y.denominator_variance()).epsilon(tolerance));
  CHECK(x.numerator_variance() == Approx(y.numerator_variance()).epsilon(tolerance));
  CHECK(x.uncertain() == y.uncertain());
  CHECK(x.rows_total() == y.rows_total());
  CHECK(x.rows_exact() == y.rows_exact());
  CHECK(x.rows_sampled() == y.rows_sampled());
  CHECK(x.bytes_touched() == y.bytes_touched());
  CHECK(x.looks() == y.looks());
  CHECK(x.ceiling() == y.ceiling());
  CHECK(x.floor() == Approx(y.floor()).epsilon(tolerance));
  CHECK(x.sampled_shards() == y.sampled_shards());
  const auto numbers = static_cast<std::size_t>(16);
  check_close(a.numbers().subspan(numbers), b.numbers().subspan(numbers), tolerance);
  check_close(a.vectors(), b.vectors(), of_vectors);
}
void check_same(const partial& a, const partial& b, double tolerance) {
  check_same(a, b, tolerance, tolerance);
}

partial merged(partial a, partial b) {
  a.view().merge(b.view());
  return a;
}

}  // namespace

TEST_CASE("an empty partial is the identity of merging", "[partial]") {
  partial none(5);
  CHECK(none.view().max_logit() == -infinity);
  CHECK(none.numbers().size() == static_cast<std::size_t>(partial_view::doubles(5)));
  CHECK(none.vectors().size() == 2U * variance_groups * 5U);
  CHECK(none.view().ceiling() == infinity);
  none.view().ceiling() = 0.0;
  for (const double x : none.numbers().subspan(1)) CHECK(x == 0.0);
  none.view().clear();
  CHECK(none.view().ceiling() == infinity);
  for (const float x : none.vectors()) CHECK(x == 0.0F);
  check_same(merged(none, none), none, 0.0);

  const random_cache c({.rows = 400, .dim = 16, .value_dim = 5});
  const partial some =
      shard_partial(c, choose_rows(400, 10, 0.5, design::independent, 1), 0, 400, 0);
  check_same(merged(some, none), some, 0.0);
  check_same(merged(none, some), some, 0.0);
}

TEST_CASE("every number of a partial has a place of its own", "[partial]") {
  constexpr index_t d = 3;
  partial p(d);
  const partial_view v = p.view();
  double next = 1.0;
  const auto set = [&](auto& x) { x = static_cast<std::decay_t<decltype(x)>>(next++); };
  for (double* x :
       {&v.max_logit(), &v.denominator(), &v.denominator_variance(), &v.numerator_variance(),
        &v.uncertain(), &v.rows_total(), &v.rows_exact(), &v.rows_sampled(), &v.bytes_touched(),
        &v.looks(), &v.ceiling(), &v.floor(), &v.sampled_shards()})
    set(*x);
  for (index_t j = 0; j < d; ++j) set(v.numerator()[j]);
  for (int g = 0; g < variance_groups; ++g) {
    set(v.a(g));
    set(v.a_vv(g));
    set(v.s(g));
    for (index_t j = 0; j < d; ++j) set(v.a_v(g)[j]);
    for (index_t j = 0; j < d; ++j) set(v.s_v(g)[j]);
  }
  double sum = 0.0;
  for (const double x : p.numbers()) sum += x;
  for (const float x : p.vectors()) sum += static_cast<double>(x);
  CHECK(sum == next * (next - 1.0) / 2.0);
}

TEST_CASE("rows fall into the 32 variance groups evenly, and everywhere alike", "[partial]") {
  for (const index_t first : {index_t{0}, index_t{1} << 20, index_t{1} << 40}) {
    double count[variance_groups] = {};
    for (index_t row = first; row < first + 6400; ++row) {
      const int group = variance_group(row);
      REQUIRE(group >= 0);
      REQUIRE(group < variance_groups);
      count[group] += 1.0;
    }
    for (const double of_group : count) CHECK(std::fabs(of_group - 200.0) < 6.0 * std::sqrt(200.0));
  }
  CHECK(variance_group(0) == 0);
  CHECK(variance_group(12345) == variance_group(12345));
}

TEST_CASE("rescaling changes no value", "[partial]") {
  const random_cache c({.rows = 500, .dim = 16, .value_dim = 9});
  partial p = shard_partial(c, choose_rows(500, 10, 0.5, design::independent, 1), 0, 500, 0);
  workspace ws;
  ws.reserve(1, 1, 1, 9, false);
  const double l = p.view().max_logit() + std::log(p.view().denominator());
  const judgement before = bound_output(p.view(), 0.1, ws);
  const Eigen::Map<const Eigen::VectorXd> numerator(p.view().numerator(), 9);
  const Eigen::VectorXd o = numerator / p.view().denominator();
  p.view().rescale(p.view().max_logit() + 20.0);
  CHECK(p.view().max_logit() + std::log(p.view().denominator()) == Approx(l).epsilon(1e-14));
  CHECK((numerator / p.view().denominator() - o).norm() <= 1e-14 * o.norm());
  CHECK(bound_output(p.view(), 0.1, ws).epsilon == Approx(before.epsilon).epsilon(1e-6));
  CHECK(bound_denominator(p.view(), 1.6).epsilon > 0.0);
}

TEST_CASE("two shards with the same draw are the unsplit cache", "[partial]") {
  constexpr int heads = 3;
  const random_cache c({.rows = 2000,
                        .dim = 32,
                        .value_dim = 24,
                        .heads = heads,
                        .keys = element::bf16,
                        .values = element::bf16});
  const chosen_rows chosen = choose_rows(2000, 15, 0.3, design::independent, 21);
  for (const index_t cut : {1, 700, 1999}) {
    for (int h = 0; h < heads; ++h) {
      CAPTURE(cut, h);
      partial whole = shard_partial(c, chosen, 0, 2000, h);
      partial both =
          merged(shard_partial(c, chosen, 0, cut, h), shard_partial(c, chosen, cut, 2000 - cut, h));
      check_same(both, whole, 1e-5);
      workspace ws;
      ws.reserve(1, 1, 1, 24, false);
      const judgement x = bound_output(both.view(), 0.1, ws);
      const judgement y = bound_output(whole.view(), 0.1, ws);
      CHECK(x.epsilon == Approx(y.epsilon).epsilon(1e-5));
      CHECK(x.factor == Approx(y.factor).epsilon(1e-5));
      CHECK(x.bound == y.bound);
      CHECK(bound_denominator(both.view(), 1.6).epsilon ==
            Approx(bound_denominator(whole.view(), 1.6).epsilon).epsilon(1e-5));
      const delta_splits splits(0.1);
      CHECK(bound_jointly(both.view(), splits).epsilon ==
            Approx(bound_jointly(whole.view(), splits).epsilon).epsilon(1e-5));
    }
  }
}

TEST_CASE("merging is commutative and associative", "[partial]") {
  const random_cache c({.rows = 1500, .dim = 16, .value_dim = 7});
  const chosen_rows chosen = choose_rows(1500, 15, 0.3, design::independent, 22);
  const partial a = shard_partial(c, chosen, 0, 500, 0);
  const partial b = shard_partial(c, chosen, 500, 300, 0);
  const partial d = shard_partial(c, chosen, 800, 700, 0);
  check_same(merged(a, b), merged(b, a), 1e-15);
  check_same(merged(merged(a, b), d), merged(a, merged(b, d)), 1e-13, 1e-6);
  check_same(merged(merged(d, a), b), merged(a, merged(b, d)), 1e-13, 1e-6);
}

TEST_CASE("merging far apart maxima keeps the heavier shard", "[partial]") {
  std::vector<float> l(400, 0.0F);
  std::fill_n(l.begin() + 200, 200, 1e4F);
  const random_cache c = cache_with_logits(l);
  const chosen_rows chosen = choose_rows(400, 10, 0.5, design::independent, 2);
  const partial low = shard_partial(c, chosen, 0, 200, 0);
  partial high = shard_partial(c, chosen, 200, 200, 0);
  partial both = merged(low, high);
  CHECK(both.view().max_logit() == 1e4);
  CHECK(both.view().denominator() == high.view().denominator());
  CHECK(both.view().denominator_variance() == high.view().denominator_variance());
  CHECK(both.view().uncertain() > high.view().uncertain());
  CHECK(both.view().ceiling() == infinity);  // nobody asked
  both.view().ceiling() = 0.0;
  for (const double x : both.numbers()) CHECK(std::isfinite(x));
  for (const float x : both.vectors()) CHECK(std::isfinite(x));
}

TEST_CASE("merging with an exact shard adds no variance", "[partial]") {
  const random_cache c({.rows = 1000, .dim = 16, .value_dim = 12});
  chosen_rows chosen = choose_rows(500, 15, 0.3, design::independent, 22);
  for (row_t row = 500; row < 1000; ++row) chosen.exact.push_back(row);
  const partial exact = shard_partial(c, chosen, 500, 500, 0);
  partial both = merged(shard_partial(c, chosen, 0, 500, 0), exact);
  check_same(both, shard_partial(c, chosen, 0, 1000, 0), 1e-5);
  workspace ws;
  ws.reserve(1, 1, 1, 12, false);
  partial half = shard_partial(c, chosen, 0, 500, 0);
  CHECK(bound_output(both.view(), 0.1, ws).epsilon < bound_output(half.view(), 0.1, ws).epsilon);
}

TEST_CASE("variances of draws of fixed size add up as those of strata do", "[partial]") {
  const random_cache c({.rows = 1000, .dim = 16, .value_dim = 12});
  const chosen_rows chosen = choose_rows(1000, 15, 0.3, design::fixed_size, 22);
  partial a = shard_partial(c, chosen, 0, 600, 0, design::fixed_size);
  partial b = shard_partial(c, chosen, 600, 400, 0, design::fixed_size);
  const double top = std::max(a.view().max_logit(), b.view().max_logit());
  const double f = std::exp(2.0 * (a.view().max_logit() - top));
  const double g = std::exp(2.0 * (b.view().max_logit() - top));
  const double want = f * a.view().denominator_variance() + g * b.view().denominator_variance();
  CHECK(merged(a, b).view().denominator_variance() == Approx(want).epsilon(1e-13));
}

TEST_CASE("a partial travels as two arrays", "[partial]") {
  const random_cache c({.rows = 500, .dim = 16, .value_dim = 6});
  partial sent = shard_partial(c, choose_rows(500, 10, 0.5, design::independent, 1), 0, 500, 0);
  const std::vector<double> numbers(sent.numbers().begin(), sent.numbers().end());
  const std::vector<float> vectors(sent.vectors().begin(), sent.vectors().end());
  partial received(6);
  REQUIRE(received.numbers().size() == numbers.size());
  REQUIRE(received.vectors().size() == vectors.size());
  std::copy(numbers.begin(), numbers.end(), received.numbers().begin());
  std::copy(vectors.begin(), vectors.end(), received.vectors().begin());
  check_same(received, sent, 0.0);
}

TEST_CASE("a partial keeps what a view with strides of its own shows", "[partial]") {
  constexpr index_t d = 2, stride = 9, offset = 5;
  std::vector<double> numbers(static_cast<std::size_t>(partial_view::doubles(d)), 3.0);
  std::vector<float> vectors(static_cast<std::size_t>(stride * variance_groups));
  std::iota(vectors.begin(), vectors.end(), 0.0F);
  partial kept(partial_view(numbers.data(), vectors.data(), stride, offset, d));
  for (int g = 0; g < variance_groups; ++g) {
    CHECK(kept.view().a_v(g)[1] == static_cast<float>(g * stride + 1));
    CHECK(kept.view().s_v(g)[1] == static_cast<float>(g * stride + offset + 1));
  }
  CHECK(kept.view().denominator() == 3.0);
}

TEST_CASE("a shard that is not finite spoils the whole", "[partial]") {
  const random_cache good({.rows = 300, .dim = 16, .value_dim = 6});
  const chosen_rows chosen = choose_rows(300, 10, 0.5, design::independent, 1);
  for (const bool in_key : {true, false}) {
    random_cache bad = good;
    (in_key ? bad.keys(chosen.drawn[4], 0) : bad.values(chosen.drawn[4], 0)) = std::nanf("");
    bad.store();
    const partial a = shard_partial(good, chosen, 0, 300, 0);
    const partial b = shard_partial(bad, chosen, 0, 300, 0);
    for (partial both : {merged(a, b), merged(b, a)})
      CHECK(std::isnan(in_key ? both.view().denominator() : both.view().numerator()[0]));
  }
}

TEST_CASE("ceilings merge to the larger, floors and sampled shards add", "[partial]") {
  partial a(3), b(3);
  const auto set = [](const partial_view& p, double max_logit, double ceiling, double floor) {
    p.max_logit() = max_logit;
    p.ceiling() = ceiling;
    p.denominator() = 2.0 * floor;
    p.floor() = floor;
    p.rows_total() = 10.0;
    p.sampled_shards() = 1.0;
  };
  set(a.view(), 1.0, 0.5, 3.0);
  set(b.view(), 2.0, -7.0, 4.0);
  const partial both = merged(a, b);
  CHECK(partial(both).view().ceiling() == 0.5);  // a logit, whatever the weights are relative to
  CHECK(partial(both).view().floor() == Approx(4.0 + 3.0 * std::exp(-1.0)));
  CHECK(partial(both).view().sampled_shards() == 2.0);
  b.view().ceiling() = infinity;
  CHECK(merged(a, b).view().ceiling() == infinity);
  CHECK(merged(b, a).view().ceiling() == infinity);
  b.view().ceiling() = -infinity;  // nothing was left out there
  CHECK(merged(a, b).view().ceiling() == 0.5);
  CHECK(merged(partial(3), a).view().ceiling() == 0.5);
  CHECK(merged(a, partial(3)).view().ceiling() == 0.5);
}
