// SPDX-License-Identifier: Apache-2.0
/// @file
/// The element type of the keys that an index has taken in.
#pragma once

#include <cstdint>

#include "vattention/core/kv_view.hpp"

namespace vattn::top_k {

/// Any type before the first row, then that one: an index of other keys, or of the same ones rounded in another way,
/// would not equal one built at once.
class indexed_type {
public:
  /// True if an index that has `rows` rows may take in, or stands for, keys of the view's type.
  template <cache_view View>
  bool admits(const View& kv, index_t rows) const noexcept {
    return rows == 0 || number_ == number_of(kv);
  }
  /// `where` names the index's `append`.
  /// @throws std::invalid_argument if it does not.
  template <cache_view View>
  void require_of(const char* where, const View& kv, index_t rows) const {
    require(admits(kv, rows), where, "keys of the type that the index has taken in (keys, index)",
            to_string(kv.key_type()), to_string(static_cast<element>(number_)));
  }
  template <cache_view View>
  void took(const View& kv) noexcept {
    number_ = number_of(kv);
  }

  template <class File>
  void exchange(File& file) {
    file.number(number_);
  }

private:
  template <cache_view View>
  static std::uint8_t number_of(const View& kv) noexcept {
    return static_cast<std::uint8_t>(kv.key_type());
  }

  std::uint8_t number_ = 0;
};

}  // namespace vattn::top_k
