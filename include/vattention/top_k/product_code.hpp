// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k from product-quantised keys: each part of a key is one of a few centroids.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/odd_rows.hpp"
#include "vattention/top_k/part_centroids.hpp"
#include "vattention/top_k/pick_size.hpp"

namespace vattn::top_k {

/// Codes of keys in parts, and the centroids that they stand for.
///
/// The centroids are given, e.g. fitted to keys of a capture, and never change. Or else they are fitted to the finite
/// ones among the first `fitted_on(rows())` rows, hence never again from row 1,024 on. Until then they are fitted, and
/// all rows coded, anew whenever that number changes, so an index grown row by row equals one built at once. Keys that
/// come later are coded as the first ones are, by the nearest centroid.
///
/// Memory a key: a byte a part, or half of one for 4 bits, e.g. 16 bytes for 16 parts of 8 bits; beside the centroids.
class product_code_index {
public:
  /// Rows that the centroids are fitted to in the end.
  static constexpr index_t fit_rows = 1024;
  /// Rows coded together: their codes of one part lie side by side.
  static constexpr index_t block = 256;

  /// Of centroids that it fits itself.
  /// @throws std::invalid_argument as `part_centroids`.
  product_code_index(index_t parts, int bits, index_t key_dim) : centroids_(parts, bits, key_dim) {}
  /// Of given centroids.
  explicit product_code_index(part_centroids given) : centroids_(std::move(given)), given_(true) {}

  /// Rows whose keys are fitted in a cache of `rows`: none where the centroids are given; else all up to 2^bits, where
  /// the code is exact; then `rows` rounded down to one of four steps an octave; 1,024 at most.
  index_t fitted_on(index_t rows) const noexcept {
    if (given_) return 0;
    if (rows >= fit_rows || rows <= centroids_.count()) return std::min(rows, fit_rows);
    const auto step = static_cast<index_t>(std::bit_floor(static_cast<std::uint64_t>(rows)) / 4);
    return rows / step * step;
  }

  /// Takes in the rows [rows(), kv.rows()). O(2^bits d) a key, ten times that for one that is fitted; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("product_code_index::append", kv, dim(), rows_);
    type_.require_of("product_code_index::append", kv, rows_);
    if (fitted_on(kv.rows()) == fitted_on(rows_)) return take_in(kv);
    product_code_index anew(centroids_.parts(), centroids_.bits(), dim());
    anew.centroids_.fit(finite_keys(kv, fitted_on(kv.rows())));
    anew.take_in(kv);
    *this = std::move(anew);
  }

  /// Forgets the rows from `rows` on, all where that leaves other rows to be fitted.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = fitted_on(rows) == fitted_on(rows_) ? rows : 0;
    if (rows_ == 0 && !given_) centroids_.clear();
    codes_.resize(static_cast<std::size_t>(bytes_of(rows_)));
    for (index_t plane = 0; plane < planes() && rows_ % block != 0; ++plane)
      std::fill_n(byte_at(rows_, plane), block - rows_ % block, std::uint8_t{0});
    odd_.forget(rows_);
  }

  static constexpr const char* kind = "product_code";
  template <class File>
  void exchange(File& file) {
    file.same("parts", centroids_.parts());
    file.same("bits", centroids_.bits());
    file.same("dimension", dim());
    file.same("centroids that are given", given_ ? 1 : 0);
    file.number(rows_);
    type_.exchange(file);
    centroids_.exchange(file);
    file.numbers(codes_, bytes_of(rows_));
    odd_.exchange(file, rows_);
  }

  index_t rows() const noexcept { return rows_; }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return dim() == kv.key_dim() && type_.admits(kv, rows_);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return rows_ == kv.rows() && fits(kv);
  }

  index_t dim() const noexcept { return centroids_.dim(); }
  const part_centroids& centroids() const noexcept { return centroids_; }
  /// Bytes a key.
  index_t planes() const noexcept { return planes(centroids_.parts(), centroids_.bits()); }
  static index_t planes(index_t parts, int bits) noexcept {
    return bits == 4 ? (parts + 1) / 2 : parts;
  }
  /// What the codes of a part in the block of rows that begins with `first` are made of: byte i holds that of row
  /// first + i in the bits from `shift(part)` on.
  const std::uint8_t* codes(index_t first, index_t part) const noexcept {
    return codes_.data() + offset_of(first, packed() ? part / 2 : part);
  }
  int shift(index_t part) const noexcept { return packed() && part % 2 != 0 ? 4 : 0; }
  /// The centroid that part `part` of a row is coded as; 0 for a key that is not finite.
  int code(index_t row, index_t part) const noexcept {
    const int byte = codes(row / block * block, part)[row % block];
    return byte >> shift(part) & (static_cast<int>(centroids_.count()) - 1);
  }
  const odd_rows& odd() const noexcept { return odd_; }

