// SPDX-License-Identifier: Apache-2.0
/// @file
/// Log-weights of all rows of a call, block by block.
#pragma once

#include <vector>

#include "vattention/core/workspace.hpp"

namespace vattn::test {

/// Prepares the call and leaves the predictor's log-weights of all visible rows in ws.seen.
template <class Call, class Predictor>
void propose_all(const Call& call, const Predictor& predictor,
                 const typename Predictor::index_type& index, workspace& ws) {
  predictor.prepare(call, index, ws);
  for (index_t at = 0; at < call.visible; at += workspace::block)
    predictor.propose(call, index, at, std::min(workspace::block, call.visible - at),
                      ws.seen.scores(0).data() + at, ws.seen.rows(), ws, ws);
}

/// Log-weights of listed rows at the second level, `[heads x stride]`, after `propose_all` into the same `ws`.
template <class Call, class Predictor>
void refine_listed(const Call& call, const Predictor& predictor,
                   const typename Predictor::index_type& index, const std::vector<row_t>& rows,
                   float* out, index_t stride, workspace& ws) {
  std::vector<float> first;
  for (int h = 0; h < call.heads(); ++h)
    for (const row_t row : rows) first.push_back(ws.seen.scores(h)[row]);
  predictor.refine(call, index, rows, first.data(), static_cast<index_t>(rows.size()), out, stride,
                   ws, ws);
}

}  // namespace vattn::test
