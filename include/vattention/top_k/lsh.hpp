// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from collisions of hashes, and what sampling by collisions needs of a predictor.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

#include "vattention/core/vector_angle.hpp"
#include "vattention/top_k/lsh_index.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn::top_k {

/// Scores a key by the number of tables in which all of its K bits equal the query's, ties by row number; no log-weight.
/// The query is not centred, which keeps the ranking unbiased; its opposite is hashed if logits fall with q.k. A bias
/// counts only where it hides a row.
///
/// With k = 0, which is usual, it picks nothing and serves `base_sampling::lsh` and `dynamic_sampling::lsh` alone. With
/// k > 0 these must not ask the tables that picked: a row is left to the sample only if it collides in few of them, so
/// its probability by the same tables would not be what the angle says, and the estimate would be biased. Hence `kept`:
/// the last so many tables are the sampler's, the others pick. By default that is half of them if rows are picked, all
/// if none are; without a sampler that counts collisions give 0. A sampler that is kept none draws with equal chances.
///
/// Reads L K / 8 bytes a key. K = 1 samples best a byte: 64 tables of 1 bit (8 bytes) do about what 150 of 10 bits do,
/// the numbers of MagicPIG, which are for looking into buckets instead of at all keys. Hashing a query under each
/// pattern of `lsh_planes` is as much arithmetic as the logits of 128 L K rows: this saves reading, not time.
///
/// Measured on captured heads (7,900 keys, d = 64, each trial with planes of its own): samples of 3 % of the rows make
/// errors of the output of 17 / 12 / 9 % with 64 / 128 / 256 tables of 1 bit, 21 % with 32 of 8. In proportion to key
/// codes of 1 / 2 / 4 bits (11, 19 and 36 bytes a key) it is 13 / 5.5 / 3.7 %, uniform 43 %, and uniform behind the 2 %
/// that 128 tables pick 23 %. For epsilon 10 % of the output 128 and 256 tables read 16 and 10 % of the rows, 4-bit
/// codes 5 %. For groups of three heads the errors of 128 tables are 16 % where they are 12 % for single ones.
///
/// Where its certificates end: at delta = 10 % the output's bound missed 5 to 9 % of the calls with tables of 1 bit, on
/// single (head, query) rows up to 67 %, under a single index up to 27 % of its calls; epsilon itself, where it was
/// asked, 2 to 5 %. With tables of 16 bits the bound missed 10 to 14 %, with this predictor's picks and a uniform sample
/// 13 to 19 %. 1.645 standard errors of the denominator missed 20 to 28 %. So nothing is vouched for.
///
/// Source: Chen et al., MagicPIG (arXiv 2410.16179); Charikar, STOC 2002.
class lsh {
public:
  using role = vattn::role::top_k;
  using index_type = lsh_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;
  static constexpr int usual_kept = -1;

  /// L tables of K = 1, 2, 4, 8 or 16 bits, L K a multiple of 64 up to 1,024; k as rows, or as a share of the visible
  /// rows; planes are made from the seed.
  /// @throws std::invalid_argument for other numbers, and unless `kept` is -1 (the usual number) to L, below L if k > 0.
  explicit lsh(int tables = 128, int bits = 1, extent k = rows(0), std::uint64_t seed = 0,
               int kept = usual_kept)
      : k_(k), seed_(seed), tables_(tables), bits_(bits) {
    require(bits == 1 || bits == 2 || bits == 4 || bits == 8 || bits == 16, "lsh",
            "1, 2, 4, 8 or 16 bits a table", bits);
    require(tables >= 1 && tables <= lsh_index::most_bits / bits && tables * bits % 64 == 0, "lsh",
            "tables of 64, 128, ... 1024 bits in all (tables, bits a table)", tables, bits);
    const bool picks_some = k.of(std::numeric_limits<row_t>::max()) > 0;
    require(kept >= usual_kept && kept <= tables - (picks_some ? 1 : 0), "lsh",
            "no more tables kept than there are, and one to pick by if k > 0 (kept, tables)", kept,
            tables);
    kept_ = kept != usual_kept ? kept : picks_some ? tables / 2 : tables;
  }