private:
  bool packed() const noexcept { return centroids_.bits() == 4; }
  /// Whole blocks.
  index_t bytes_of(index_t rows) const noexcept {
    return (rows + block - 1) / block * block * planes();
  }
  index_t offset_of(index_t row, index_t plane) const noexcept {
    return (row / block * planes() + plane) * block + row % block;
  }
  std::uint8_t* byte_at(index_t row, index_t plane) noexcept {
    return codes_.data() + offset_of(row, plane);
  }

  template <cache_view View>
  static std::vector<float> finite_keys(const View& kv, index_t rows) {
    const index_t dim = kv.key_dim();
    std::vector<float> keys(static_cast<std::size_t>(rows * dim));
    index_t finite = 0;
    for (index_t row = 0; row < rows; ++row) {
      float* const key = keys.data() + finite * dim;
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim, key);
      finite += std::all_of(key, key + dim, [](float x) { return std::isfinite(x); }) ? 1 : 0;
    }
    keys.resize(static_cast<std::size_t>(finite * dim));
    return keys;
  }

  /// Codes the rows from rows() on by the centroids as they are.
  template <cache_view View>
  void take_in(const View& kv) {
    std::vector<float> key(static_cast<std::size_t>(dim()));
    const auto load = [&](index_t row) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim(), key.data());
    };
    odd_rows odd = odd_;
    for (index_t row = rows_; row < kv.rows(); ++row) {
      load(row);
      odd.add(row, key);
    }
    reserve_ahead(codes_, bytes_of(kv.rows()));
    // From here on nothing throws.
    codes_.resize(static_cast<std::size_t>(bytes_of(kv.rows())));
    odd_ = std::move(odd);
    type_.took(kv);
    for (; rows_ < kv.rows(); ++rows_) {
      load(rows_);
      for (index_t part = 0; part < centroids_.parts(); ++part) {
        const int code = centroids_.nearest(part, key.data() + centroids_.first(part));
        *byte_at(rows_, packed() ? part / 2 : part) |=
            static_cast<std::uint8_t>(code << shift(part));
      }
    }
  }

  part_centroids centroids_;
  std::vector<std::uint8_t> codes_;
  odd_rows odd_;
  index_t rows_ = 0;
  indexed_type type_;
  bool given_ = false;
};

/// Scores a row by its coded key: the sum over the parts of q_part . centroid, from a table a part, as a logit
/// (scale, soft-cap and bias applied). A log-weight, off by the query's product with what the code leaves of the key.
/// Sources: Jegou, Douze and Schmid, "Product quantization for nearest neighbor search", TPAMI 2011; of keys: PQCache,
/// arXiv 2407.12820. The centroids minimise the keys' squared errors and new keys are coded by distance; the variant
/// for inner products, which codes new keys in another way, is not this one.
///
/// Reads a byte a part and key (half of one for 4 bits) and the centroids, 4 d 2^bits bytes a call: of use where a
/// cache has many more than 2^bits rows. It never fits again, so keys unlike the first 1,024 are coded coarsely;
/// centroids that are given instead are as good as the keys they were fitted to are like the cache's.
///
/// Where its certificates end: on captured heads centroids of the first keys miss the few long keys that matter, and
/// beside it a uniform sample made errors of up to 147 % at epsilon 5 %. As a proposal (`proposing`; epsilon = delta =
/// .1) 16 x 8 bits read 13 % of the rows and 23 % of the bytes, more than a 2-bit code (6.6 and 14 %), and 150 of 3,072
/// captured (head, query) rows were beyond epsilon more often than delta (32 x 4 bits: 237), with errors of up to 436 %.
class product_code {
public:
  using role = vattn::role::top_k;
  using index_type = product_code_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  /// Parts of near equal length, 1 to 4,096, at most as many as the key has coordinates (more stand for that many);
  /// 4 to 8 bits a part; k as rows, a share of the visible rows, or a share of the mass.
  /// @throws std::invalid_argument for other numbers of parts or bits.
  product_code(index_t parts, int bits, pick_size k) : parts_(parts), bits_(bits), k_(k) {
    require(parts >= 1 && parts <= rows_view::max_dim, "product_code", "1 to 4096 parts", parts);
    require(bits >= 4 && bits <= 8, "product_code", "4 to 8 bits", bits);
  }

