// SPDX-License-Identifier: Apache-2.0
/// @file
/// An index follows its cache: rows that end, rows that go, and rows that change.
#pragma once

#include <algorithm>

#include "vattention/core/concepts.hpp"

namespace vattn {

/// Brings an index to a view that has lost its last rows, e.g. tokens that a verifier refused. Afterwards it equals
/// one built at once, bit for bit. O(16) keys are coded anew, all of a cache of less than 272 rows.
///
/// A copy of an index is an index of its own: copy and truncate it where a sequence forks from a prefix.
/// @throws std::invalid_argument if the view has more rows than the index, or another dimension or type; nothing has been
/// changed then.
template <living_index Index, cache_view View>
void truncate(Index& index, const View& kv) {
  require(kv.rows() <= index.rows(), "truncate", "a view of no more rows (rows, indexed)",
          kv.rows(), index.rows());
  require(index.fits(kv), "truncate", "keys of the index's dimension and type", kv.key_dim(),
          to_string(kv.key_type()));
  index.forget(kv.rows());
  index.append(kv);
}

/// Brings an index to a view that has lost rows [first, last), those behind it moving up. The rows behind are coded
/// anew: they mostly have to be, for their keys are turned to their new positions. Afterwards it equals one built
/// at once, bit for bit; so whatever is fixed by the first rows of a cache is fixed by its first rows now.
/// @throws std::invalid_argument if the view does not have as many rows fewer, or another dimension, or the range
/// is none of the index's; nothing has been changed then.
template <living_index Index, cache_view View>
void evict(Index& index, const View& kv, index_t first, index_t last) {
  require(first >= 0 && first <= last && last <= index.rows(), "evict",
          "a range of the index's rows (first, last, indexed)", first, last, index.rows());
  require(kv.rows() == index.rows() - (last - first), "evict",
          "a view without the range (rows, indexed)", kv.rows(), index.rows());
  require(index.fits(kv), "evict", "keys of the index's dimension and type", kv.key_dim(),
          to_string(kv.key_type()));
  index.forget(first);
  index.append(kv);
}

/// Brings an index to a view whose rows from `first` on may have changed, in number too: cells that were written anew,
/// keys turned to other positions. Those rows are coded anew, all of them where `first` is among the rows that fix what
/// codes are centred or clustered on. Afterwards it equals one built at once, bit for bit.
///
/// A refit goes the same way: make an index by what was fitted to newer queries and keys, and `append` the cache to it.
/// Nothing is ever fitted anew by itself, for then an index would depend on the steps it grew in.
/// @throws std::invalid_argument if the view has fewer than `first` rows or the index has, or for another dimension or type;
/// nothing has been changed then.
template <living_index Index, cache_view View>
void refresh(Index& index, const View& kv, index_t first) {
  require(first >= 0 && first <= std::min(index.rows(), kv.rows()), "refresh",
          "a first row that view and index have or end at (first, rows, indexed)", first, kv.rows(),
          index.rows());
  require(index.fits(kv), "refresh", "keys of the index's dimension and type", kv.key_dim(),
          to_string(kv.key_type()));
  index.forget(first);
  index.append(kv);
}

}  // namespace vattn
