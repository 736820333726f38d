// SPDX-License-Identifier: Apache-2.0
/// @file
/// What an index asks of a view and of memory before it takes in rows.
#pragma once

#include <vector>

#include "vattention/core/kv_view.hpp"

namespace vattn::top_k {

/// For an index of `rows` rows of keys of dimension `dim`; `where` names its `append`.
/// @throws std::invalid_argument if the view has fewer rows, or keys of another dimension.
template <cache_view View>
void require_growth(const char* where, const View& kv, index_t dim, index_t rows) {
  require(kv.key_dim() == dim, where, "keys of the index's dimension", kv.key_dim());
  require(kv.rows() >= rows, where, "a view that has only grown (rows, indexed)", kv.rows(), rows);
}

/// Makes room for `count` items, and for half as many more where it has to allocate: an index that gets a row a step
/// allocates a logarithmic number of times.
template <class T>
void reserve_ahead(std::vector<T>& all, index_t count) {
  const auto wanted = static_cast<std::size_t>(count);
  if (wanted > all.capacity()) all.reserve(wanted + wanted / 2);
}

}  // namespace vattn::top_k
