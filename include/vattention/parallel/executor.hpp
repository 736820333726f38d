// SPDX-License-Identifier: Apache-2.0
/// @file
/// Who runs a batch: the caller's thread, a pool, or whatever an engine already has.
#pragma once

#include <concepts>
#include <type_traits>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// What is called for an item: body(worker, item), which does not throw.
template <class B>
concept item_body = std::is_nothrow_invocable_v<const B&, int, index_t>;

/// A body for checking concepts against.
struct item_body_archetype {
  void operator()(int worker, index_t item) const noexcept;
};

/// Runs the items of a batch on its workers.
///   workers()         how many there are, at least 1; the same as long as the executor lives
///   run(count, body)  calls body(worker, item) once for each item of 0 .. count - 1, with a worker of 0 ..
///                     workers() - 1 that is at no other item at the time; returns when all are done, and
///                     what they wrote is then to be seen by the caller
/// Items are best begun in ascending order, the dearest come first; results do not depend on it. A body
/// waits for no other item.
template <class E>
concept executor = requires(E& e, index_t count, const item_body_archetype& body) {
  { e.workers() } noexcept -> std::convertible_to<int>;
  { e.run(count, body) } noexcept;
};

}  // namespace vattn
