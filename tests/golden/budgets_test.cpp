// SPDX-License-Identifier: Apache-2.0
// Our budgets and estimates against the paper's formulas, and how far the authors' code is from them:
// vectors.hpp, recomputed in double precision by make_vectors.py.
#include "golden/vectors.hpp"
#include "support/catch.hpp"
#include "support/estimate.hpp"
#include "support/fake_outlook.hpp"
#include "vattention/budget/clt.hpp"
#include "vattention/budget/joint.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr index_t value_dim = 4;

random_cache cache_of(const golden_case& g) {
  std::vector<float> l;
  for (const int x : g.logits_64) l.push_back(static_cast<float>(x) / 64.0F);
  random_cache c = cache_with_logits(l);
  c.plan.value_dim = value_dim;
  c.values.resize(g.n, value_dim);
  for (index_t i = 0; i < c.values.size(); ++i)
    c.values.data()[i] = static_cast<float>(g.values_8[static_cast<std::size_t>(i)]) / 8.0F;
  c.store();
  return c;
}

index_t residual(const golden_case& g) { return g.n - static_cast<index_t>(g.exact.size()); }

/// The library's sparse pass on the case's exact rows and base sample.
void estimate_from_base(const golden_case& g, const random_cache& c, workspace& ws) {
  const threshold_t p =
      threshold_of(static_cast<double>(g.base_rows.size()) / static_cast<double>(residual(g)));
  const chosen_rows chosen{g.exact, g.base_rows, std::vector<threshold_t>(g.base_rows.size(), p)};
  run_pass(c.group(), c.view(), chosen, design::fixed_size, residual(g), ws);
}

/// exp(largest logit of all - largest logit read): the vectors' unit over the library's.
double unit(const golden_case& g, const partial_view& state) {
  const double largest = *std::max_element(g.logits_64.begin(), g.logits_64.end()) / 64.0;
  return std::exp(largest - state.max_logit());
}

/// A base sample's outlook, with sigma^2 and trace recovered from the library's own variances:
/// V = n^2 (1/b - 1/n) S^2.
fake_outlook outlook_of(const golden_case& g, workspace& ws) {
  const auto n = static_cast<double>(residual(g));
  const auto b = static_cast<double>(g.base_rows.size());
  fake_outlook look(1, residual(g), static_cast<index_t>(g.base_rows.size()));
  const partial_view state = ws.head(0);
  look.state(0).denominator() = state.denominator();
  std::copy_n(state.numerator(), value_dim, look.state(0).numerator());
  const double scale = n * n * (1.0 / b - 1.0 / n);
  look.squares(0, contribution::denominator) = state.denominator_variance() / scale;
  look.squares(0, contribution::numerator) = state.numerator_variance() / scale;
  return look;
}

/// What a budget asks of a base sample, and what the formula says, within [base, residual].
template <class Budget>
void check_size(const Budget& policy, const golden_case& g, double formula, workspace& ws) {
  fake_outlook look = outlook_of(g, ws);
  static_cast<void>(policy.next(look));
  const double want = std::clamp(std::ceil(formula), static_cast<double>(g.base_rows.size()),
                                 static_cast<double>(residual(g)));
  CHECK(std::fabs(static_cast<double>(look.sizes()[0]) - want) <= 1.0);
}

/// z with P(Z > z) = tail, by bisection.
double upper_quantile(double tail) {
  double low = -10.0, high = 10.0;
  for (int i = 0; i < 200; ++i) {
    const double z = 0.5 * (low + high);
    (0.5 * std::erfc(z / std::sqrt(2.0)) > tail ? low : high) = z;
  }
  return low;
}

std::vector<row_t> distinct(std::vector<row_t> rows) {
  std::sort(rows.begin(), rows.end());
  rows.erase(std::unique(rows.begin(), rows.end()), rows.end());
  return rows;
}

