// SPDX-License-Identifier: Apache-2.0
/// @file
/// What llama.cpp calls once `vattention.patch` is applied. Knows nothing of the library but names.
///
/// One `vattn_llama` goes with one KV cache. It follows the cache by what it is told of cells that were written and
/// by the mask of each step, and answers decode steps in place of flash attention; whatever it does not know stays
/// dense. A null state means "off" to every function here. Calls for one state are not concurrent, but for the
/// operator, which all of ggml's threads enter together.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

struct ggml_context;
struct ggml_tensor;
struct vattn_llama;

/// What a cache is like.
struct vattn_llama_cache {
  std::uint32_t cells;      ///< of each stream
  std::uint32_t streams;    ///< 1 if all sequences share the cells
  std::uint32_t sequences;  ///< sequence ids are below this
  std::uint32_t layers;     ///< layer numbers are below this
  std::uint32_t cached;     ///< layers that have cells here
  bool has_values;          ///< false where values are a part of the keys
  bool window;              ///< of layers with a sliding window
  bool shared;              ///< the cells are another cache's
};

/// Reads the environment; null if it asks for nothing but dense attention, or the cache is not one to serve. `say` gets
/// one line that tells what is on, what stays dense or what is wrong. See `options.hpp` for the variables.
/// @throws std::runtime_error with that line if something is wrong and VATTN_ON_ERROR is `refuse`; else it is dense.
std::shared_ptr<vattn_llama> vattn_llama_create(const vattn_llama_cache& cache,
                                                void (*say)(const char* line));

/// The next computation writes these cells of a stream: their keys are new, whatever they were before. In the order in
/// which the tokens came.
void vattn_llama_written(vattn_llama* state, std::uint32_t stream, const std::uint32_t* cells,
                         std::size_t count);
/// All keys of a stream may change, e.g. by a copy or as positions shift.
void vattn_llama_rewritten(vattn_llama* state, std::uint32_t stream);
/// Which sequences the tokens of the next computation belong to: `sequences[token][0]`.
void vattn_llama_tokens(vattn_llama* state, const std::int32_t* const* sequences,
                        std::size_t tokens);

/// Attention of one layer, `[d_v * heads, tokens]` as flash attention's result reshaped, or null for a step that
/// stays dense.
///   q     f32 `[d, heads, tokens]`, the tokens of a stream next to each other
///   k, v  `[d, KV heads, cells, streams]`, views of the cache
///   mask  f16 `[cells, tokens of a stream, 1, streams]`; -inf hides a cell
///   more  there is something else in the logits: a bias, sinks
/// @throws std::runtime_error as `vattn_llama_create`, the first time that a layer is not supported.
ggml_tensor* vattn_llama_attend(vattn_llama* state, ggml_context* ctx, ggml_tensor* q,
                                ggml_tensor* k, ggml_tensor* v, ggml_tensor* mask, bool more,
                                float scale, float soft_cap, float alibi, int layer);
