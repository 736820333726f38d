// SPDX-License-Identifier: Apache-2.0
/// @file
/// Queries too sharp for a predictor.
#pragma once

#include "vattention/core/concepts.hpp"

namespace vattn {

/// The largest standard error of predicted logits, in nats, with which a sample in proportion to predicted weight is
/// believed, where the predictor's certificates were measured to hold on every row.
///
/// Weights over predicted weights spread like exp of a normal number of that standard error s: squared coefficient
/// of variation exp(s^2) - 1, which is 3.8 at the limit and 54 at s = 2, more than a base sample of a hundred rows
/// shows. The key that matters is then missed, and the sample does not tell. Measured: on all captured rows s is .80 at
/// most (4-bit codes; .28 for 2 and 4 bits) and no promise is broken; of certificates on synthetic heads (2,048 keys,
/// epsilon = delta = .1, 4-bit codes) 3 in 17,000 were wrong below s = 1.4, 1.6 % at 1.5, 5 % from 2 to 4, 23 % at 5 and half
/// beyond.
inline constexpr double largest_doubt = 1.25;

/// True if the predictor knows that it cannot tell the keys of some head apart well enough; what a sample would say
/// cannot be believed then.
template <top_k_policy Predictor, cache_view View>
bool beyond_prediction(const Predictor& predictor, const attention_call<View>& call,
                       const typename Predictor::index_type& index) noexcept {
  if constexpr (doubts_scores<Predictor>)
    for (int h = 0; h < call.heads(); ++h)
      if (!(predictor.doubt(call, index, h) <= largest_doubt)) return true;
  return false;
}

}  // namespace vattn
