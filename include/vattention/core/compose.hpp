// SPDX-License-Identifier: Apache-2.0
/// @file
/// Picks policies from a pack by role, and refuses compositions that are not one.
#pragma once

#include <tuple>
#include <type_traits>

#include "vattention/core/concepts.hpp"

namespace vattn {

namespace detail {

template <class P>
concept names_a_role = requires { typename P::role; };

template <class P, class Role>
inline constexpr bool plays = false;
template <names_a_role P, class Role>
inline constexpr bool plays<P, Role> = std::same_as<typename P::role, Role>;

/// Stands where a composition has no policy of a role, so that nothing else is reported of it.
struct missing {};

/// The first policy of a role among the pack, or `Missing`.
template <class Role, class Missing, class... Policies>
struct find {
  using type = Missing;
};
template <class Role, class Missing, class First, class... Rest>
struct find<Role, Missing, First, Rest...>
    : std::conditional<plays<First, Role>, First, typename find<Role, Missing, Rest...>::type> {};

// Concepts, so that a compiler adds which member it misses to the sentences below.
template <class P>
concept absent = std::same_as<P, missing>;
template <class P>
concept absent_or_static_indices = absent<P> || static_indices_policy<P>;
template <class P>
concept absent_or_top_k = absent<P> || top_k_policy<P>;
template <class P>
concept absent_or_base_sampling = absent<P> || base_sampling_policy<P>;
template <class P>
concept absent_or_budget = absent<P> || budget_policy<P>;
template <class P>
concept absent_or_dynamic_sampling = absent<P> || dynamic_sampling_policy<P>;
template <class P>
concept absent_or_cost = absent<P> || cost_policy<P>;

/// False only for a budget that needs bounds and a predictor (or none) that has no bounds.
template <class Budget, class TopK>
inline constexpr bool bounds_suffice = true;
template <needs_ceiling Budget, class TopK>
inline constexpr bool bounds_suffice<Budget, TopK> = bounds_scores<TopK>;

/// False only for errors measured in values, and a predictor (or none) that does not know them.
template <class Budget, class TopK>
inline constexpr bool scale_is_known = true;
template <scales_errors Budget, class TopK>
  requires(Budget::scale == error_scale::values)
inline constexpr bool scale_is_known<Budget, TopK> = knows_values<TopK>;

template <class P>
concept names_a_known_role =
    plays<P, role::static_indices> || plays<P, role::top_k> || plays<P, role::base_sampling> ||
    plays<P, role::budget> || plays<P, role::dynamic_sampling> || plays<P, role::cost>;

/// False only where both samplers state a scheme and the schemes differ.
template <class Base, class Dynamic>
inline constexpr bool same_scheme = true;
template <class Base, class Dynamic>
  requires requires { Base::scheme == Dynamic::scheme; }
inline constexpr bool same_scheme<Base, Dynamic> = Base::scheme == Dynamic::scheme;

/// False only where a sampler takes proposals and the predictor, if there is one, offers none.
template <class P>
concept takes_proposals = requires { requires std::same_as<typename P::takes, proposals>; };
template <class Sampler, class Predictor>
concept predictor_serves = !takes_proposals<Sampler> || proposes_weights<Predictor>;

/// False only where a sampler follows bounds that the predictor does not offer, or where a budget is about
/// a sampler that follows bounds of its quantity, and the sampler is another one.
template <class P>
concept takes_bounds = requires { requires std::same_as<typename P::takes, score_bounds>; };
template <class Sampler, class Predictor>
concept bounds_serve =
    !takes_bounds<Sampler> ||
    (bounds_scores<Predictor> && (Sampler::what != quantity::output || bounds_values<Predictor>));
template <class P>
concept wants_bounded_draw = requires { P::bounded_draw_of; };
template <class Budget, class Sampler>
inline constexpr bool sampler_suits = true;
template <wants_bounded_draw Budget, class Sampler>
inline constexpr bool sampler_suits<Budget, Sampler> = false;
template <wants_bounded_draw Budget, takes_bounds Sampler>
inline constexpr bool sampler_suits<Budget, Sampler> = Budget::bounded_draw_of == Sampler::what;

/// False only where a sampler goes by collisions and the predictor, if there is one, counts none.
template <class P>
concept takes_collisions = requires { requires std::same_as<typename P::takes, collisions>; };
template <class Sampler, class Predictor>
concept collisions_serve = !takes_collisions<Sampler> || counts_collisions<Predictor>;

/// False only where one sampler follows proposals, bounds or collisions and the other one does not, and where samplers
/// follow bounds that no budget has asked for.
template <class P>
inline constexpr int follows = takes_proposals<P>    ? 1
                               : takes_bounds<P>     ? 2
                               : takes_collisions<P> ? 3
                                                     : 0;
template <class Base, class Dynamic>
inline constexpr bool follow_alike =
    absent<Base> || absent<Dynamic> || follows<Base> == follows<Dynamic>;
template <class Sampler, class Budget>
inline constexpr bool bounds_are_asked_for = true;
template <takes_bounds Sampler, budget_policy Budget>
inline constexpr bool bounds_are_asked_for<Sampler, Budget> = needs_ceiling<Budget>;

}  // namespace detail

/// Checks a pack of policies once, with one sentence for each thing that can be wrong.
template <class... Policies>
struct composition {
  // The look-ups come first: a compiler forgets what stands behind a failed assertion.
  template <class Role>
  static constexpr int count = (0 + ... + (detail::plays<Policies, Role> ? 1 : 0));
  template <class Role, class Missing>
  using one_or = typename detail::find<Role, Missing, Policies...>::type;
  template <class Role>
  using one = one_or<Role, detail::missing>;

