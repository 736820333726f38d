// SPDX-License-Identifier: Apache-2.0
/// @file
/// Memory that is reused from call to call.
#pragma once

#include <span>
#include <vector>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// A vector that only ever grows, with room to spare, so that a cache that gets a row a step makes it
/// allocate a logarithmic number of times.
template <class T>
class scratch {
public:
  void reserve(index_t count) {
    if (static_cast<std::size_t>(count) > items_.size())
      items_.resize(static_cast<std::size_t>(count + count / 2));
  }
  T* data() noexcept { return items_.data(); }
  const T* data() const noexcept { return items_.data(); }
  T& operator[](index_t i) noexcept { return items_[static_cast<std::size_t>(i)]; }
  const T& operator[](index_t i) const noexcept { return items_[static_cast<std::size_t>(i)]; }
  std::span<T> first(index_t count) noexcept { return {data(), static_cast<std::size_t>(count)}; }

private:
  std::vector<T> items_;
};

}  // namespace vattn
