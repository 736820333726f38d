// SPDX-License-Identifier: Apache-2.0
/// @file
/// Certificates that are proved: as many rows as Bernstein's inequality asks for.
#pragma once

#include "vattention/certify/strict.hpp"
#include "vattention/core/concepts.hpp"

namespace vattn::budget {

/// From sound bounds of every weight, without a central limit theorem; proof in `certify/strict.hpp`.
///
/// Denominator: the probabilities that make the radius at most epsilon times a lower bound of D are known
/// before anything is drawn, so there is one look with all of delta. Output: ||o|| is not known beforehand.
/// A pilot estimates it, then at most three looks spend .8, .15 and .05 of delta, each with fresh random
/// numbers and what was read before as exact; after that, or where more than 70 % of the rows would be
/// drawn, everything is read. Two-sided. A drawn row above its bound ends the call with `bound_violated`.
///
/// It wants `base_sampling::bounded` and `dynamic_sampling::bounded` of the same quantity, and a code whose
/// error is small: 8 bits, or 6. With 4 bits the bounds are so wide that most rows are read.
template <quantity What, class Target = epsilon>
class strict {
public:
  static_assert(output_target<Target>);
  using role = vattn::role::budget;
  static constexpr bool needs_ceiling = true;
  static constexpr quantity bounded_draw_of = What;
  static constexpr error_scale scale = Target::scale;
  static_assert(What == quantity::denominator || What == quantity::output);
  static_assert(What == quantity::output || scale == error_scale::output,
                "vattention: budget: a denominator's error is relative to the denominator");

  strict(Target asked, vattn::delta miss) : asked_(asked.value()), delta_(miss.value()) {}

  double asked() const noexcept { return asked_; }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return What; }
  basis coverage() const noexcept { return basis::proved; }

  /// The error ||o^ - o|| that would do, by the present estimates; for the sampler.
  double aim(const partial_view& state) const noexcept {
    if constexpr (What == quantity::denominator) return 0.0;
    const double error = largest_error<scale>(state, asked_);
    return std::isfinite(error) ? error : 0.0;
  }

  judgement judge(const partial_view& state, workspace& /*ws*/) const noexcept {
    const auto look = static_cast<int>(state.looks());
    if (look < 2 || look > last_look || state.violations() > 0.0) return {};
    if constexpr (What == quantity::denominator)
      return bound_denominator_strictly(state, log_term(look));
    else
      return bound_output_strictly<scale>(state, log_term(look));
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    bool all_met = true;
    for (int h = 0; h < look.heads(); ++h) {
      if (look.state(h).violations() > 0.0) return decision::stop;
      all_met = all_met && met(look.judged(h));
    }
    if (all_met) return decision::stop;
    if (look.look() >= last_look) return decision::read_all;
    const auto worth = static_cast<index_t>(0.7 * static_cast<double>(look.population()));
    for (int h = 0; h < look.heads(); ++h) {
      const double wanted = allowed(look.state(h));
      if (!(wanted > 0.0)) return decision::read_all;
      index_t& size = look.sizes()[static_cast<std::size_t>(h)];
      const double log = log_term(look.look() + 1);
      size = least_size(0, worth,
                        [&](index_t rows) { return look.radius(h, rows, log, false) <= wanted; });
      while (size < worth && look.radius(h, size, log, true) > wanted) size += 1 + size / 32;
      if (size + look.drawn(h) >= worth) return decision::read_all;
    }
    return decision::grow;
  }

  status end(const judgement& judged) const noexcept {
    return met(judged) ? status::met : status::not_met;
  }

private:
  static constexpr int last_look = What == quantity::denominator ? 2 : 4;

  bool met(const judgement& judged) const noexcept {
    return judged.enough && judged.epsilon <= asked_;
  }

  /// log(2 / delta) with the share of delta that a look may spend.
  double log_term(int look) const noexcept {
    constexpr double shares[] = {0.8, 0.15, 0.05};
    const double share = What == quantity::denominator ? 1.0 : shares[look - 2];
    return std::log(2.0 / (share * delta_));
  }

  /// The radius that would do. An output's norm enters as estimated; 3 % are left for that.
  double allowed(const partial_view& state) const noexcept {
    if (!std::isfinite(state.max_logit())) return 0.0;
    if constexpr (What == quantity::denominator)
      return 0.9999 * (asked_ - rounding_room) * state.floor();
    const double error = largest_error<scale>(state, asked_) - output_rounding(state);
    return 0.97 * error * state.denominator();
  }

  double asked_, delta_;
};
using strict_denominator = strict<quantity::denominator>;
using strict_output = strict<quantity::output>;
static_assert(needs_ceiling<strict_denominator> && needs_ceiling<strict_output>);

}  // namespace vattn::budget
