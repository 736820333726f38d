// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a wrapper around the functor needs of it, and offers in turn.
#pragma once

#include "vattention/attention/result.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn {

/// A functor that attends: `vattention<...>`, or a wrapper around one, in any nesting.
///   index_type, make_index(kv)            the predictor's index of a cache
///   workspace_type                        the scratch of one call at a time, one object a thread
///   f(queries, kv, index, key, ws)        the call; const, thread-safe with a workspace each
///   budget()                              asked(), delta() and guarantees() of its certificates
///   static_indices()                      the rows that every query reads
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
};

}  // namespace vattn