  lsh_index make_index(index_t key_dim) const { return {tables_, bits_, key_dim, seed_}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const lsh_index& index, predictions& seen,
               workspace& ws) const noexcept {
    std::uint64_t signatures[most_words];
    float* const x = ws.rotated.data();
    for (int h = 0; h < call.heads(); ++h) {
      call.rising_query(h, x);
      index.hash_query(x, x + index.dim(), signatures);
      ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
        float* const scores = seen.scores(h).data() + rows.first;
        std::uint16_t marks[workspace::block];
        for (index_t at = rows.first; at < rows.last; at += workspace::block) {
          const index_t end = std::min(rows.last, at + workspace::block);
          index.count(signatures, {at, end}, 0, tables_ - kept_, marks);
          for (index_t row = at; row < end; ++row) {
            const int agreeing = marks[row - at] / 2;
            scores[row - rows.first] = static_cast<float>(agreeing);
          }
        }
        hide_rows(call, h, rows, scores);
        index.odd().mark(rows.first, rows.last, scores);
      });
    }
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_top(call, k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.of(call.visible);
  }
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return bytes_of(tables_ - kept_, call.visible);
  }
  basis coverage() const noexcept { return basis::unmeasured; }

  /// Tables that a sampler may ask, and bits of each.
  int tables() const noexcept { return kept_; }
  int bits() const noexcept { return bits_; }

  /// In how many of the kept tables each visible row agrees with the mean direction of the heads' queries: one sample
  /// serves them all. The chance of a key is that of its angle to the mean; that it collides with one of several
  /// queries under the same planes has no closed form, and with a share of the tables for each query the errors of
  /// captured heads are 1.2 times as large at the same rows. Where queries are at large angles to each other the mean
  /// is near none of them: what is heavy for one alone is drawn with a small chance, which is known too.
  template <cache_view View>
  void collide(const attention_call<View>& call, const lsh_index& index,
               workspace& ws) const noexcept {
    std::uint64_t signatures[most_words];
    collision_counts& found = ws.draws.collisions;
    float* const direction = found.direction.data();
    mean_direction(call, direction);
    index.hash_query(direction, ws.rotated.data(), signatures);
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      index.count(signatures, rows, tables_ - kept_, tables_, found.marks.data() + rows.first);
    });
    for (const row_t row : index.odd().rows())
      if (const auto at = static_cast<index_t>(row); at < call.visible)
        found.marks[at] = collision_counts::mark(collision_counts::most_tables + 1,
                                                 static_cast<int>(found.half(at)));
  }
  /// After `collide`: the chance that a plane has the row's key and that direction on the same side.
  template <cache_view View>
  double same_side(const attention_call<View>& call, const lsh_index& index, row_t row,
                   workspace& ws) const noexcept {
    float* const direction = ws.draws.collisions.direction.data();
    float* const key = direction + index.dim();
    index.load(call.kv, static_cast<index_t>(row), key);
    return 1.0 - angle_between(direction, key, index.dim()) / std::numbers::pi;
  }
  template <cache_view View>
  index_t bytes_collided(const attention_call<View>& call) const noexcept {
    return picks(call) == 0 ? bytes_of(kept_, call.visible) : bytes_of(tables_, call.visible);
  }

private:
  static constexpr int most_words = lsh_planes::patterns * lsh_index::most_bits / 64;

  index_t bytes_of(int tables, index_t rows) const noexcept {
    return (index_t{tables} * bits_ + 63) / 64 * 8 * rows;
  }
  /// Sum of the finite queries scaled to length 1, pointing to where logits rise; zero if there is none.
  template <cache_view View>
  static void mean_direction(const attention_call<View>& call, float* out) noexcept {
    const index_t dim = call.queries.dim;
    std::fill_n(out, dim, 0.0F);
    for (int h = 0; h < call.heads(); ++h) {
      const float* query = call.queries.data + h * call.queries.stride;
      double square = 0.0;
      for (index_t j = 0; j < dim; ++j)
        square += static_cast<double>(query[j]) * static_cast<double>(query[j]);
      if (!(square > 0.0 && std::isfinite(square))) continue;
      const double factor = (call.scale < 0.0F ? -1.0 : 1.0) / std::sqrt(square);
      for (index_t j = 0; j < dim; ++j)
        out[j] += static_cast<float>(factor * static_cast<double>(query[j]));
    }
  }

  extent k_;
  std::uint64_t seed_;
  int tables_, bits_, kept_ = 0;
};
static_assert(top_k_policy<lsh>);
static_assert(counts_collisions<lsh>);

}  // namespace vattn::top_k
