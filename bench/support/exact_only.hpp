// SPDX-License-Identifier: Apache-2.0
/// @file
/// Attention over exact rows alone, nothing sampled: what top-k methods do.
#pragma once

#include "residual.hpp"
#include "vattention/attention/result.hpp"
#include "vattention/attention/softmax_state.hpp"

namespace vattn_bench {

/// Attention over the listed rows of ws.exact; rows outside it count as weighing nothing.
inline vattn::result attend_to_exact(const vattn::query_group& query, const vattn::kv_view& kv,
                                     vattn::workspace& ws) {
  const vattn::attention_call<vattn::kv_view> call(query, kv, {});
  const vattn::softmax_state<vattn::kv_view> state(call, ws);
  state.add(ws.exact.rows());
  for (int h = 0; h < call.heads(); ++h) {
    vattn::detail::write_output(state.numerator(h), state.sum(h), kv.value_dim(),
                                ws.output.data() + h * kv.value_dim());
    ws.log_sum_exp[h] = state.max(h) + std::log(state.sum(h));
  }
  return {ws, call.heads(), kv.value_dim()};
}

}  // namespace vattn_bench