  /// The policy of a type among the arguments, or a default-constructed one.
  template <class Policy>
  static Policy pick(const Policies&... policies) {
    if constexpr ((std::same_as<Policy, Policies> || ...))
      return std::get<const Policy&>(std::tie(policies...));
    else
      return Policy{};
  }

  static_assert((detail::names_a_role<Policies> && ...),
                "vattention: policy: a template argument names no role "
                "(want `using role = vattn::role::...`)");
  static_assert(((detail::names_a_known_role<Policies> || !detail::names_a_role<Policies>) && ...),
                "vattention: policy: a template argument names a role that is none of the six "
                "(see core/concepts.hpp)");
  static_assert(count<role::static_indices> <= 1,
                "vattention: static_indices: more than one policy");
  static_assert(count<role::top_k> <= 1, "vattention: top_k: more than one policy");
  static_assert(count<role::base_sampling> == 1,
                "vattention: base_sampling: want exactly one policy");
  static_assert(count<role::budget> == 1, "vattention: budget: want exactly one policy");
  static_assert(count<role::dynamic_sampling> == 1,
                "vattention: dynamic_sampling: want exactly one policy");
  static_assert(count<role::cost> <= 1, "vattention: cost: more than one policy");

  static_assert(detail::absent_or_static_indices<one<role::static_indices>>,
                "vattention: static_indices: want select(visible, index_set&) const noexcept");
  static_assert(detail::absent_or_top_k<one<role::top_k>>,
                "vattention: top_k: want index_type, scores_rows, make_index, and const noexcept "
                "predict, select, bytes_scanned, coverage (see core/concepts.hpp)");
  static_assert(
      detail::absent_or_base_sampling<one<role::base_sampling>>,
      "vattention: base_sampling: want scheme, and const noexcept size(n), draw(drawing)");
  static_assert(
      detail::absent_or_budget<one<role::budget>>,
      "vattention: budget: want const noexcept asked, delta, guarantees, coverage, judge, "
      "next, end (see core/concepts.hpp)");
  static_assert(detail::bounds_suffice<one<role::budget>, one<role::top_k>>,
                "vattention: budget: it needs a ceiling of the residual, so the top_k policy must "
                "bound its scores (bounds_scores; top_k::key_code does)");
  static_assert(
      detail::scale_is_known<one<role::budget>, one<role::top_k>>,
      "vattention: budget: its errors are measured in values, want a top_k predictor whose "
      "index knows them (knows_values; top_k::key_code, cascade and bounded_code do)");
  static_assert(detail::absent_or_dynamic_sampling<one<role::dynamic_sampling>>,
                "vattention: dynamic_sampling: want scheme, and const noexcept grow, size, "
                "variance_at, resolution (see core/concepts.hpp)");
  static_assert(detail::absent_or_cost<one<role::cost>>,
                "vattention: cost: want const noexcept dense_at_once(call) and "
                "dense_from_here(call, growth) (see core/concepts.hpp)");
  static_assert(detail::same_scheme<one<role::base_sampling>, one<role::dynamic_sampling>>,
                "vattention: dynamic_sampling: want the scheme of the base sampling");
  static_assert(
      detail::bounds_serve<one<role::base_sampling>, one<role::top_k>> &&
          detail::bounds_serve<one<role::dynamic_sampling>, one<role::top_k>>,
      "vattention: base_sampling: the sampler follows sound bounds, want a top_k predictor "
      "that gives them (bounds, and value_norms for the output; top_k::bounded_code does)");
  static_assert(detail::sampler_suits<one<role::budget>, one<role::base_sampling>> &&
                    detail::sampler_suits<one<role::budget>, one<role::dynamic_sampling>>,
                "vattention: budget: strict wants base_sampling::bounded and "
                "dynamic_sampling::bounded of its own quantity");
  static_assert(
      detail::follow_alike<one<role::base_sampling>, one<role::dynamic_sampling>>,
      "vattention: dynamic_sampling: want one that follows what the base sampling follows "
      "(proposals, bounds, collisions or none of them)");
  static_assert(detail::bounds_are_asked_for<one<role::base_sampling>, one<role::budget>>,
                "vattention: budget: the samplers follow bounds, want a budget that needs them "
                "(needs_ceiling; budget::strict does)");
  static_assert(
      detail::collisions_serve<one<role::base_sampling>, one<role::top_k>> &&
          detail::collisions_serve<one<role::dynamic_sampling>, one<role::top_k>>,
      "vattention: base_sampling: the sampler goes by collisions, want a top_k predictor that "
      "hashes keys by random planes (counts_collisions; top_k::lsh does)");
  static_assert(
      detail::predictor_serves<one<role::base_sampling>, one<role::top_k>>,
      "vattention: base_sampling: the sampler takes proposals, want a top_k predictor "
      "that makes them (proposes_weights; top_k::key_code and top_k::cascade do, top_k::proposing makes others)");
  static_assert(
      detail::predictor_serves<one<role::dynamic_sampling>, one<role::top_k>>,
      "vattention: dynamic_sampling: the sampler takes proposals, want a top_k predictor "
      "that makes them (proposes_weights; top_k::key_code and top_k::cascade do, top_k::proposing makes others)");
};

}  // namespace vattn
