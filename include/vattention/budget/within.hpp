// SPDX-License-Identifier: Apache-2.0
/// @file
/// The inverse question: which error is reached, given what may be read?
#pragma once

#include "vattention/certify/output.hpp"
#include "vattention/core/concepts.hpp"
#include "vattention/core/read_limit.hpp"

namespace vattn::budget {

/// Draws what a `read_limit` allows and reports the output bound that this supports at delta, in units of
/// `Scale`. No error is asked, so the status is `no_target`; a limit that does not bind has everything read.
///
/// Nears the limit in a few growths, since the sample of a group overlaps by as much as only the draw
/// shows. Growth heeds what was drawn, not what it showed, so the bound is not one of many looks.
template <error_scale Scale = error_scale::output>
class within {
public:
  using role = vattn::role::budget;
  static constexpr error_scale scale = Scale;

  explicit within(read_limit limit, vattn::delta miss = vattn::delta{0.1})
      : limit_(limit), delta_(miss.value()) {}

  double asked() const noexcept { return std::numeric_limits<double>::quiet_NaN(); }
  double delta() const noexcept { return delta_; }
  quantity guarantees() const noexcept { return quantity::output; }
  basis coverage() const noexcept { return basis::measured_per_row; }
  read_limit limit() const noexcept { return limit_; }

  judgement judge(const partial_view& state, workspace& ws) const noexcept {
    return bound_output<scale>(state, delta_, ws);
  }

  template <outlook Look>
  decision next(Look& look) const noexcept {
    if (!limit_.binds(look)) return decision::read_all;
    const double room = limit_.growth(look);
    bool more = false;
    for (int h = 0; h < look.heads(); ++h) {
      index_t& size = look.sizes()[static_cast<std::size_t>(h)];
      size = limited_size(room, look.drawn(h), look.population() - 1);
      more = more || size > look.drawn(h);
    }
    return more ? decision::grow : decision::stop;
  }

  status end(const judgement& judged) const noexcept {
    return judged.enough ? status::no_target : status::sample_too_small;
  }

private:
  read_limit limit_;
  double delta_;
};
static_assert(budget_policy<within<>>);

}  // namespace vattn::budget
