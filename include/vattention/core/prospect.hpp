// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a cost policy is told: the sizes of a call before anything is looked at, and of a growth before it is
/// drawn.
#pragma once

#include <limits>

#include "vattention/core/kv_view.hpp"

namespace vattn {

/// A call as it begins. Sizes alone, so what is decided by them has the same outcome on every run.
struct call_prospect {
  /// Queries, and rows that they see between them.
  int heads = 1;
  index_t rows = 0;
  index_t key_dim = 0, value_dim = 0;
  /// Bytes of a key and its value.
  index_t row_bytes = 0;
  /// Bytes of the predictor's index that every sparse call reads.
  index_t scanned_bytes = 0;
  /// Levels of the predictor's proposals that the sampler follows; 1 if it follows bounds, 0 if it draws
  /// without either.
  int levels = 0;
  /// Every logit is bounded first, for a budget that rests on bounds.
  bool bounds = false;
  /// Static rows, which are read exactly, and rows of the base sample that each query draws.
  index_t exact = 0, base = 0;
  /// Error asked for relative to the output; NaN if none is, or another one.
  double epsilon = std::numeric_limits<double>::quiet_NaN();

  /// Rows that may be sampled.
  index_t rest() const noexcept { return rows - exact; }
};

/// A sample that a budget wants to grow.
struct growth_prospect {
  /// Rows drawn for the whole group, and rows whose proposals were refined.
  index_t drawn = 0, refined = 0;
  /// Rows that the growth is expected to add.
  double more = 0.0;
};

}  // namespace vattn
