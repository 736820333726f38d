// SPDX-License-Identifier: Apache-2.0
/// @file
/// The map: every public name, in the order of a call. Start here, then `functor.hpp`.
///
/// Symbols used throughout: n cache rows, d key dimension, d_v value dimension, g query heads of a group,
/// k top-k, b sampled rows, l logit (natural log units), m largest logit, w = exp(l - m) weight,
/// D = sum w denominator, N = sum w v numerator, o = N / D output, p inclusion probability.
#pragma once

#include <cstdint>

namespace vattn {

// The functor: policies of the six roles, in any order (functor.hpp).
template <class... Policies>
class vattention;

// What a call takes.
struct query_group;    // g query vectors, and how logits are formed (core/query_group.hpp)
struct logit_options;  // scale, soft-cap, bias or mask, learned sinks, visible rows (of each query)
struct draw_key;       // seed, sequence, layer, KV head, step (core/rng.hpp)
class workspace;       // all scratch, one a thread (core/workspace.hpp)

// Caches, read where they are; any `cache_view` will do (core/kv_view.hpp).
enum class element : std::uint8_t;
class rows_view;        // rows at a stride: float, bf16, fp16, q8_0
class kv_view;          // keys and values of one KV head
class cache_tensor;     // keys or values of a batch
class strided_cache;    // both; hands out the kv_view of one head (core/strided_cache.hpp)
class page_pool;        // where the pages of one head are
class paged_view;       // pages through a block table (core/paged_view.hpp)
class columns_view;     // rows stored as columns
class transposed_view;  // values [d_v x n] (core/transposed_view.hpp)
template <class Store>
class cell_view;  // listed cells of a store (core/cell_view.hpp)
template <class Store>
class ring_view;  // the newest row overwrites the oldest (core/ring_view.hpp)

// What it returns.
struct result;        // refers into the workspace (attention/result.hpp)
struct owned_result;  // owns its memory, from the one-line `attend` (attend.hpp)
struct certificate;   // core/certificate.hpp
struct explanation;   // a replayed call: rows, probabilities, looks (core/explanation.hpp)
enum class status : std::uint8_t;
enum class basis : std::uint8_t;
enum class quantity : std::uint8_t;
enum class error_scale : std::uint8_t;
enum class bound_kind : std::uint8_t;
enum class joint_form : std::uint8_t;  // certify/joint.hpp
class partial;                         // mergeable across shards (attention/partial.hpp)
class partial_view;

// What is asked (core/guarantee.hpp).
class epsilon;            // relative to the output's norm
class epsilon_of_values;  // relative to the values' root mean square norm
class absolute_error;
class delta;
class extent;      // rows(128) or fraction(0.02)
class pick_size;   // of predictors: an extent, or mass(0.9) (top_k/pick_size.hpp)
class read_limit;  // at_most(fraction(0.05)), at_most_bytes(n) (core/read_limit.hpp)

// Policies, by role; core/concepts.hpp says what each role promises.
namespace static_indices {
class none;         // default
class sink_window;  // first and last rows
}  // namespace static_indices
namespace top_k {
class none;             // default
class oracle;           // exact scores, top-k or top-p
class key_code;         // rotated 1 / 2 / 4 / 6 / 8-bit codes
class cascade;          // a cheap key code of all keys, a better one of those that matter
class sign_hash;        // packed signs of random projections
class rotation_hash;    // signs of projections fitted to queries and keys
class hash_attention;   // signs of what trained networks make of queries and keys
class lsh;              // collisions of hashes (MagicPIG), for the samplers of the same name
class page_bounds;      // bounds of pages of keys (Quest)
class double_sparsity;  // a few channels of the keys, as 4-bit labels
class product_code;     // sub-vectors by centroids (product quantisation)
class socket;           // soft hash, with the values' norms
class bounded_code;     // sound bounds of scores and values, for budget::strict
// proposing<P>: any predictor of log-weights as a proposal (top_k/proposing.hpp)
}  // namespace top_k
namespace base_sampling {
class uniform;       // without replacement
class proportional;  // in proportion to predicted weight
class lsh;           // by collisions of hashes
template <quantity What>
class bounded;  // in proportion to sound upper bounds
}  // namespace base_sampling
namespace budget {
class clt;        // denominator, the paper's default
class numerator;  // the numerator, in the same way
class joint;      // numerator and denominator, the paper's theorem 4.3, or tighter
template <class Target>
class output;  // the output itself, judged again and grown: the library's default
template <error_scale Scale>
class within;      // the error that a limit of rows or bytes allows
class student_t;   // denominator, Student's quantile
class chi_square;  // denominator, variance at its upper limit
class hoeffding;   // denominator, proved, from the range of the weights (also Serfling's form)
class empirical_bernstein;  // denominator, proved, from range and variance
class fixed;                // a given number of rows
template <quantity What, class Target>
class strict;  // denominator or output, proved, from sound bounds of every weight
}  // namespace budget
namespace dynamic_sampling {
class uniform;       // grows the uniform base sample
class proportional;  // grows the one in proportion to predicted weight
template <quantity What>
class bounded;  // draws anew in proportion to sound upper bounds
}  // namespace dynamic_sampling

namespace cost {
class none;   // default
class model;  // dense attention where a sparse call would take longer
}  // namespace cost
// Its constants; calibrate() measures them (cost/cost_profile.hpp, cost/calibrate.hpp).
struct cost_profile;

// Named compositions: presets::standard, proportional, fast, within, strict_denominator, strict_output,
// uniform_output, paper (presets.hpp); each takes a cost policy by `.with_cost(cost::model())`.

// Many calls at once, on the caller's threads: decode(functor, requests, executor, scratch) and
// dense(requests, executor, scratch) (batch/decode.hpp, batch/dense.hpp); request<View, Index> is one call and
// where its results go (batch/request.hpp), request_batch<View, Index> makes them from plain tensors.
struct batch_tensors;  // batch/request_batch.hpp
struct batch_step;
template <class Workspace>
class decode_workspace;  // scratch of a batch, a workspace a worker
namespace parallel {
class serial;       // the calling thread
class thread_pool;  // threads of its own
class openmp;       // include parallel/openmp.hpp; any `executor` will do (parallel/executor.hpp)
}  // namespace parallel

// Wrappers around a functor, in any nesting: audited<Functor>, ledgered<Functor>.
struct audit_plan;       // which calls, how many heads (audit/audited.hpp)
struct audit_workspace;  // scratch of an audited call, one a thread
struct audit_row;        // counts of a head (audit/audit_report.hpp)
struct audit_report;
enum class finding : std::uint8_t;  // failure signatures and their knobs (audit/finding.hpp)
struct diagnosis_rules;             // when one is found (audit/diagnosis.hpp)
struct diagnosis;
struct delta_plan;     // how many certificates share a delta (ledger/delta_ledger.hpp)
struct ledger_report;  // what was spent of it, and what may be claimed
struct ledger_exhausted;

// How inclusions depend on each other, and what a budget decides.
enum class design : std::uint8_t;
enum class decision : std::uint8_t;

// Random numbers, addressed by index (core/rng.hpp).
class random_stream;

}  // namespace vattn
