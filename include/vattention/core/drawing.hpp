// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a sampler works on: the call, what the predictor saw, the residual, and the draw so far.
#pragma once

#include "vattention/core/decode.hpp"
#include "vattention/core/workspace.hpp"

namespace vattn {

/// Uses of random numbers; each has a stream of its own under a call's draw key.
enum class purpose : std::uint32_t { sampling = 1, projection = 2, audit = 3 };

template <cache_view View>
struct drawing {
  const decode<View>& call;
  const predictions& seen;
  const population& rest;
  draw_state& state;
  sample& drawn;
};

/// What the sampled rows contribute to a variance: y_i^2 of each, and their sum.
struct contributions {
  std::span<const float> squares;
  double total = 0.0;
};

/// Whether a variance at another size counts that a finite population is being used up.
enum class correction : std::uint8_t { finite_population, none };

}  // namespace vattn
