// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every budget must do: `check_budget_contract(policy, asked, delta, what)`.
#pragma once

#include <cmath>
#include <limits>
#include <vector>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::test {

/// An outlook made by hand: a residual of given size, simple random samples, and heads whose sums have
/// given relative variances at the present size. Values have 3 coordinates.
class made_up_outlook {
public:
  static constexpr index_t value_dim = 3;

  made_up_outlook(int heads, index_t population, index_t drawn)
      : population_(population), drawn_(drawn), judged_(static_cast<std::size_t>(heads)) {
    for (int h = 0; h < heads; ++h) states_.emplace_back(value_dim);
    sizes_.assign(states_.size(), -1);
    ws.reserve(heads, population, 4, value_dim, false);
  }

  int heads() noexcept { return static_cast<int>(states_.size()); }
  int look() noexcept { return look_; }
  index_t population() noexcept { return population_; }
  index_t drawn(int /*head*/) noexcept { return drawn_; }
  partial_view state(int head) noexcept { return states_[static_cast<std::size_t>(head)].view(); }
  judgement& judged(int head) noexcept { return judged_[static_cast<std::size_t>(head)]; }
  double variance(int head, contribution what, index_t size, correction finite) noexcept {
    const double n = static_cast<double>(population_);
    const double left = finite == correction::none ? 0.0 : 1.0 / n;
    const double scale =
        (1.0 / static_cast<double>(size) - left) / (1.0 / static_cast<double>(drawn_) - 1.0 / n);
    const partial_view s = state(head);
    const double now = what == contribution::denominator ? s.denominator_variance()
                       : what == contribution::numerator ? s.numerator_variance()
                                                         : output_variance_;
    return std::max(0.0, scale) * now;
  }
  std::span<index_t> sizes() noexcept { return sizes_; }
  double row_bytes() noexcept { return 64.0; }
  double fixed_bytes() noexcept { return 1000.0; }

  /// All heads alike: D = 2, ||N|| = 2, standard errors `error` of them, spread evenly over groups.
  /// No weight is above twice their mean, and D is known to be at least 1.
  void set(double error) {
    for (int h = 0; h < heads(); ++h) {
      const partial_view s = state(h);
      s.clear_numbers();
      s.max_logit() = 1.0;
      s.denominator() = 2.0;
      s.numerator()[0] = 2.0;
      s.denominator_variance() = s.numerator_variance() = 4.0 * error * error;
      s.uncertain() = static_cast<double>(drawn_);
      s.rows_total() = static_cast<double>(population_);
      s.rows_sampled() = static_cast<double>(drawn_);
      s.looks() = look_;
      s.ceiling() = 1.0 + std::log(4.0 / static_cast<double>(population_));
      s.floor() = 1.0;
      s.sampled_shards() = 1.0;
      for (int g = 0; g < variance_groups; ++g) {
        s.a(g) = s.a_vv(g) = 2.0 * error * error / variance_groups;
        s.s(g) = error / variance_groups;
      }
    }
    output_variance_ = 4.0 * error * error;
  }
  /// Takes the sizes asked for; errors fall accordingly.
  void grow(double error) {
    const double before =
        1.0 / static_cast<double>(drawn_) - 1.0 / static_cast<double>(population_);
    for (const index_t size : sizes_) drawn_ = std::max(drawn_, size);
    const double after = 1.0 / static_cast<double>(drawn_) - 1.0 / static_cast<double>(population_);
    ++look_;
    set(error * std::sqrt(after / before));
  }

  workspace ws;

private:
  std::vector<partial> states_;
  index_t population_, drawn_;
  std::vector<judgement> judged_;
  std::vector<index_t> sizes_;
  double output_variance_ = 0.0;
  int look_ = 1;
};
static_assert(outlook<made_up_outlook>);

/// Judges every head; checks that a judgement is a number or +inf, and the same again.
template <class P>
void judge_all(const P& policy, made_up_outlook& look) {
  for (int h = 0; h < look.heads(); ++h) {
    const judgement j = look.judged(h) = policy.judge(look.state(h), look.ws);
    const judgement again = policy.judge(look.state(h), look.ws);
    CHECK(j.epsilon >= 0.0);  // so not NaN
    CHECK((j.epsilon == again.epsilon && j.bound == again.bound && j.enough == again.enough));
    CHECK((j.bound == bound_kind::none) == std::isinf(j.epsilon));
    const status end = policy.end(j);
    if (end == status::met) CHECK((j.enough && j.epsilon <= policy.asked()));
    CHECK(end != status::exact);
    CHECK(end != status::non_finite);
  }
}

/// Looks at a head whose sums have the relative standard error `error`, until the budget is content.
template <class P>
void check_looks(const P& policy, int heads, index_t population, index_t drawn, double error) {
  CAPTURE(heads, population, drawn, error);
  made_up_outlook look(heads, population, drawn);
  look.set(error);
  decision next = decision::grow;
  for (int turn = 0; next == decision::grow && turn < 40; ++turn) {
    judge_all(policy, look);
    const index_t before = look.drawn(0);
    next = policy.next(look);
    if (next != decision::grow) break;
    index_t largest = 0;
    for (const index_t size : look.sizes()) {
      CHECK(size >= before);
      largest = std::max(largest, size);
    }
    REQUIRE(largest > before);
    if (largest >= population) return;  // the functor reads everything
    const double now = std::sqrt(look.variance(0, contribution::denominator, before,
                                               correction::finite_population)) /
                       2.0;
    look.grow(now);
  }
  CHECK(next != decision::grow);
}

/// `asked`, `delta` and `what` are what the policy was made with; asked is NaN if it has no target.
template <class P>
void check_budget_contract(const P& policy, double asked, double delta, quantity what) {
  STATIC_REQUIRE(budget_policy<P>);
  CHECK((policy.asked() == asked || (std::isnan(asked) && std::isnan(policy.asked()))));
  CHECK(policy.delta() == delta);
  CHECK(policy.guarantees() == what);

  constexpr double infinity = std::numeric_limits<double>::infinity();
  constexpr double nan = std::numeric_limits<double>::quiet_NaN();
  for (const int heads : {1, 4})
    for (const double error : {0.0, 1e-6, 1e-2, 0.1, 0.5, 3.0, 1e6, infinity, nan}) {
      check_looks(policy, heads, 10000, 100, error);
      check_looks(policy, heads, 200, 199, error);
      check_looks(policy, heads, 5000, 2, error);
    }

  // A sample of nothing uncertain judges nothing; a judgement without a bound meets nothing.
  made_up_outlook look(2, 10000, 100);
  look.set(0.01);
  for (int h = 0; h < 2; ++h) look.state(h).uncertain() = 0.0;
  CHECK_FALSE(policy.judge(look.state(0), look.ws).enough);
  CHECK(policy.end(judgement{}) != status::met);

  look.set(0.2);
  judge_all(policy, look);
  CHECK(count_allocations([&] {
          static_cast<void>(policy.judge(look.state(1), look.ws));
          static_cast<void>(policy.next(look));
        }) == 0);
}

}  // namespace vattn::test
