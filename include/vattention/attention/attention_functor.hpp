// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a wrapper around the functor needs of it, and offers in turn.
#pragma once

#include "vattention/attention/result.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn {

/// What a call needs room for.
struct call_shape {
  int heads = 0;
  index_t rows = 0, key_dim = 0, value_dim = 0;

  /// True if it is no larger in any number.
  bool fits(const call_shape& room) const noexcept {
    return heads <= room.heads && rows <= room.rows && key_dim <= room.key_dim &&
           value_dim <= room.value_dim;
  }
};
template <cache_view View>
call_shape shape_of(const query_group& queries, const View& kv) noexcept {
  return {queries.heads, kv.rows(), kv.key_dim(), kv.value_dim()};
}

/// A functor that attends: `vattention<...>`, or a wrapper around one, in any nesting.
///   index_type, make_index(kv)            the predictor's index of a cache
///   workspace_type                        the scratch of one call at a time, one object a thread
///   f(queries, kv, index, key, ws)        the call; const, thread-safe with a workspace each
///   budget()                              asked(), delta() and guarantees() of its certificates
///   static_indices()                      the rows that every query reads
/// A batch (batch/decode.hpp) takes the call apart, so that all that may fail comes first:
///   check(where, queries, kv, index, key) throws std::invalid_argument as the call would, naming `where`
///   reserve(shape, ws)                    makes room, so that calls no larger in any number allocate nothing
///   admit(n)                              books what certificates of n queries spend, all or nothing
///   attend(queries, kv, index, key, ws)   the call itself, checked, with room, and admitted
template <class F>
concept attention_functor = requires(const F& f, const query_group& queries, const kv_view& kv,
                                     const typename F::index_type& index, draw_key key,
                                     typename F::workspace_type& ws, index_set& rows) {
  { f.make_index(kv) } -> std::same_as<typename F::index_type>;
  { f(queries, kv, index, key, ws) } -> std::same_as<result>;
  { f.budget().asked() } noexcept -> std::same_as<double>;
  { f.budget().delta() } noexcept -> std::same_as<double>;
  { f.budget().guarantees() } noexcept -> std::same_as<quantity>;
  { f.static_indices().select(index_t{}, rows) } noexcept -> std::same_as<void>;
  { f.check("", queries, kv, index, key) } -> std::same_as<void>;
  { f.reserve(call_shape{}, ws) } -> std::same_as<void>;
  { f.admit(index_t{}) } -> std::same_as<void>;
  { f.attend(queries, kv, index, key, ws) } noexcept -> std::same_as<result>;
};

}  // namespace vattn
