// SPDX-License-Identifier: Apache-2.0
/// @file
/// The only door to the instruction sets: a table of leaf functions on raw pointers and counts.
///
/// No kernel allocates, throws or keeps a pointer. Rows come as addresses, so contiguous, strided
/// and paged caches share every kernel. `heads` may be any positive number; each row is read from
/// memory once for all heads. Rows need no alignment. Rows of q8_0 have a `dim` that is a multiple of 32.
#pragma once

#include <cstdint>
#include <string_view>

#include "vattention/core/kv_view.hpp"
#include "vattention/kernels/terms.hpp"

namespace vattn::kernels {

/// The kernel rows, those of one machine worst first.
enum class isa : std::uint8_t { scalar, avx2, avx512, neon };
inline constexpr isa all_isas[] = {isa::scalar, isa::avx2, isa::avx512, isa::neon};

/// Keys of one block of packed codes, see `table::scan_codes`.
inline constexpr int code_block = 16;

/// One row of kernels. u is the unit round-off of float, 2^-24; the bounds hold in round to
/// nearest, and where a product is below 2^-126 they need 2^-149 more for it.
struct table {
  isa id;
  const char* name;

  /// out[h * out_stride + i] = sum_j rows[i][j] * x[h * x_stride + j]. Behind the `count` addresses
  /// lie those of the `upcoming` rows that are read next, by this kernel or another: they are
  /// prefetched as far as it helps, each as if it had the size of these rows.
  /// |error| <= (dim + 2) u * sum_j |rows[i][j] x[h][j]|.
  void (*dot_rows)(element type, const void* const* rows, index_t count, index_t upcoming,
                   index_t dim, const float* x, index_t x_stride, int heads, float* out,
                   index_t out_stride) noexcept;

  /// out[h * out_stride + j] += sum_i weights[h * weight_stride + i] * rows[i][j], and, unless it is
  /// null, norms[i] = sum_j rows[i][j]^2; `upcoming` as above.
  /// |error| of out <= (min(count, 64 + count / 32) + 2) u * (|out before| + sum_i |weights[h][i]
  /// rows[i][j]|): rows are summed from zero in blocks of at most 64, and the blocks then added. A
  /// weight of 0 still lets a NaN or an infinity of its row through. |error| of a norm <= (dim + 2) u
  /// times it.
  void (*sum_rows)(element type, const void* const* rows, index_t count, index_t upcoming,
                   index_t dim, const float* weights, index_t weight_stride, int heads, float* out,
                   index_t out_stride, float* norms) noexcept;

  /// Largest x[i], ignoring NaN; -inf if there is none.
  float (*max_of)(const float* x, index_t count) noexcept;

  /// out[i] = exp(x[i] - shift), returns the sum (accumulated in double). x and out may be the
  /// same. Relative error of out[i] <= 4 u + u |x[i] - shift|; a result below 2^-126 may come out
  /// as 0; NaN and +inf go through; -inf gives 0. `shift` is finite. `out` may be null: the sum alone, off by
  /// at most another 5 u of it.
  double (*exp_shifted)(const float* x, index_t count, float shift, float* out) noexcept;

  /// Integer dot products of packed key codes with int8 queries, exact on every row of the table.
  ///
  /// Codes of `bits` 1, 2, 4 or 8 lie in blocks of 16 keys. A block is `words` words of 64 bytes;
  /// byte 4 k + b of word t belongs to key k (0..15) and holds, in bits [bits*f, bits*(f+1)), the
  /// code of dimension `t * per + 4 f + b`, with `per = 32 / bits` dimensions a word and
  /// f = 0..(8/bits - 1). A code of 1 or 8 bits stands for itself, one of 2 or 4 bits for the
  /// unsigned byte levels[c], which is at most 32 for 2 bits; 16 entries are readable.
  /// out[h * out_stride + 16 * block + k] = sum_dim levels[code] * x[h * x_stride + dim] for the
  /// `words * per` dimensions; |x| <= 127 and at most 4096 dimensions, so nothing overflows.
  void (*scan_codes)(int bits, const std::uint8_t* codes, index_t blocks, index_t words,
                     const std::uint8_t* levels, const std::int8_t* x, index_t x_stride, int heads,
                     std::int32_t* out, index_t out_stride) noexcept;

  /// The same for single keys: `rows[i]` is where key i keeps its `words` words of 4 bytes one after the
  /// other. `upcoming` as for `dot_rows`; out[h * out_stride + i].
  void (*dot_codes)(int bits, const void* const* rows, index_t count, index_t upcoming,
                    index_t words, const std::uint8_t* levels, const std::int8_t* x,
                    index_t x_stride, int heads, std::int32_t* out, index_t out_stride) noexcept;

  /// out[i] = f16(factors[i]) * (slope * sums[i] + rise) + (kappa * norms[i]^2 + offset), at most six
  /// float roundings. NaN where a factor or a norm is.
  void (*weigh_sums)(const std::int32_t* sums, const std::uint16_t* factors, const float* norms,
                     index_t count, const weigh_terms& by, float* out) noexcept;