  product_code_index make_index(index_t key_dim) const { return {parts_, bits_, key_dim}; }
  /// An index of given centroids.
  /// @throws std::invalid_argument for other parts or bits than the policy's.
  product_code_index make_index(part_centroids given) const {
    require(given.bits() == bits_, "product_code::make_index",
            "centroids of the policy's bits (theirs, the policy's)", given.bits(), bits_);
    const index_t parts = std::min(parts_, given.dim());
    require(given.parts() == parts, "product_code::make_index",
            "centroids of the policy's parts (theirs, the policy's)", given.parts(), parts);
    return product_code_index(std::move(given));
  }

  template <cache_view View>
  void predict(const attention_call<View>& call, const product_code_index& index, predictions& seen,
               workspace& ws) const noexcept {
    if (call.heads() == 1) return predict_by<1>(call, index, seen, ws);
    if (call.heads() == 2) return predict_by<2>(call, index, seen, ws);
    predict_by<4>(call, index, seen, ws);
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_sized(call, k_, ws);
  }
  /// Rows that `select` takes for each head, at most.
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return k_.most(call.visible);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    const index_t dim = call.kv.key_dim();
    const index_t a_key = product_code_index::planes(std::min(parts_, dim), bits_);
    return call.visible * a_key + 4 * (dim << bits_);
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  /// Tables of parts [first, last), `[parts x groups x 2^bits x lanes]`: heads go in groups of `lanes`, the last one
  /// filled up by queries of 0.
  template <std::size_t lanes>
  struct tables {
    const part_centroids& centroids;
    float* data;
    index_t groups, first, last;

    static constexpr auto width = static_cast<index_t>(lanes);
    float* of(index_t part, index_t group) const noexcept {
      return data + ((part - first) * groups + group) * centroids.count() * width;
    }
    void fill(const query_group& queries) const noexcept {
      for (index_t part = first; part < last; ++part)
        for (index_t group = 0; group < groups; ++group) fill(queries, part, group);
    }

  private:
    void fill(const query_group& queries, index_t part, index_t group) const noexcept {
      const index_t count = centroids.count();
      float* const out = of(part, group);
      std::fill_n(out, count * width, 0.0F);
      for (index_t j = 0; j < centroids.width(part); ++j) {
        const float* const centroid = centroids.of(part) + j * count;
        float q[lanes];
        for (index_t l = 0; l < width; ++l) {
          const index_t h = group * width + l;
          q[l] = h < queries.heads ? queries.data[h * queries.stride + centroids.first(part) + j]
                                   : 0.0F;
        }
        for (index_t c = 0; c < count; ++c)
          for (index_t l = 0; l < width; ++l) out[c * width + l] += q[l] * centroid[c];
      }
    }
  };

