// SPDX-License-Identifier: Apache-2.0
/// @file
/// A policy with its indices of all sequences, layers and KV heads, whatever its type.
#pragma once

#include <memory>
#include <span>

#include "ggml_team.hpp"
#include "ggml_view.hpp"
#include "options.hpp"
#include "vattention/audit/audit_report.hpp"
#include "vattention/core/certificate.hpp"
#include "vattention/core/query_group.hpp"
#include "vattention/core/rng.hpp"

namespace vattn_llama_cpp {

/// Sizes that indices and counters go by.
struct engine_extents {
  int sequences = 1, layers = 1, kv_heads = 1, group = 1;
};

/// One KV head of one sequence in one layer, and its rows now.
struct head_work {
  int sequence = 0, head = 0;
  head_cells rows;
};
/// One token's queries of such a head.
struct head_call {
  /// Which of the heads given.
  std::size_t work = 0;
  vattn::query_group queries;
  vattn::draw_key key;
  /// `[group x d_v]`.
  float* output = nullptr;
};

class engine {
public:
  engine() = default;
  engine(const engine&) = delete;
  engine& operator=(const engine&) = delete;
  virtual ~engine() = default;

  /// A sequence's rows from `first` on are not what they were, in any layer.
  virtual void forget(int sequence, index_t first) noexcept = 0;
  /// Brings the indices of these heads of one layer to their rows and answers the calls. Certificates `[calls x g]`.
  /// @throws std::exception: memory, or what a call is refused for; nothing is known of the outputs then.
  virtual void attend(int layer, std::span<const head_work> heads, std::span<const head_call> calls,
                      std::span<vattn::certificate> certificates, ggml_team& team) = 0;
  /// Of the calls since the last `forget_audit`.
  virtual vattn::audit_report audit() const = 0;
  virtual void forget_audit() = 0;
  virtual index_t rows_indexed() const noexcept = 0;
  /// Indices that were not what one built anew is, where `options.verify` asks for that.
  virtual index_t stale() const noexcept = 0;
};

/// The engine of `options.policy`:
///   default       presets::standard: a sample in proportion to weights predicted by a 2-bit and a 4-bit code
///   proportional  presets::proportional: by a 4-bit code alone
///   fast          presets::fast: by a 1-bit and a 2-bit code
///   never_slower  default, but every row by the dense kernel where a cost model finds that faster
///   strict        presets::strict_output: proved
///   uniform       presets::uniform_output: 2 % top-k by a 4-bit code, and a uniform sample
///   paper         presets::paper, with a 4-bit code to predict: a certificate of the denominator
///   exact         every row, by the library's dense kernel
///   topk          sinks, window and best rows by a 4-bit code, `density` of all; the rest counts as nothing
///   oracle        the same by exact scores
///   window        sinks and the last rows, `density` of all
/// `options` outlives the engine: `density` may change between calls, the rest is as it was.
/// @throws option_error for any other name.
std::unique_ptr<engine> make_engine(const options& options, const engine_extents& extents);
/// True for the names above.
bool known_policy(const std::string& name) noexcept;

}  // namespace vattn_llama_cpp
