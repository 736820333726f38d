// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a sampler works on: the call, the residual, what the predictor can tell, and the draw so far.
#pragma once

#include "vattention/core/attention_call.hpp"
#include "vattention/core/workspace.hpp"

namespace vattn {

/// Uses of random numbers; each has a stream of its own under a call's draw key.
enum class purpose : std::uint32_t { sampling = 1, projection = 2, audit = 3 };

/// How a level of predicted log-weights t becomes a proposal: with the sum over the n residual rows,
/// g_i = max((1 - floor) exp(t_i) / sum_j exp(t_j), floor / n).
struct proposal_level {
  /// Share of which every row has an equal part at least, within (0, 1): no row is ever out of reach.
  double floor = 0.05;
};

/// A predictor for checking concepts against: it proposes weights in one level.
struct predictor_archetype {
  struct index_type {};
  static constexpr int levels = 1;
  proposal_level level(int number) const noexcept;
  template <cache_view View>
  void prepare(const attention_call<View>& call, const index_type& index,
               workspace& ws) const noexcept;
  template <cache_view View>
  void propose(const attention_call<View>& call, const index_type& index, index_t at, index_t count,
               float* out, index_t stride, const workspace& ws, workspace& scratch) const noexcept;
  template <cache_view View>
  float reach(const attention_call<View>& call, int head) const noexcept;
  void spread(const index_type& index, index_t at, index_t count, float* out) const noexcept;
  void spread(const index_type& index, std::span<const row_t> rows, float* out) const noexcept;
  template <cache_view View>
  void refine(const attention_call<View>& call, const index_type& index,
              std::span<const row_t> rows, const float* first, index_t first_stride, float* out,
              index_t stride, const workspace& ws, workspace& scratch) const noexcept;
  void value_norms(const index_type& index, index_t rows, float* out) const noexcept;
};

template <cache_view View, class Predictor = predictor_archetype>
struct drawing {
  const attention_call<View>& call;
  const population& rest;
  const Predictor& predictor;
  const typename Predictor::index_type& index;
  workspace& ws;
  draw_state& state = ws.draws;
  sample& drawn = ws.drawn;
};
template <cache_view View, class Predictor>
drawing(const attention_call<View>&, const population&, const Predictor&,
        const typename Predictor::index_type&, workspace&) -> drawing<View, Predictor>;

/// What the sampled rows contribute to a variance: y_i^2 of each, and their sum.
struct contributions {
  std::span<const float> squares;
  double total = 0.0;
};

/// Whether a variance at another size counts that a finite population is being used up.
enum class correction : std::uint8_t { finite_population, none };

}  // namespace vattn
