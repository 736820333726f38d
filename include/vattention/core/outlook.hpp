// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a budget sees at a look, and what it may answer.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <span>

#include "vattention/core/drawing.hpp"

namespace vattn {

/// A budget's judgement of one head's sample.
struct judgement {
  /// Bound on the error of the budget's quantity, in the budget's unit; +inf if none can be formed.
  double epsilon = std::numeric_limits<double>::infinity();
  bound_kind bound = bound_kind::none;
  /// Enough uncertain rows to judge by.
  bool enough = false;
  /// For the output bound: bound^2 per variance, i.e. quantile times inflation.
  double factor = 0.0;
  /// The part of `factor` that a larger sample would bring down to 1.
  double inflation = 1.0;
  /// The least ||o^ - o|| that the bound may state of this sample; falls as it grows.
  double least = 0.0;
};

/// For budgets that draw once: no bound finer than the error asked for and than what the sample can resolve,
/// for of that nothing has been measured.
inline judgement no_finer(judgement judged, double asked, const partial_view& state) noexcept {
  judged.epsilon = std::max(judged.epsilon, std::min(asked, state.resolution()));
  return judged;
}

/// What a budget wants done next.
enum class decision : std::uint8_t {
  stop,      ///< this sample is the last one
  grow,      ///< draw until every head has the rows written to `sizes()`
  read_all,  ///< sampling will not pay: read every row
};

/// Sums whose variance a sampler can foretell at another size.
enum class contribution : std::uint8_t { denominator, numerator, output };

/// What a budget may ask at a look. Squares of contributions are formed on demand, which reads the
/// values of the sampled rows a second time (not for the denominator); nothing else is read again.
template <class O>
concept outlook = requires(O& o, int head, contribution what, index_t size, correction finite) {
  { o.heads() } noexcept -> std::same_as<int>;
  { o.look() } noexcept -> std::same_as<int>;  // 1 for the base sample
  { o.population() } noexcept -> std::same_as<index_t>;
  { o.drawn(head) } noexcept -> std::same_as<index_t>;  // rows the head's sample counts as
  { o.state(head) } noexcept -> std::same_as<partial_view>;
  { o.judged(head) } noexcept -> std::same_as<judgement&>;
  { o.variance(head, what, size, finite) } noexcept -> std::same_as<double>;
  { o.sizes() } noexcept -> std::same_as<std::span<index_t>>;
  { o.row_bytes() } noexcept -> std::same_as<double>;    // of a key and a value
  { o.fixed_bytes() } noexcept -> std::same_as<double>;  // of the call, whatever is drawn
};

/// An outlook for checking concepts against.
struct outlook_archetype {
  int heads() noexcept;
  int look() noexcept;
  index_t population() noexcept;
  index_t drawn(int head) noexcept;
  partial_view state(int head) noexcept;
  judgement& judged(int head) noexcept;
  double variance(int head, contribution what, index_t size, correction finite) noexcept;
  std::span<index_t> sizes() noexcept;
  double row_bytes() noexcept;
  double fixed_bytes() noexcept;
};
static_assert(outlook<outlook_archetype>);

/// Least size in (low, high] for which `holds(size)`, which must be monotone; `high` if none below.
template <class Holds>
index_t least_size(index_t low, index_t high, Holds holds) noexcept {
  while (high - low > 1) {
    const index_t middle = low + (high - low) / 2;
    (holds(middle) ? high : low) = middle;
  }
  return high;
}

/// A size in (low, high] at which a variance, which falls with the size, is at most `largest`; `high` if it is
/// above that everywhere. Interpolates between logarithms, and halves what is left where that did not: the
/// least such size after four evaluations where the variance is near to a power of the size, and what twelve
/// steps have left anyway.
template <class Variance>
index_t size_for_variance(index_t low, index_t high, double largest, Variance variance) noexcept {
  index_t less = low + 1;
  double above = variance(less);
  if (above <= largest || less >= high) return std::min(less, high);
  index_t size = high;
  double below = variance(size);
  if (!(below <= largest)) return high;
  index_t before = 2 * (size - less);
  for (int step = 0; step < 12 && size - less > 1; ++step) {
    const bool stuck = !(below > 0.0) || 2 * (size - less) > before;
    before = size - less;
    const double share = stuck ? 0.5 : std::log(above / largest) / std::log(above / below);
    const double ratio = static_cast<double>(size) / static_cast<double>(less);
    const double guess = std::ceil(static_cast<double>(less) * std::pow(ratio, share));
    const index_t middle = std::clamp(static_cast<index_t>(guess), less + 1, size - 1);
    const double there = variance(middle);
    (there <= largest ? size : less) = middle;
    (there <= largest ? below : above) = there;
  }
  return size;
}

/// Rows at which the standard error of a sum is at most `largest`; no fewer than a head has, and all of the
/// residual if no fewer will do.
template <outlook Look>
index_t size_for_error(Look& look, int head, contribution what, double largest,
                       correction finite) noexcept {
  return least_size(look.drawn(head) - 1, look.population(), [&](index_t size) {
    return look.variance(head, what, size, finite) <= largest * largest;
  });
}

/// For budgets that draw once after the base sample: every head gets `wanted(head)` rows, and never
/// fewer than it has; at any later look the sample is the last one.
template <outlook Look, class Wanted>
decision grow_once(Look& look, Wanted wanted) noexcept {
  if (look.look() > 1) return decision::stop;
  bool more = false;
  for (int h = 0; h < look.heads(); ++h) {
    index_t& size = look.sizes()[static_cast<std::size_t>(h)];
    size = std::max(look.drawn(h), wanted(h));
    more = more || size > look.drawn(h);
  }
  return more ? decision::grow : decision::stop;
}

/// The status of a head whose sample may not grow any further.
inline status end_of_one_draw(const judgement& judged, double asked) noexcept {
  if (!judged.enough) return status::sample_too_small;
  return judged.epsilon <= asked ? status::met : status::not_met;
}

}  // namespace vattn
