// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from soft collisions: keys hashed hard into tables, queries softly.
#pragma once

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/core/rotation.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/frozen_centre.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/long_values.hpp"
#include "vattention/top_k/odd_rows.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn::top_k {

/// Buckets of each centred key in L tables, one byte each `[rows x L]`, and ||v|| of each row as fp16. Bit k of a
/// bucket is the sign of the key's projection on plane k of the table. The L K planes are given, or else the
/// coordinates of rotations with fixed seeds, one after the other; the centre is a `frozen_centre`.
///
/// Memory a key: L + 2 bytes; beside 4 L K d bytes of planes that are given.
class socket_index {
public:
  socket_index(int tables, int planes, index_t key_dim)
      : centre_(key_dim), dim_(key_dim), tables_(tables), planes_(planes) {
    for (index_t done = 0; done < index_t{tables} * planes; done += key_dim)
      turns_.emplace_back(key_dim, first_seed + static_cast<std::uint64_t>(done));
  }
  /// Of given planes `[L K x d]`, row-major, table by table: a projection is the product with a row. They are stored in
  /// its file.
  /// @throws std::invalid_argument for another number of numbers, or one that is not finite.
  socket_index(std::vector<float> normals, int tables, int planes, index_t key_dim)
      : normals_(std::move(normals)),
        centre_(key_dim),
        dim_(key_dim),
        tables_(tables),
        planes_(planes) {
    require(static_cast<index_t>(normals_.size()) == index_t{tables} * planes * key_dim,
            "socket_index",
            "tables x planes x dimension numbers (numbers, tables, planes, dimension)",
            normals_.size(), tables, planes, key_dim);
    for (std::size_t i = 0; i < normals_.size(); ++i)
      require(std::isfinite(normals_[i]), "socket_index", "finite planes (plane, number)",
              static_cast<index_t>(i) / key_dim, normals_[i]);
  }

