// SPDX-License-Identifier: Apache-2.0
/// @file
/// One concept per role: what a policy must offer, and what it promises.
///
/// A policy names its role (`using role = vattn::role::top_k;`), is copyable, and is used const: all
/// state of a call lies in the workspace. Everything a call uses is noexcept and does not allocate;
/// constructors check their arguments and throw `std::invalid_argument`. There are no default hooks: a
/// misspelt member is a compile error that names the role.
#pragma once

#include <concepts>

#include "vattention/core/certificate.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/guarantee.hpp"
#include "vattention/core/outlook.hpp"
#include "vattention/core/prospect.hpp"
#include "vattention/core/read_limit.hpp"

namespace vattn {

namespace role {
struct static_indices {};
struct top_k {};
struct base_sampling {};
struct budget {};
struct dynamic_sampling {};
struct cost {};
}  // namespace role

template <class P, class Role>
concept has_role = std::same_as<typename P::role, Role>;

/// Rows every query reads, chosen from the number of visible rows alone.
///   select(visible, out)  adds rows of [0, visible) to the set.
template <class P>
concept static_indices_policy = has_role<P, role::static_indices> && std::copy_constructible<P> &&
                                requires(const P& p, index_t visible, index_set& out) {
                                  { p.select(visible, out) } noexcept -> std::same_as<void>;
                                };

/// What a predictor keeps per KV head beside the cache.
///   append(kv)   takes in the rows [rows(), kv.rows()); may allocate; leaves the index as it was if it throws
///   rows()       rows taken in
///   matches(kv)  the index describes these keys (rows and dimension)
/// An index grown in steps equals one built at once, bit for bit. A copy is an index of its own.
template <class I>
concept key_index = std::copyable<I> && requires(I& index, const I& fixed, const kv_view& kv) {
  index.append(kv);
  { fixed.rows() } noexcept -> std::same_as<index_t>;
  { fixed.matches(kv) } noexcept -> std::same_as<bool>;
};

/// Refinement: an index that can lose rows, see `truncate` and `evict`.
///   forget(n)  forgets the rows from n on, and may forget some before them: `append` takes them in again, as if they
///              had never been there
///   fits(kv)   the keys are of the dimension that the index is made for
template <class I>
concept living_index = key_index<I> && requires(I& index, const I& fixed, const kv_view& kv) {
  { index.forget(kv.rows()) } noexcept -> std::same_as<void>;
  { fixed.fits(kv) } noexcept -> std::same_as<bool>;
};

/// Refinement: an index that is made for certain query heads, so that calls must have queries of all of them.
///   heads()         how many these are
///   serves(count)   a call of so many queries can be answered: as many positions of each query head, in the order
///                   query head, then position
/// The functor refuses other calls before anything is changed.
template <class I>
concept knows_heads = key_index<I> && requires(const I& fixed) {
  { fixed.heads() } noexcept -> std::same_as<int>;
  { fixed.serves(1) } noexcept -> std::same_as<bool>;
};

/// The predictor: looks at the query group once per call and picks rows that are read exactly.
///   index_type, make_index(d)   its index for keys of dimension d, empty
///   predict(call, index, seen)  scores of every visible row for every head (if `scores_rows`), or counts if that is
///                               what its `select` reads, see `predictions`
///   select(call, seen, ws)      adds rows to ws.exact (k = 0 is allowed); rows already there do not count
///   bytes_scanned(call)         bytes of index or keys that predict() reads
///   coverage()                  what certificates with this predictor were measured to rest on
/// It draws nothing from the sampler's random numbers, so a bad predictor costs rows, never unbiasedness.
/// A row it cannot predict (non-finite key) must be selected.
template <class P>
concept top_k_policy =
    has_role<P, role::top_k> && std::copy_constructible<P> && key_index<typename P::index_type> &&
    requires(const P& p, index_t key_dim, const attention_call<kv_view>& call,
             const typename P::index_type& index, predictions& seen, workspace& ws) {
      { P::scores_rows } -> std::convertible_to<bool>;
      { p.make_index(key_dim) } -> std::same_as<typename P::index_type>;
      { p.predict(call, index, seen, ws) } noexcept -> std::same_as<void>;
      { p.select(call, seen, ws) } noexcept -> std::same_as<void>;
      { p.bytes_scanned(call) } noexcept -> std::same_as<index_t>;
      { p.coverage() } noexcept -> std::same_as<basis>;
    };

/// Refinement: the scores are log-weights, i.e. estimates of the logits up to a constant a head.
template <class P>
concept predicts_log_weights = top_k_policy<P> && P::scores_are_log_weights;

/// What a sampler says that it needs of the predictor: `using takes = proposals;`.
struct proposals {};

/// Refinement: proposals for sampling in proportion to predicted weight, in one level or two.
///   levels                    1, or 2 for a cheap look at all rows and a better one at some
///   level(l)                  floor of level l = 0, 1
///   picks(call)               rows that `select` takes for each head; 0 spares the call `predict` and `select`
///   prepare(call, index, ws)  what the other members need of the queries, into ws
///   propose(call, index, at, count, out, stride, ws, scratch)  log-weights of level 0 of rows [at, at + count), at
///                             a multiple of `kernels::code_block` and at most 256 of them, for all heads to
///                             out[h * stride + i]: tau p + kappa s^2, with p the predicted logit and s^2 the
///                             variance of its error; NaN for a row that must be read, -inf for one that cannot
///                             weigh anything. After `prepare`; called for several blocks at once, with a
///                             workspace each for `scratch`, of which draws, drawn, picks, weights and squares
///                             are not its own
///   expect(index, at, count)  optional: asks the memory for what `propose` of these rows will read
/// and of two levels
///   reach(call, head)         times a row's `spread`: logarithm of what level 1 may find the row to be worth
///                             over what level 0 says
///   spread(index, at, count, out), spread(index, rows, out)   of rows [at, at + count) or of listed rows, at
///                             most 256
///   refine(call, index, rows, first, first_stride, out, stride, ws, scratch)  log-weights of level 1 of listed
///                             rows to out[h * stride + i], given those of `propose` as first[h * first_stride + i];
///                             `scratch` as above
///   bytes_proposed(call, refined)  bytes of index that one pass of `propose` and that many refinements read
template <class P>
concept proposes_weights =
    predicts_log_weights<P> &&
    requires(const P& p, const attention_call<kv_view>& call, const typename P::index_type& index,
             std::span<const row_t> rows, float* out, index_t stride, workspace& ws) {
      { P::levels } -> std::convertible_to<int>;
      { p.level(0) } noexcept -> std::same_as<proposal_level>;
      { p.picks(call) } noexcept -> std::same_as<index_t>;
      { p.prepare(call, index, ws) } noexcept -> std::same_as<void>;
      {
        p.propose(call, index, stride, stride, out, stride, ws, ws)
      } noexcept -> std::same_as<void>;
      { p.bytes_proposed(call, stride) } noexcept -> std::same_as<index_t>;
      requires P::levels == 1 || requires {
        { p.reach(call, 0) } noexcept -> std::same_as<float>;
        { p.spread(index, stride, stride, out) } noexcept -> std::same_as<void>;
        { p.spread(index, rows, out) } noexcept -> std::same_as<void>;
        {
          p.refine(call, index, rows, out, stride, out, stride, ws, ws)
        } noexcept -> std::same_as<void>;
      };
    };

/// What a sampler says that goes by collisions of hashes: `using takes = collisions;`.
struct collisions {};

/// Refinement: keys are hashed by random planes, in tables of several bits; counts in how many of them a key agrees
/// with the call's query, and knows how likely that is.
///   tables(), bits()          tables that are counted, and bits of each
///   picks(call)               rows that `select` takes for each head, by other tables; 0 spares the call `predict`
///                             and `select`
///   collide(call, index, ws)  marks every visible row in ws.draws.collisions with its count and its half: rows of
///                             different halves are hashed by independent planes
///   same_side(call, index, row, ws)  after it: the chance that a plane has a row's key on the query's side
///   bytes_collided(call)      bytes of index that picks and counts read
template <class P>
concept counts_collisions =
    top_k_policy<P> && requires(const P& p, const attention_call<kv_view>& call,
                                const typename P::index_type& index, row_t row, workspace& ws) {
      { p.tables() } noexcept -> std::same_as<int>;
      { p.bits() } noexcept -> std::same_as<int>;
      { p.picks(call) } noexcept -> std::same_as<index_t>;
      { p.collide(call, index, ws) } noexcept -> std::same_as<void>;
      { p.same_side(call, index, row, ws) } noexcept -> std::same_as<double>;
      { p.bytes_collided(call) } noexcept -> std::same_as<index_t>;
    };

/// Refinement: sound bounds of every visible row's logit, for certificates without a limit argument.
///   bounds(call, index, head, lower, upper)  fills both `[visible]`; lower <= logit <= upper always
template <class P>
concept bounds_scores = top_k_policy<P> && requires(const P& p, const attention_call<kv_view>& call,
                                                    const typename P::index_type& index,
                                                    std::span<float> bound, workspace& ws) {
  { p.bounds(call, index, 0, bound, bound, ws) } noexcept -> std::same_as<void>;
};

/// What a sampler says that follows sound bounds of the weights: `using takes = score_bounds;`.
struct score_bounds {};

/// Refinement: beside bounds of the scores, upper bounds of the values' norms.
///   value_norms(index, rows, out)   of the first `rows` rows; +inf where unknown
template <class P>
concept bounds_values =
    bounds_scores<P> &&
    requires(const P& p, const typename P::index_type& index, index_t rows, float* out) {
      { p.value_norms(index, rows, out) } noexcept -> std::same_as<void>;
    };

/// Refinement: knows how far its scores may be off the logits.
///   doubt(call, index, head)   standard error of a head's predicted logits, a root mean square over the rows, at
///                              the best level [nats]; +inf or NaN where it cannot tell. What is far below
///                              `largest_doubt` need not be counted
template <class P>
concept doubts_scores = top_k_policy<P> && requires(const P& p, const attention_call<kv_view>& call,
                                                    const typename P::index_type& index) {
  { p.doubt(call, index, 0) } noexcept -> std::same_as<double>;
};

/// Refinement: its index knows the mean of ||v||^2 over its rows, for errors measured in values.
template <class P>
concept knows_values = top_k_policy<P> && requires(const typename P::index_type& index) {
  { index.mean_value_square() } noexcept -> std::same_as<double>;
};

/// The first draw from the residual.
///   scheme       how inclusions depend on each other; the dynamic sampler's must be the same
///   size(n)      rows it takes from a residual of n (the expectation, if random)
///   draw(d)      fills d.drawn, which is empty
template <class P>
concept base_sampling_policy = has_role<P, role::base_sampling> && std::copy_constructible<P> &&
                               requires(const P& p, index_t population, const drawing<kv_view>& d) {
                                 { P::scheme } -> std::convertible_to<design>;
                                 { p.size(population) } noexcept -> std::same_as<index_t>;
                                 { p.draw(d) } noexcept -> std::same_as<void>;
                               };

/// The sampler that grows a draw.
///   grow(d, sizes)   extends d.drawn to the sizes asked for each head; rows stay, probabilities never fall
///   size(d, head)    the present size in the unit of `sizes`
///   variance_at(d, head, y, size, correction)  estimated variance of sum y / p at another size
///   resolution(d, head)  the least error, relative to ||o^||, that the output's bound may state of the
///                    present sample: of a heavy row that nobody predicted a small one may show nothing
template <class P>
concept dynamic_sampling_policy =
    has_role<P, role::dynamic_sampling> && std::copy_constructible<P> &&
    requires(const P& p, const drawing<kv_view>& d, std::span<const index_t> sizes,
             const contributions& y, index_t size, correction finite) {
      { P::scheme } -> std::convertible_to<design>;
      { p.grow(d, sizes) } noexcept -> std::same_as<void>;
      { p.size(d, 0) } noexcept -> std::same_as<index_t>;
      { p.variance_at(d, 0, y, size, finite) } noexcept -> std::same_as<double>;
      { p.resolution(d, 0) } noexcept -> std::same_as<double>;
    };

/// How many rows, and what may be said of them.
///   asked(), delta(), guarantees()  epsilon (NaN if none), delta, and the quantity they are about
///   coverage()                what its certificates were measured or proved to rest on; `proved` only if
///                             that holds for the calls as they are, stopping included, with any predictor
///   judge(state, ws)          the bound that a head's present sample supports
///   next(look)                after every judgement: stop, grow to look.sizes(), or read all
///   end(judged)               the status of a head when it was stopped
template <class P>
concept budget_policy = has_role<P, role::budget> && std::copy_constructible<P> &&
                        requires(const P& p, const partial_view& state, workspace& ws,
                                 outlook_archetype& look, const judgement& judged) {
                          { p.asked() } noexcept -> std::same_as<double>;
                          { p.delta() } noexcept -> std::same_as<double>;
                          { p.guarantees() } noexcept -> std::same_as<quantity>;
                          { p.coverage() } noexcept -> std::same_as<basis>;
                          { p.judge(state, ws) } noexcept -> std::same_as<judgement>;
                          { p.next(look) } noexcept -> std::same_as<decision>;
                          { p.end(judged) } noexcept -> std::same_as<status>;
                        };

/// Refinement: the budget rests on the range of the weights that are left to sample. The functor
/// then has the predictor bound all logits (`bounds_scores`) and sets `ceiling()` and `floor()` of
/// each head's state.
///   needs_ceiling   static constexpr bool, true
template <class P>
concept needs_ceiling = budget_policy<P> && P::needs_ceiling;

/// Refinement: the budget's errors are measured in another unit than the quantity itself.
///   scale   static constexpr error_scale; with `values` the predictor must satisfy `knows_values`
template <class P>
concept scales_errors = budget_policy<P> && requires {
  { P::scale } -> std::convertible_to<error_scale>;
};

/// Refinement: the budget keeps a limit on what may be read.
///   limit()   the limit, which also holds where reading everything would be faster
template <class P>
concept limits_reading = budget_policy<P> && requires(const P& p) {
  { p.limit() } noexcept -> std::same_as<read_limit>;
};

/// When the dense kernel answers because it is faster: by sizes alone, so that bits do not depend on timing.
///   dense_at_once(call)             before the predictor looks at anything
///   dense_from_here(call, growth)   at a look, in place of the growth that the budget asks for
template <class P>
concept cost_policy =
    has_role<P, role::cost> && std::copy_constructible<P> &&
    requires(const P& p, const call_prospect& call, const growth_prospect& growth) {
      { p.dense_at_once(call) } noexcept -> std::same_as<bool>;
      { p.dense_from_here(call, growth) } noexcept -> std::same_as<bool>;
    };

namespace detail {
template <class P>
inline constexpr error_scale scale_of = error_scale::output;
template <scales_errors P>
inline constexpr error_scale scale_of<P> = P::scale;
}  // namespace detail

}  // namespace vattn
