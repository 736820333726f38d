// SPDX-License-Identifier: Apache-2.0
/// @file
/// No predictor: k = 0.
#pragma once

#include <algorithm>

#include "vattention/core/concepts.hpp"

namespace vattn::top_k {

/// The index of predictors that keep nothing: it fits every cache.
class no_index {
public:
  template <cache_view View>
  void append(const View& kv) noexcept {
    rows_ = kv.rows();
  }
  void forget(index_t rows) noexcept { rows_ = std::min(rows_, rows); }

  static constexpr const char* kind = "none";
  template <class File>
  void exchange(File& file) {
    file.number(rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& /*kv*/) const noexcept {
    return true;
  }
  template <cache_view View>
  bool matches(const View& /*kv*/) const noexcept {
    return true;
  }

private:
  index_t rows_ = 0;
};

/// Takes no row; the default where a composition names no top-k. Without a predictor a single heavy row
/// is unlikely to be drawn, and a sample that lacks it cannot know; one that has it is pulled to its value
/// and underrates the variance. The output's certificate held on average on captured heads (7 % beyond at
/// delta 10 %), but on one row in ten not at all. A non-finite key is noticed only when its row is drawn.
class none {
public:
  using role = vattn::role::top_k;
  using index_type = no_index;
  static constexpr bool scores_rows = false;
  static constexpr bool scores_are_log_weights = false;

  no_index make_index(index_t /*key_dim*/) const noexcept { return {}; }
  template <cache_view View>
  void predict(const attention_call<View>& /*call*/, const no_index& /*index*/,
               predictions& /*seen*/, workspace& /*ws*/) const noexcept {}
  template <cache_view View>
  void select(const attention_call<View>& /*call*/, const predictions& /*seen*/,
              workspace& /*ws*/) const noexcept {}
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& /*call*/) const noexcept {
    return 0;
  }
  basis coverage() const noexcept { return basis::measured_on_average; }
};
static_assert(top_k_policy<none>);

}  // namespace vattn::top_k