  /// In as many passes as it takes for the tables to fit into scratch memory; the parts are added in their order, so
  /// the same bits come out of any number of passes.
  template <std::size_t lanes, class View>
  void predict_by(const attention_call<View>& call, const product_code_index& index,
                  predictions& seen, workspace& ws) const noexcept {
    const index_t heads = call.heads(), parts = index.centroids().parts();
    constexpr auto width = static_cast<index_t>(lanes);
    const index_t groups = (heads + width - 1) / width;
    const index_t a_part = groups * width * index.centroids().count();
    // A part's tables always fit into the weights: there are 3 heads * 256 of those.
    const index_t in_squares = heads * call.visible / a_part;
    const index_t in_weights = 3 * heads * workspace::block / a_part;
    float* const room = in_squares > in_weights ? ws.squares.data() : ws.weights.data();
    const index_t at_once = std::max(in_squares, in_weights);
    for (index_t first = 0; first < parts; first += at_once) {
      const tables<lanes> part{index.centroids(), room, groups, first,
                               std::min(parts, first + at_once)};
      part.fill(call.queries);
      ws.workers.over_rows(call.visible, ws, [&](workspace& /*scratch*/, half_open rows) {
        constexpr index_t block = product_code_index::block;
        for (index_t at = rows.first; at < rows.last;) {
          const index_t end = std::min(rows.last, at / block * block + block);
          for (index_t group = 0; group < groups; ++group)
            add(call, index, part, group, {at, end}, seen);
          at = end;
        }
      });
    }
  }

  /// Adds some parts to the scores of rows of one block, for one group of heads.
  template <std::size_t lanes, class View>
  void add(const attention_call<View>& call, const product_code_index& index,
           const tables<lanes>& by, index_t group, half_open rows,
           predictions& seen) const noexcept {
    constexpr index_t block = product_code_index::block;
    constexpr auto width = static_cast<index_t>(lanes);
    const index_t begin = group * width;
    const index_t heads = std::min(width, call.heads() - begin), parts = by.centroids.parts();
    const index_t count = rows.size();
    float sums[static_cast<std::size_t>(block) * lanes] = {};
    for (index_t h = 0; h < heads && by.first > 0; ++h) {
      const float* const score = seen.scores(static_cast<int>(begin + h)).data() + rows.first;
      for (index_t i = 0; i < count; ++i) sums[i * width + h] = score[i];
    }
    index_t part = by.first;
    for (; part + 4 <= by.last; part += 4) add_parts<4>(index, by, group, part, rows, sums);
    for (; part < by.last; ++part) add_parts<1>(index, by, group, part, rows, sums);
    for (index_t l = 0; l < heads; ++l) {
      const int h = static_cast<int>(begin + l);
      float* const score = seen.scores(h).data() + rows.first;
      for (index_t i = 0; i < count; ++i) score[i] = sums[i * width + l];
      if (by.last < parts) continue;
      call.to_logits(h, score, count, [=](index_t i) { return rows.first + i; });
      index.odd().mark(rows.first, rows.last, score);
    }
  }

  /// Adds the table entries of some parts to `sums` `[count x lanes]`, one part after the other.
  template <std::size_t parts, std::size_t lanes>
  static void add_parts(const product_code_index& index, const tables<lanes>& by, index_t group,
                        index_t part, half_open rows, float* sums) noexcept {
    constexpr index_t block = product_code_index::block;
    constexpr auto width = static_cast<index_t>(lanes);
    const index_t start = rows.first / block * block;
    const int mask = static_cast<int>(by.centroids.count()) - 1;
    const float* table[parts];
    const std::uint8_t* codes[parts];
    int shift[parts];
    for (std::size_t p = 0; p < parts; ++p, ++part) {
      table[p] = by.of(part, group);
      codes[p] = index.codes(start, part) + (rows.first - start);
      shift[p] = index.shift(part);
    }
    for (index_t i = 0; i < rows.size(); ++i, sums += width) {
      float sum[lanes];
      std::copy_n(sums, width, sum);
      for (std::size_t p = 0; p < parts; ++p) {
        const float* const entry = table[p] + (codes[p][i] >> shift[p] & mask) * width;
        for (std::size_t l = 0; l < lanes; ++l) sum[l] += entry[l];
      }
      std::copy_n(sum, width, sums);
    }
  }

  index_t parts_;
  int bits_;
  pick_size k_;
};
static_assert(top_k_policy<product_code>);

}  // namespace vattn::top_k