double weight(const golden_case& g, row_t row) {
  const int largest = *std::max_element(g.logits_64.begin(), g.logits_64.end());
  return std::exp((g.logits_64[row] - largest) / 64.0);
}

}  // namespace

TEST_CASE("estimates and variances of a base sample are the paper's", "[golden]") {
  for (const golden_case& g : golden_cases()) {
    CAPTURE(g.n, g.epsilon, g.delta);
    const random_cache c = cache_of(g);
    workspace ws;
    estimate_from_base(g, c, ws);
    const partial_view got = ws.head(0);
    const double u = unit(g, got);
    CHECK(got.denominator() == Approx(u * g.denominator).epsilon(1e-6));
    for (std::size_t j = 0; j < value_dim; ++j)
      CHECK(got.numerator()[j] ==
            Approx(u * g.numerator[j]).epsilon(1e-5).margin(1e-5 * u * g.denominator));
    const auto n = static_cast<double>(residual(g));
    const auto b = static_cast<double>(g.base_rows.size());
    const double scale = n * n * (1.0 / b - 1.0 / n) * u * u;
    CHECK(got.denominator_variance() == Approx(scale * g.sigma * g.sigma).epsilon(1e-4));
    CHECK(got.numerator_variance() == Approx(scale * g.trace).epsilon(1e-3));
  }
}

TEST_CASE("budget::clt is lemma 4.1 for the denominator", "[golden]") {
  for (const golden_case& g : golden_cases()) {
    CAPTURE(g.n, g.epsilon, g.delta, g.budget_denominator);
    const random_cache c = cache_of(g);
    workspace ws;
    estimate_from_base(g, c, ws);
    check_size(budget::clt(epsilon{g.epsilon}, delta{g.delta}), g, g.budget_denominator, ws);
    const auto n = static_cast<double>(residual(g));
    check_size(budget::clt(epsilon{g.epsilon}, delta{g.delta}, correction::finite_population), g,
               g.budget_denominator / (1.0 + g.budget_denominator / n), ws);
  }
}

TEST_CASE("budget::joint is theorem 4.3", "[golden]") {
  for (const golden_case& g : golden_cases()) {
    // Beyond .2 the numerator's share of delta is held at .2, where z^2 bounds every rank.
    if (g.delta > 0.2) continue;
    CAPTURE(g.n, g.epsilon, g.delta, g.budget_joint);
    const random_cache c = cache_of(g);
    workspace ws;
    estimate_from_base(g, c, ws);
    const auto n = static_cast<double>(residual(g));
    check_size(budget::joint(epsilon{g.epsilon}, delta{g.delta}), g, g.budget_joint, ws);
    check_size(budget::joint(epsilon{g.epsilon}, delta{g.delta}, correction::finite_population), g,
               g.budget_joint / (1.0 + g.budget_joint / n), ws);
  }
}

TEST_CASE("the vectors try budgets between the base sample and the residual", "[golden]") {
  int denominator = 0, joint = 0;
  for (const golden_case& g : golden_cases()) {
    const auto inside = [&](double b) {
      return b > static_cast<double>(g.base_rows.size()) && b < static_cast<double>(residual(g));
    };
    denominator += inside(g.budget_denominator) ? 1 : 0;
    joint += inside(g.budget_joint) ? 1 : 0;
  }
  CHECK(denominator >= 2);
  CHECK(joint >= 2);
}

