// SPDX-License-Identifier: Apache-2.0
/// @file
/// Named compositions. None thinks of cost: `standard(e, d).with_cost(cost::model())` answers densely where
/// that is faster.
#pragma once

#include <algorithm>
#include <cmath>

#include "vattention/base_sampling/bounded.hpp"
#include "vattention/base_sampling/proportional.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/clt.hpp"
#include "vattention/budget/output.hpp"
#include "vattention/budget/strict.hpp"
#include "vattention/budget/within.hpp"
#include "vattention/dynamic_sampling/bounded.hpp"
#include "vattention/dynamic_sampling/proportional.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/static_indices/sink_window.hpp"
#include "vattention/top_k/bounded_code.hpp"
#include "vattention/top_k/cascade.hpp"

namespace vattn::presets {

/// The paper's composition (arXiv 2510.05688, algorithm 1 as its experiments run it): 32 sinks, 64
/// window rows, a predictor, a base sample of 1 % of the residual, and the denominator's CLT budget. Its
/// certificate speaks of the denominator; output errors are measured in bench/results.
template <top_k_policy TopK>
auto paper(epsilon asked, delta miss, TopK top_k, extent base = fraction(0.01)) {
  return vattention(static_indices::sink_window(32, 64), std::move(top_k),
                    base_sampling::uniform(base, 2), budget::clt(asked, miss),
                    dynamic_sampling::uniform());
}

/// Without log-weights to follow: 32 sinks, 64 window rows, top 2 % by 4-bit key codes, a uniform sample of the rest that
/// starts at 1 % (at least 12 / epsilon rows, within 32 and 240) and grows until the output's certificate
/// holds. The floor is measured: from fewer rows some sharp heads met their certificates too early.
inline auto uniform_output(epsilon asked, delta miss) {
  const auto base = static_cast<index_t>(std::clamp(std::ceil(12.0 / asked.value()), 32.0, 240.0));
  return vattention(static_indices::sink_window(32, 64), top_k::key_code(4, fraction(0.02)),
                    base_sampling::uniform(fraction(0.01), base), budget::output(asked, miss),
                    dynamic_sampling::uniform());
}

namespace detail {

/// Sampling in proportion to the weights that a predictor proposes, beside 32 sinks and 64 window rows.
template <proposes_weights Predictor, class Budget>
auto sampled_by_weight(Predictor predictor, Budget budget) {
  return vattention(static_indices::sink_window(32, 64), std::move(predictor),
                    base_sampling::proportional(), std::move(budget),
                    dynamic_sampling::proportional());
}

}  // namespace detail

// Function objects, so that one can be passed on whatever the error is measured in: `standard(epsilon{0.1},
// delta{0.1})`, `standard(absolute_error{0.5}, delta{0.1}, at_most(fraction(0.2)))`.

/// A sample in proportion to weights predicted by a 4-bit code of every key: no separate top-k, and growth
/// until the output's certificate holds.
inline constexpr auto proportional = [](output_target auto asked, delta miss,
                                        read_limit limit = {}) {
  return detail::sampled_by_weight(top_k::key_code(4, rows(0)), budget::output(asked, miss, limit));
};

/// The default: as `proportional`, with weights predicted by a 2-bit code of every key and refined by a
/// 4-bit code of the few that matter: half the bytes, the same validity.
inline constexpr auto standard = [](output_target auto asked, delta miss, read_limit limit = {}) {
  return detail::sampled_by_weight(top_k::cascade(2, 4), budget::output(asked, miss, limit));
};

/// As `standard`, with a 1-bit code first: fewer bytes still, but certificates hold on average only; about
/// one (head, query) pair in two hundred misses epsilon more often than delta.
inline constexpr auto fast = [](output_target auto asked, delta miss, read_limit limit = {}) {
  return detail::sampled_by_weight(top_k::cascade(1, 2), budget::output(asked, miss, limit));
};

/// As `standard`, for what may be read instead of what may be missed: the certificate says which error that
/// allows.
inline constexpr auto within = [](read_limit limit, delta miss) {
  return detail::sampled_by_weight(top_k::cascade(2, 4), budget::within<>(limit, miss));
};

/// Proved: the softmax denominator by Bernstein's inequality from 8-bit bounds, rows known before a key is
/// read. Says nothing of the output.
inline auto strict_denominator(epsilon asked, delta miss, int bits = 8) {
  return vattention(static_indices::sink_window(32, 64), top_k::bounded_code(bits),
                    base_sampling::bounded<quantity::denominator>(),
                    budget::strict_denominator(asked, miss),
                    dynamic_sampling::bounded<quantity::denominator>());
}

/// Proved, for the output: a pilot and up to three looks.
inline constexpr auto strict_output = [](output_target auto asked, delta miss, int bits = 8) {
  return vattention(static_indices::sink_window(32, 64), top_k::bounded_code(bits),
                    base_sampling::bounded<quantity::output>(),
                    budget::strict<quantity::output, decltype(asked)>(asked, miss),
                    dynamic_sampling::bounded<quantity::output>());
};

}  // namespace vattn::presets
