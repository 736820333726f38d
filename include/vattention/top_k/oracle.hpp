// SPDX-License-Identifier: Apache-2.0
/// @file
/// Exact scores as predictor: what every other one is measured against.
#pragma once

#include "vattention/top_k/none.hpp"
#include "vattention/top_k/pick_size.hpp"

namespace vattn::top_k {

/// The largest logits of each query head, k of them or, with `mass(p)`, the fewest that have that share of the weight
/// that is left ("oracle top-p"), from a scan of all keys. For experiments: it reads the whole
/// key cache, so it saves half the bytes at most.
class oracle {
public:
  using role = vattn::role::top_k;
  using index_type = no_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  /// k as rows, as a share of the visible rows, or as a share of the mass.
  explicit oracle(pick_size k) : k_(k) {}

  no_index make_index(index_t /*key_dim*/) const noexcept { return {}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const no_index& index, predictions& seen,
               workspace& ws) const noexcept {
    for (index_t at = 0; at < call.visible; at += workspace::block)
      propose(call, index, at, std::min(workspace::block, call.visible - at),
              seen.scores(0).data() + at, seen.rows(), ws, ws);
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_sized(call, k_, ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return call.visible * key_bytes(call.kv);
  }
  basis coverage() const noexcept { return basis::measured_per_row; }

  /// Proposals: the exact weights.
  static constexpr int levels = 1;
  proposal_level level(int /*number*/) const noexcept { return {}; }
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.most(call.visible);
  }
  template <cache_view View>
  void prepare(const attention_call<View>& /*call*/, const no_index& /*index*/,
               workspace& /*ws*/) const noexcept {}
  template <cache_view View>
  void propose(const attention_call<View>& call, const no_index& /*index*/, index_t at,
               index_t count, float* out, index_t stride, const workspace& /*ws*/,
               workspace& scratch) const noexcept {
    for (index_t i = 0; i < count; ++i)
      scratch.addresses[i] = call.kv.key_row(static_cast<row_t>(at + i));
    call.kernels.dot_rows(call.kv.key_type(), scratch.addresses.data(), count, 0, call.kv.key_dim(),
                          call.queries.data, call.queries.stride, call.heads(), out, stride);
    for (int h = 0; h < call.heads(); ++h)
      call.to_logits(h, out + h * stride, count, [=](index_t i) { return at + i; });
  }
  template <cache_view View>
  index_t bytes_proposed(const attention_call<View>& call, index_t /*refined*/) const noexcept {
    return bytes_scanned(call);
  }

private:
  pick_size k_;
};
static_assert(proposes_weights<oracle>);

}  // namespace vattn::top_k