  /// Norms that bytes stand for: 2^((byte - 128) / 4), 0 for 0 and +inf for 255; the same bits on every
  /// row of the table.
  void (*byte_norms)(const std::uint8_t* bytes, index_t count, float* out) noexcept;

  /// The rows that a draw may take: writes all positions i, ascending, at which for some head
  ///   max(slope (t[h * t_stride + i] - shift_h) + rise_h, floor_h) + reach_h * norms[i] >= log2 u_i,
  /// u_i = (numbers[i] 2^16 + 1) / 2^32 and slope = log2 e, and where t is NaN; returns their number. A
  /// superset: no such row is left out, whatever the rounding, and of others those that miss by up to 7 % of u,
  /// or by a hair. `norms` may be null for no reach; `out` has room for `count`; sums are below 2^16 in size.
  index_t (*within_reach)(const float* t, index_t t_stride, int heads, const reach_terms* by,
                          const float* norms, const std::uint16_t* numbers, index_t count,
                          row_t* out) noexcept;

  /// Logarithms of proposals from log-weights of one level, or of two where `finer` is not null:
  ///   x = max(t[i] + first.offset, first.floor) + first.reach * norms[i],
  ///   out[i] = min(x, max(finer[i] + second.offset, second.floor)),
  /// a NaN of `finer` counting for nothing. The largest float where x is NaN or not below `certain_log`, or t[i]
  /// the largest float itself; -inf where t[i] is. `norms` may be null for no reach; out may be t. At most three
  /// float roundings a level.
  void (*proposal_logs)(const float* t, const float* norms, const proposal_terms& first,
                        const float* finer, const proposal_terms& second, index_t count,
                        float* out) noexcept;

  /// out[i] = f16(factors[i]) * (step * (times * sums[i] + plus)) + offset, the integer part exact
  /// (it fits 32 bits), three float roundings after its own and none fused, so the same bits on
  /// every row of the table.
  void (*scale_sums)(const std::int32_t* sums, const std::uint16_t* factors, index_t count,
                     std::int32_t times, std::int32_t plus, float step, float offset,
                     float* out) noexcept;

  /// Writes the positions of all x[i] that are not below the threshold, NaN among them, ascending;
  /// returns their number. `out` has room for `count`.
  index_t (*not_below)(const float* x, index_t count, float threshold, row_t* out) noexcept;

  /// out[j] = how many x[i] are first + j or more, j = 0..3, and out[4] how many are 0xFFFF; `first` is at most 0xFFFC,
  /// `count` at most 65,536.
  void (*count_reaching)(const std::uint16_t* x, index_t count, std::uint16_t first,
                         index_t* out) noexcept;

  /// Bit i of `above` where x[i] is more than the threshold, of `equal` where it is equal, 64 bits a word; the bits
  /// left over in the last word are 0.
  void (*mark_reaching)(const std::uint16_t* x, index_t count, std::uint16_t threshold,
                        std::uint64_t* above, std::uint64_t* equal) noexcept;

  /// out[i] = 1 + the number of equal bits of signature i (`words` 64-bit words each, row after row) and
  /// `query`: 1 + 64 words - hamming. At most 1,023 words.
  void (*match_signs)(const std::uint64_t* signatures, index_t count, int words,
                      const std::uint64_t* query, std::uint16_t* out) noexcept;

  /// The same of signatures of 32 bits, two a word, the first of them in its lower half: 33 - hamming. A word that is
  /// begun is readable.
  void (*match_halves)(const std::uint64_t* words, index_t count, std::uint32_t query,
                       std::uint16_t* out) noexcept;

  /// The numbers `random_stream::u64` 2 first .. 2 (first + count) - 1 of the stream whose state
  /// (four words, see `random_stream::state`) is given, exact.
  void (*random_blocks)(const std::uint32_t* stream, std::uint64_t first, index_t count,
                        std::uint64_t* out) noexcept;
};

/// The rows, in a template so that a program may compile them once, see VATTN_EXTERN_KERNELS; used
/// through the three functions below.
template <class = void>
struct compiled_rows {
  static bool supported(isa row) noexcept;
  static const table& get(isa row) noexcept;
  /// The row VATTN_ISA names if there is one and it can run, else the best.
  static isa chosen() noexcept;
  static const table& active() noexcept;
};

/// True if this CPU and build can run the row.
inline bool supported(isa row) noexcept { return compiled_rows<>::supported(row); }
/// A row by name; `row` must be supported.
inline const table& get(isa row) noexcept { return compiled_rows<>::get(row); }
/// The best supported row, chosen once; the environment variable VATTN_ISA = scalar | avx2 | avx512 |
/// neon forces one (for tests and benchmarks; an unsupported or unknown name is ignored).
inline const table& active() noexcept { return compiled_rows<>::active(); }

}  // namespace vattn::kernels

#if defined(VATTN_EXTERN_KERNELS)
extern template struct vattn::kernels::compiled_rows<>;
#else
#include "vattention/kernels/dispatch.hpp"
#endif
