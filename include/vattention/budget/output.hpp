// SPDX-License-Identifier: Apache-2.0
/// @file
/// The default budget: certify the output itself, and grow until the certificate holds.
#pragma once

#include <algorithm>

#include "vattention/certify/output.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/core/read_limit.hpp"

namespace vattn::budget {

/// Grows the sample until `bound_output` is at most the asked error for every head, judging anew after each
/// growth. The next size solves factor V(size) <= (D^ e)^2, e the largest ||o^ - o|| that the target allows
/// (epsilon / (1 + epsilon) ||o^|| relative to ||o||), within 1.15 (1.5
/// from the second look on) and 4 times the present one, and is 5 % above that, which saves more looks
/// than it costs rows; fewer than 16 uncertain rows always double it.
/// After 6 looks, or where more than 70 % of the residual would be drawn, everything is read; at once, if
/// 70 % would not do even without inflation.
///
/// A `read_limit` stops growth and replaces reading everything: the sixth look has all that it allows. The
/// certificate then says `capped` and what was reached.
/// Looking repeatedly at one sample is paid for by the inflation, which is measured, not proved.
template <class Target = epsilon>
class output {
public:
  static_assert(output_target<Target>);
  using role = vattn::role::budget;
  static constexpr error_scale scale = Target::scale;

  output(Target asked, vattn::delta miss, read_limit limit = {})
      : asked_(asked.value()), delta_(miss.value()), limit_(limit) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::output; }
  basis coverage() const noexcept { return basis::measured_per_row; }
  read_limit limit() const noexcept { return limit_; }

  judgement judge(const partial_view& state, workspace& ws) const noexcept {
    return bound_output<scale>(state, delta_, ws);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    const bool limited = limit_.binds(look);
    const bool last = limited && look.look() >= most_looks;
    const double room = limited ? limit_.growth(look) : 0.0;
    bool more = false;
    for (int h = 0; h < look.heads(); ++h) {
      index_t& size = look.sizes()[static_cast<std::size_t>(h)] = look.drawn(h);
      if (met(look.judged(h)) || last) continue;
      const bool lost = look.look() >= most_looks - (limited ? 1 : 0) || hopeless(look, h);
      if (lost && !limited) return decision::read_all;
      size = lost ? look.population() - 1 : wanted(look, h);
      if (!limited && size > worth_drawing(look)) return decision::read_all;
      if (limited) size = limited_size(room, look.drawn(h), std::min(size, look.population() - 1));
      more = more || size > look.drawn(h);
    }
    return more ? decision::grow : decision::stop;
  }

  status end(const judgement& judged) const noexcept {
    if (met(judged)) return status::met;
    return judged.enough ? status::capped : status::sample_too_small;
  }

private:
  static constexpr int most_looks = 6;

  bool met(const judgement& judged) const noexcept {
    return judged.enough && judged.epsilon <= asked_;
  }

  template <outlook Look>
  static index_t worth_drawing(Look& look) noexcept {
    return static_cast<index_t>(0.7 * static_cast<double>(look.population()));
  }

  /// The largest variance of the numerator's error that the bound allows.
  template <outlook Look>
  double allowed(Look& look, int h) const noexcept {
    const partial_view state = look.state(h);
    const double error = largest_error<scale>(state, asked_) * state.denominator();
    return error * error / look.judged(h).factor;
  }

  template <outlook Look>
  bool hopeless(Look& look, int h) const noexcept {
    const judgement& judged = look.judged(h);
    return judged.enough && std::isfinite(judged.factor) &&
           look.variance(h, contribution::output, worth_drawing(look),
                         correction::finite_population) > allowed(look, h) * judged.inflation;
  }

  template <outlook Look>
  index_t wanted(Look& look, int h) const noexcept {
    const auto present = static_cast<double>(look.drawn(h));
    if (!look.judged(h).enough) return static_cast<index_t>(2.0 * present);
    const double least = std::ceil((look.look() < 2 ? 1.15 : 1.5) * present);
    const double largest = allowed(look, h);
    const auto low = static_cast<index_t>(least) - 1;
    const index_t high = std::min(look.population(), static_cast<index_t>(4.0 * present));
    const index_t solved =
        size_for_variance(low, std::max(low + 1, high), largest, [&](index_t size) {
          return look.variance(h, contribution::output, size, correction::finite_population);
        });
    const double finer = look.judged(h).least / largest_error<scale>(look.state(h), asked_);
    const double resolved =
        finer > 1.0 ? std::min(finer * finer * present + 1.0, 4.0 * present) : 0.0;
    return std::max(solved + solved / 20, static_cast<index_t>(resolved));
  }

  double asked_, delta_;
  read_limit limit_;
};
static_assert(budget_policy<output<>>);

}  // namespace vattn::budget
