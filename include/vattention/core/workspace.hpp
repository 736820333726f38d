// SPDX-License-Identifier: Apache-2.0
/// @file
/// All scratch memory of a call, owned by the caller and reused by the next one.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include "vattention/attention/partial.hpp"
#include "vattention/attention/softmax_sums.hpp"
#include "vattention/core/certificate.hpp"
#include "vattention/core/draw.hpp"
#include "vattention/core/index_set.hpp"
#include "vattention/core/permutation.hpp"
#include "vattention/core/predictions.hpp"
#include "vattention/core/reached_rows.hpp"
#include "vattention/core/scratch.hpp"
#include "vattention/core/share_histogram.hpp"
#include "vattention/core/team.hpp"

namespace vattn {

/// A head's place in a sample in proportion to predicted weight, see `poisson_sample`.
struct poisson_scale {
  /// c, and the rows expected at it.
  double scale = 0.0, size = 0.0;
  /// Of each level: the largest log-weight (of the first look), and (1 - floor) / sum of weights relative to it; 0
  /// without one.
  double largest[2] = {}, per_sum[2] = {};
  /// Of two levels: how far the second one may raise a row, see `proposes_weights`.
  float reach = 0.0F;
  /// Rates whose rows have all been found, and, of two levels, whose rows have all been refined.
  reach_rates searched, settled;
};

/// A head's place in a sample in proportion to upper bounds, see `bounded_sample`.
struct bounded_scale {
  /// c and b of the last look; b of the next one, and the largest z it may meet.
  double scale = 0.0, reference = 0.0, next_reference = 0.0, largest = 0.0;
};

/// What a sample by collisions keeps of a call, see `lsh_sample`.
struct collision_counts {
  static constexpr int most_tables = 1024;

  /// Twice the number of tables in which a row collides with the query, plus its half `[n]`; `most_tables` + 1 for a
  /// row that must be read.
  scratch<std::uint16_t> marks;
  /// How many rows of each half collide in how many tables.
  scratch<index_t> histogram;
  /// The query as it was hashed, and room for a key `[2 x d]`.
  scratch<float> direction;
  /// Of the drawn rows the chance that a plane does not part them from the query; NaN for one that must be read.
  scratch<double> same_side;
  /// Rows expected.
  index_t size = 0;

  static std::uint16_t mark(int tables, int half) noexcept {
    return static_cast<std::uint16_t>(2 * tables + half);
  }
  int tables(index_t row) const noexcept { return marks[row] / 2; }
  std::size_t half(index_t row) const noexcept { return marks[row] % 2; }
  bool must_read(index_t row) const noexcept { return tables(row) > most_tables; }
};

/// What samplers carry from one growth to the next. A sampler of equal probabilities needs the
/// permutation; one of unequal probabilities its shares and the rows it may take.
struct draw_state {
  permutation order;
  index_set ranks;
  /// Eight numbers a query head, the sampler's own.
  scratch<double> constants;

  // in proportion to predicted weight: g of the drawn rows [g x n]; the rows ever found; those that wait, with their
  // log-weights at the predictor's first level; those settled, with the logarithms of their proposals, -inf once
  // they are drawn; and how many were refined
  scratch<float> shares;
  index_set met;
  reached_rows waiting, settled;
  index_t refined = 0;
  scratch<double> histograms;
  scratch<poisson_scale> scales;

  // in proportion to upper bounds: norms of the values [n]; `met` holds the rows of the last look
  scratch<bounded_scale> bounded;
  scratch<float> value_norms;
  int draws_made = 0;

  // by collisions; `met` holds the drawn rows
  collision_counts collisions;
};

/// 1 / p, 1 - p and sqrt(1 - p) of the rows of a block, and their squared value norms behind a row of ones.
struct block_chances {
  static constexpr index_t block = 256;
  float inverse[block], complement[block], root[block];
  float ones_and_norms[2 * block];

  block_chances() noexcept { std::fill_n(ones_and_norms, block, 1.0F); }
  const float* ones() const noexcept { return ones_and_norms; }
  float* norms() noexcept { return ones_and_norms + block; }
};

/// Scratch of one call at a time: give each thread its own. A result refers into it until the next call.
///
/// It grows where a call needs more than any before (amortised, in the checked prologue of the call)
/// and allocates nothing otherwise.
class workspace {
public:
  /// Rows scored, exponentiated and summed at a time: keys, values and weights of a block stay in L2.
  static constexpr index_t block = block_chances::block;
  /// Query heads a group may have.
  static constexpr int most_heads = 64;
  /// Rows behind a block that its kernel is told of, to prefetch.
  static constexpr index_t upcoming = 64;