TEST_CASE("where the authors' code differs: the budget", "[golden]") {
  int compared = 0;
  for (const golden_case& g : golden_cases()) {
    CAPTURE(g.n, g.epsilon, g.delta);
    const index_t range = g.n - g.sinks - g.window;
    const auto r = static_cast<double>(range);
    const auto b0 = static_cast<double>(g.authors_draws.size());
    CHECK(range >= residual(g));  // it includes the top-k

    double mean = 0.0, square = 0.0, d_hat = 0.0;
    for (const row_t row : g.authors_draws) mean += weight(g, row) / b0;
    for (const row_t row : g.authors_draws) square += std::pow(weight(g, row) - mean, 2.0);
    CHECK(std::sqrt(square / (b0 - 1.0)) == Approx(g.authors_sigma).epsilon(1e-12));

    // Duplicates collapse, and a drawn row of the top-k counts a second time.
    for (const row_t row : g.exact) d_hat += weight(g, row);
    for (const row_t row : distinct(g.authors_draws)) d_hat += weight(g, row) * r / b0;
    CHECK(d_hat == Approx(g.authors_d_hat).epsilon(1e-12));

    // One-sided z, floor, clamped: a two-sided statement at 2 delta. At equal sigma, range and D ours is
    // (z(delta / 2) / z(delta))^2 times as large.
    const double one_sided = upper_quantile(g.delta);
    const double b = std::pow(one_sided * g.authors_sigma * r / (g.epsilon * g.authors_d_hat), 2.0);
    const double clamped = std::clamp(std::floor(std::clamp(b, 1.0, r)), b0, r);
    CHECK(clamped == static_cast<double>(g.authors_budget));
    if (b < b0 || b > r / 2) continue;
    ++compared;
    fake_outlook look(1, range, static_cast<index_t>(b0));
    look.state(0).denominator() = g.authors_d_hat;
    look.squares(0, contribution::denominator) = g.authors_sigma * g.authors_sigma;
    static_cast<void>(budget::clt(epsilon{g.epsilon}, delta{g.delta}).next(look));
    const double factor = std::pow(upper_quantile(g.delta / 2.0) / one_sided, 2.0);
    CHECK(factor > 1.3);
    CHECK(static_cast<double>(look.sizes()[0]) == Approx(factor * b).margin(1.0));
  }
  CHECK(compared >= 2);
}

TEST_CASE("where the authors' code differs: collapsed duplicates weigh too little", "[golden]") {
  for (const golden_case& g : golden_cases()) {
    CAPTURE(g.n, g.authors_budget);
    const auto r = static_cast<double>(g.n - g.sinks - g.window);
    const auto b = static_cast<double>(g.authors_budget);
    std::vector<double> mask(static_cast<std::size_t>(g.n), 0.0);
    for (const row_t row : g.exact) mask[row] = 1.0;
    for (const row_t row : distinct(g.authors_dynamic))
      mask[row] = std::min(1.0, mask[row] + b / r);
    double d = 0.0, unbiased = 0.0, n[value_dim] = {};
    for (row_t row = 0; row < static_cast<row_t>(g.n); ++row) {
      if (mask[row] == 0.0) continue;
      const double w = weight(g, row) / (mask[row] + 1e-6);
      d += w;
      for (std::size_t j = 0; j < value_dim; ++j) n[j] += w * g.values_8[4 * row + j] / 8.0;
      const bool drawn = mask[row] < 1.0;
      unbiased += weight(g, row) / (drawn ? 1.0 - std::pow(1.0 - 1.0 / r, b) : 1.0);
    }
    CHECK(d == Approx(g.authors_denominator).epsilon(1e-12));
    for (std::size_t j = 0; j < value_dim; ++j)
      CHECK(n[j] == Approx(g.authors_numerator[j]).epsilon(1e-12).margin(1e-12));
    CHECK(unbiased > d);

    // On average R (1 - (1 - 1/R)^b) distinct rows at weight R / b: the residual shrinks by
    // (1 - e^-f) / f with f = b / R, to 63 % where "everything" is drawn. Ours has every row once.
    const double f = b / r;
    const double shrunk = static_cast<double>(distinct(g.authors_dynamic).size()) / b;
    CHECK(shrunk ==
          Approx((1.0 - std::exp(-f)) / f).margin(4.0 * std::sqrt(f / (2.0 * b)) + 1.0 / b));
  }
}