  /// Takes in the rows [rows(), kv.rows()). O(L K log d + d_v) a key, O(L K d + d_v) if the planes are given; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("socket_index::append", kv, dim_, rows_);
    type_.require_of("socket_index::append", kv, rows_);
    const bool settled = rows_ >= frozen_centre::rows;
    const index_t first = settled ? rows_ : 0;
    const auto dim = static_cast<std::size_t>(dim_), count = static_cast<std::size_t>(tables_);
    std::vector<float> x(dim), turned(dim), projections(count * static_cast<std::size_t>(planes_));
    std::vector<float> value(static_cast<std::size_t>(kv.value_dim()));
    std::vector<std::uint8_t> buckets(count * static_cast<std::size_t>(kv.rows() - first));
    std::vector<std::uint16_t> norms(static_cast<std::size_t>(kv.rows() - first));
    odd_rows odd = settled ? odd_ : odd_rows();
    frozen_centre centre(settled ? 0 : dim_);
    if (!settled) centre.settle(kv);
    const frozen_centre& about = settled ? centre_ : centre;
    for (index_t row = first; row < kv.rows(); ++row) {
      about.load(kv, row, x.data());
      odd.add(row, x);
      project(x.data(), turned.data(), projections.data());
      hash(projections.data(), buckets.data() + (row - first) * tables_);
      norms[static_cast<std::size_t>(row - first)] = half_norm(value_square(kv, row, value));
    }
    reserve_ahead(buckets_, tables_ * kv.rows());
    reserve_ahead(norms_, kv.rows());
    // From here on nothing throws.
    buckets_.resize(static_cast<std::size_t>(tables_ * first));
    buckets_.insert(buckets_.end(), buckets.begin(), buckets.end());
    norms_.resize(static_cast<std::size_t>(first));
    norms_.insert(norms_.end(), norms.begin(), norms.end());
    odd_ = std::move(odd);
    if (!settled) centre_ = std::move(centre);
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on, all where that leaves fewer than settle the centre.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows < frozen_centre::rows ? 0 : rows;
    odd_.forget(rows_);
    buckets_.resize(static_cast<std::size_t>(tables_ * rows_));
    norms_.resize(static_cast<std::size_t>(rows_));
  }

  static constexpr const char* kind = "socket";
  template <class File>
  void exchange(File& file) {
    file.same("tables", tables_);
    file.same("planes", planes_);
    file.same("dimension", dim_);
    file.same("planes that are given", normals_.empty() ? 0 : 1);
    file.numbers(normals_, static_cast<index_t>(normals_.size()));
    file.number(rows_);
    type_.exchange(file);
    centre_.exchange(file);
    file.numbers(buckets_, tables_ * rows_);
    // A damaged file must not lead beyond a table.
    for (std::uint8_t& bucket : buckets_)
      bucket = static_cast<std::uint8_t>(bucket & (corners() - 1));
    file.numbers(norms_, rows_);
    odd_.exchange(file, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim_ == kv.key_dim() && type_.admits(kv, rows_);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  index_t dim() const noexcept { return dim_; }
  int tables() const noexcept { return tables_; }
  int planes() const noexcept { return planes_; }
  /// Buckets of a table.
  int corners() const noexcept { return 1 << planes_; }
  /// Buckets of a row `[L]`.
  const std::uint8_t* buckets(index_t row) const noexcept {
    return buckets_.data() + row * tables_;
  }
  /// ||v|| of a row to 2^-11 of it (2^-25 at least); +inf from 65,520 on and where it is not finite.
  float norm(index_t row) const noexcept {
    return kernels::f16_to_float(norms_[static_cast<std::size_t>(row)]);
  }
  const odd_rows& odd() const noexcept { return odd_; }

  /// Projections of `x` `[d]`, which is kept, on the planes of all tables: `out` `[L x K]`; `turned` is scratch `[d]`.
  /// Products with given planes are summed in double in the order of coordinates, the same on every machine.
  void project(const float* x, float* turned, float* out) const noexcept {
    const index_t count = index_t{tables_} * planes_;
    for (std::size_t at = 0; at < normals_.size(); ++out) {
      double sum = 0.0;
      for (index_t j = 0; j < dim_; ++j, ++at)
        sum += static_cast<double>(x[j]) * static_cast<double>(normals_[at]);
      *out = static_cast<float>(sum);
    }
    index_t done = 0;
    for (const rotation& turn : turns_) {
      std::copy_n(x, dim_, turned);
      turn.apply(turned);
      const index_t part = std::min(dim_, count - done);
      std::copy_n(turned, part, out + done);
      done += part;
    }
  }

private:
  static constexpr std::uint64_t first_seed = 0x50C4E7;

  void hash(const float* projections, std::uint8_t* buckets) const noexcept {
    for (int table = 0; table < tables_; ++table) {
      int bucket = 0;
      for (int plane = 0; plane < planes_; ++plane)
        bucket |= *projections++ > 0.0F ? 1 << plane : 0;
      buckets[table] = static_cast<std::uint8_t>(bucket);
    }
  }
  static std::uint16_t half_norm(double square) noexcept {
    constexpr std::uint16_t infinite = 0x7C00;
    return std::isfinite(square) ? kernels::f16_nearest(static_cast<float>(std::sqrt(square)))
                                 : infinite;
  }

  /// Either is empty.
  std::vector<rotation> turns_;
  std::vector<float> normals_;
  frozen_centre centre_;
  std::vector<std::uint8_t> buckets_;
  std::vector<std::uint16_t> norms_;
  odd_rows odd_;
  index_t dim_, rows_ = 0;
  indexed_type type_;
  int tables_, planes_;
};

/// Scores a row by how likely a soft hash of the query falls into the row's buckets, times ||v||:
///   ||v|| sum_t p_t(bucket of the row in table t),  p_t = softmax over the 2^K corners e in {-1, 1}^K of
///   sum_k tanh(x_k) e_k / (sqrt(d) tau), with x_k the query's projection on plane k of the table.
/// The exponent is a sum over planes, so the softmax is a product over them: with c = 1 / (sqrt(d) tau)
///   p_t(e) = prod_k sigmoid(2 c e_k tanh(x_k)),
/// and no sum over corners has to be formed.
/// Source: SOCKET, the soft collision kernel estimator for sparse attention. The planes have length 1 here, unless they
/// are given; with normal ones of length sqrt(d) nearly every tanh is at its end, and recall is lower.
///
/// The query is not centred, which keeps the ranking of collisions unbiased; its opposite is hashed if logits fall
/// with q.k. A bias counts only where it hides a row, a soft-cap not at all. The score is no log-weight. Ties go by
/// row number. Rows whose value norm is not finite, or 65,520 and more, are read.
///
/// Reads L + 2 bytes a key. Costs L look-ups and additions a key and head, in tables of 2^K floats that are made once
/// a call, or L K products where there are fewer visible rows than L 2^K. A look-up takes about a cycle: at d = 128
/// more than some 10 tables take longer than the exact logits of keys at hand, so this saves reading, not time.
///
/// A weak predictor a byte: of the true top 2 % of captured heads (d = 64) it finds 14 to 18 % with 64 tables of 4
/// planes, 20 to 27 % with 60 of 8. Few planes do not tell keys apart where the values' lengths differ much.
///
/// Where its certificates end: beside it a uniform sample made errors of up to 200 % at epsilon 5 % on captured heads.
class socket {
public:
  using role = vattn::role::top_k;
  using index_type = socket_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;
  /// On captured heads within 15 % of the best recall, for 4 planes (which want 0.1 to 0.15) and for 8 (0.15 to 0.3).
  /// A larger tau leaves more to ||v||, a smaller one counts full collisions alone.
  static constexpr double usual_tau = 0.2;

  /// 1 to 64 tables of 1 to 8 planes; k as rows, or as a share of the visible rows; tau is the temperature of the
  /// query's hash.
  /// @throws std::invalid_argument for another number of either, or unless tau is finite and above 0.
  socket(int tables, int planes, extent k, double tau = usual_tau)
      : tables_(tables), planes_(planes), k_(k), tau_(tau) {
    require(tables >= 1 && tables <= 64, "socket", "1 to 64 tables", tables);
    require(planes >= 1 && planes <= 8, "socket", "1 to 8 planes a table", planes);
    require(tau > 0.0 && std::isfinite(tau), "socket", "a finite tau > 0", tau);
  }

  socket_index make_index(index_t key_dim) const { return {tables_, planes_, key_dim}; }
  /// An index of given planes, see `socket_index`.
  /// @throws std::invalid_argument as the index.
  socket_index make_index(std::vector<float> normals, index_t key_dim) const {
    return {std::move(normals), tables_, planes_, key_dim};
  }

  template <cache_view View>
  void predict(const attention_call<View>& call, const socket_index& index, predictions& seen,
               workspace& ws) const noexcept {
    const index_t size = index_t{tables_} << planes_;
    const bool tabled = size <= call.visible;
    for (int h = 0; h < call.heads(); ++h) {
      float* chances = ws.weights.data() + h * most_planes;
      hash(call, index, h, ws.rotated.data(), chances);
      if (tabled) tabulate(chances, ws.squares.data() + h * size);
    }
    ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
      for (int h = 0; h < call.heads(); ++h) {
        float* scores = seen.scores(h).data() + rows.first;
        const float* chances = ws.weights.data() + h * most_planes;
        const float* table = ws.squares.data() + h * size;
        if (tabled)
          score(
              index, rows, [=, this](int t, int corner) { return table[(t << planes_) + corner]; },
              scores);
        else
          score(
              index, rows,
              [=, this](int t, int corner) { return chance(chances + t * planes_, corner); },
              scores);
        hide_rows(call, h, rows, scores);
        index.odd().mark(rows.first, rows.last, scores);
      }
    });
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_top(call, k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return (tables_ + 2) * call.visible;
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  /// Room for the chances of a head in ws.weights; 64 tables of 8 planes have as many.
  static constexpr index_t most_planes = 512;
  static_assert(most_planes <= 3 * workspace::block);

  /// The soft hash of a head's query: for each plane of each table the chance of a 1, `[L x K]`.
  template <cache_view View>
  void hash(const attention_call<View>& call, const socket_index& index, int h, float* turned,
            float* chances) const noexcept {
    index.project(call.queries.data + h * call.queries.stride, turned, chances);
    const double steepness = std::min(2.0 / (std::sqrt(static_cast<double>(index.dim())) * tau_),
                                      std::numeric_limits<double>::max());
    const double slope = call.scale < 0.0F ? -steepness : steepness;
    for (int i = 0; i < tables_ * planes_; ++i)
      chances[i] = static_cast<float>(
          1.0 / (1.0 + std::exp(-slope * std::tanh(static_cast<double>(chances[i])))));
  }

  /// Chance of a corner of a table, given those of its planes.
  float chance(const float* chances, int corner) const noexcept {
    float product = 1.0F;
    for (int k = 0; k < planes_; ++k)
      product *= (corner >> k & 1) != 0 ? chances[k] : 1.0F - chances[k];
    return product;
  }

  /// The same of all corners of all tables, to the bit: `[L x 2^K]`.
  void tabulate(const float* chances, float* out) const noexcept {
    for (int t = 0; t < tables_; ++t, chances += planes_, out += index_t{1} << planes_) {
      out[0] = 1.0F;
      for (int k = 0; k < planes_; ++k)
        for (int corner = 0; corner < 1 << k; ++corner) {
          out[corner + (1 << k)] = out[corner] * chances[k];
          out[corner] *= 1.0F - chances[k];
        }
    }
  }

  /// Scores of some rows; `chance_of(table, corner)`. Tables are added by turns to four sums, which need not wait for
  /// each other. A norm that is not finite makes NaN of a score.
  template <class ChanceOf>
  void score(const socket_index& index, half_open rows, ChanceOf chance_of,
             float* out) const noexcept {
    for (index_t row = rows.first; row < rows.last; ++row) {
      const std::uint8_t* buckets = index.buckets(row);
      float sum[4] = {};
      int t = 0;
      for (; t + 4 <= tables_; t += 4)
        for (int i = 0; i < 4; ++i) sum[i] += chance_of(t + i, buckets[t + i]);
      for (; t < tables_; ++t) sum[0] += chance_of(t, buckets[t]);
      const float product = ((sum[0] + sum[1]) + (sum[2] + sum[3])) * index.norm(row);
      out[row - rows.first] = product + 0.0F * product;
    }
  }

  int tables_, planes_;
  extent k_;
  double tau_;
};
static_assert(top_k_policy<socket>);

}  // namespace vattn::top_k