  /// Makes room for `heads` queries over `rows` rows. Called by every entry point.
  void reserve(int heads, index_t rows, index_t key_dim, index_t value_dim, bool scored) {
    const index_t g = heads;
    exact.reset(rows);
    drawn.reset(rows);
    draws.order.reserve(rows);
    draws.ranks.reset(rows);
    draws.constants.reserve(8 * g);
    draws.refined = 0;
    if (scored) reserve_scores(g, rows);
    addresses.reserve(block + upcoming);
    value_copies.reserve(block * value_dim);
    weights.reserve(3 * g * block);
    sums.reserve(g * value_dim);
    softmax_max.reserve(g);
    softmax_sum.reserve(g);
    softmax_numerator.reserve(g * value_dim);
    chunk_sums.reserve(row_chunks(rows).count() * softmax_sums::doubles(heads, value_dim));
    chunk_counts.reserve(5 * row_chunks(rows).count());
    sample_logits.reserve(g * rows);
    sample_norms.reserve(rows);
    by_group.reserve(rows);
    group_of.reserve(rows);
    squares.reserve(g * rows);
    gram.reserve((variance_groups + 1) * value_dim + 8 * variance_groups);
    partials.reserve(g * partial_view::doubles(value_dim));
    group_sums.reserve(variance_groups * 3 * g * value_dim);
    group_totals.reserve(variance_groups * g);
    rotated.reserve(std::max<index_t>(2 * g, 10) * key_dim);
    query_codes.reserve((g + 1) * (key_dim + 64));
    query_terms.reserve(4 * g);
    code_dots.reserve(2 * (g + 1) * block);
    output.reserve(g * value_dim);
    log_sum_exp.reserve(g);
    log_sum_exp_error.reserve(g);
    certificates.reserve(g);
    sizes.reserve(g);
    value_square = std::numeric_limits<double>::quiet_NaN();
    heads_ = g;
    value_dim_ = value_dim;
    rows_ = rows;
  }

  /// Makes room for a sample in proportion to predicted weight.
  void reserve_proposals(int heads, index_t rows) {
    draws.shares.reserve(heads * rows);
    draws.waiting.reset(heads,
                        2 * rows);  // what was found before, and what each row may add in a search
    draws.settled.reset(heads, rows);
    draws.scales.reserve(heads);
    reserve_looks(heads, rows);
  }

  /// Makes room for bounds of every row's logit, for budgets that need a range.
  void reserve_bounds(int heads, index_t rows) {
    lower.reserve(rows);
    upper.reserve(rows);
    ranges.reserve(2 * index_t{heads});
    draws.bounded.reserve(heads);
    draws.value_norms.reserve(rows);
    reserve_looks(heads, rows);
  }

  /// Makes room for a sample by collisions.
  void reserve_collisions(index_t rows, index_t key_dim) {
    draws.collisions.marks.reserve(rows);
    draws.collisions.histogram.reserve(2 * (collision_counts::most_tables + 1));
    draws.collisions.direction.reserve(2 * key_dim);
    draws.collisions.same_side.reserve(rows);
    draws.met.reset(rows);
  }

  partial_view head(index_t h) noexcept {
    return {partials.data() + h * partial_view::doubles(value_dim_), group_sums_of(0, 0, h),
            3 * heads_ * value_dim_, heads_ * value_dim_, value_dim_};
  }
  /// Vector sums `[d_v]` of a variance group: part 0 is sum a v, 1 sum s v, 2 sum t v.
  float* group_sums_of(index_t group, index_t part, index_t h) noexcept {
    return group_sums.data() + ((3 * group + part) * heads_ + h) * value_dim_;
  }
  /// Logits of the sampled rows of one head, in the order of the draw.
  float* logits_of(index_t h) noexcept { return sample_logits.data() + h * rows_; }
  /// Squares of what they contribute to a sum of that head, see `form_squares`.
  float* squares_of(index_t h) noexcept { return squares.data() + h * rows_; }

  /// Who works on the call.
  team workers;

  index_set exact;
  sample drawn;
  draw_state draws;
  predictions seen;

  // selection
  scratch<std::pair<float, row_t>> candidates;
  scratch<row_t> picks;
  scratch<std::uint64_t> marks;

  // blocks of rows
  scratch<const void*> addresses;
  scratch<float> weights, sums;
  // room for a block's values where a cache scatters them, in their own type
  scratch<float> value_copies;

  // running softmax of the exact rows; of each chunk of rows its sums, and how many of its rows were found
  scratch<double> softmax_max, softmax_sum, softmax_numerator, chunk_sums;
  scratch<index_t> chunk_counts;

  // the sample: logits [g x rows], squared value norms, positions dealt into groups
  scratch<float> sample_logits, sample_norms;
  scratch<std::uint32_t> by_group;
  scratch<std::uint8_t> group_of;
  scratch<float> squares;
  scratch<float> gram;
  scratch<double> partials;
  scratch<float> group_sums;
  scratch<double> group_totals;
  block_chances chances;

  // queries as a predictor wants them; room for one more, for bounds code a query twice
  scratch<float> rotated, query_terms;
  scratch<std::int8_t> query_codes;
  scratch<std::int32_t> code_dots;

  // bounds of one head's logits; largest residual one and the sum of exp below it, of each head
  scratch<float> lower, upper;
  scratch<double> ranges;

  // mean of ||v||^2 over the predictor's index; NaN if that knows none
  double value_square = 0.0;

  // the result
  scratch<float> output;
  scratch<double> log_sum_exp, log_sum_exp_error;
  scratch<certificate> certificates;
  scratch<index_t> sizes;

private:
  void reserve_scores(index_t g, index_t rows) {
    seen.reset(static_cast<int>(g), rows);
    candidates.reserve(rows);
    picks.reserve(rows);
    marks.reserve(2 * (rows / 64 + 1));
  }
  /// What samplers of unequal probabilities share.
  void reserve_looks(index_t heads, index_t rows) {
    draws.met.reset(rows);
    draws.histograms.reserve(share_histogram::buckets * heads);
  }

  index_t heads_ = 0, value_dim_ = 1, rows_ = 0;
};

}  // namespace vattn
