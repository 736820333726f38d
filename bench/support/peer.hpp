// SPDX-License-Identifier: Apache-2.0
/// @file
/// Other people's dense attention, on the same caches. Each is optional: see bench/peers.sh.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "decode_data.hpp"

namespace vattn_bench {

/// One way to call a library; a pass is one call for all heads, as a model's layer makes it.
class peer {
public:
  peer() = default;
  peer(const peer&) = delete;
  peer& operator=(const peer&) = delete;
  virtual ~peer() = default;

  /// Takes the queries of a step, `[heads x group x dim]`. Not timed.
  virtual void prepare(const float* queries) = 0;
  /// Attention of all heads. Timed.
  virtual void run() = 0;
  /// The outputs of the last run, `[heads x group x dim]`. Not timed.
  virtual void output(float* out) const = 0;
};

/// Ways to get the same from one library; the one that is faster in a trial is raced.
struct peer_family {
  std::string name;
  /// Bytes of keys and values that a pass reads at least once.
  double bytes = 0.0;
  /// Median error of its outputs relative to the library's own dense kernel that its arithmetic explains.
  double tolerance = 0.0;
  std::vector<std::pair<std::string, std::unique_ptr<peer>>> ways;
};

/// PyTorch's scaled_dot_product_attention on the caches as they are: with `enable_gqa`, and with the queries of
/// a group as rows of one head.
peer_family torch_peers(const decode_data& data, int threads);

/// ggml's flash_attn_ext on copies of the caches in f16 and in q8_0: query heads that share a KV head, and
/// the queries of a group as rows of one head. It sums f16 values in f16: errors of several percent where
/// many rows count.
std::vector<peer_family> ggml_peers(const decode_data& data, int threads);

/// Versions of what is linked in, for the report; empty for what is not.
std::string torch_version();
std::string ggml_version();

}  // namespace vattn_bench
