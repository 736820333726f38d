// SPDX-License-Identifier: Apache-2.0
/// @file
/// Predicted top-k by pages: an upper bound of the logits of every page of keys.
#pragma once

#include <span>
#include <vector>

#include "vattention/core/concepts.hpp"
#include "vattention/kernels/convert.hpp"
#include "vattention/top_k/index_growth.hpp"
#include "vattention/top_k/indexed_type.hpp"
#include "vattention/top_k/odd_rows.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn::top_k {

/// Coordinate-wise maxima and minima of the finite keys of each page, as bfloat16 rounded outwards: `[pages x 2 d]`,
/// maxima first. Memory a key: 4 d bytes over the rows of a page, e.g. 32 bytes for 16 rows at d = 128.
class page_bounds_index {
public:
  page_bounds_index(index_t page, index_t key_dim) : page_(page), dim_(key_dim) {}

  /// Takes in the rows [rows(), kv.rows()). O(d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    require_growth("page_bounds_index::append", kv, dim_, rows_);
    type_.require_of("page_bounds_index::append", kv, rows_);
    std::vector<float> key(static_cast<std::size_t>(dim_));
    odd_rows odd = odd_;
    std::vector<std::uint16_t> ends(ends_.begin() + 2 * dim_ * (rows_ / page_), ends_.end());
    const index_t first = rows_ / page_;
    const index_t pages = (kv.rows() + page_ - 1) / page_;
    for (index_t p = static_cast<index_t>(ends.size()) / (2 * dim_); p < pages - first; ++p) {
      ends.insert(ends.end(), static_cast<std::size_t>(dim_), none_below);
      ends.insert(ends.end(), static_cast<std::size_t>(dim_), none_above);
    }
    for (index_t row = rows_; row < kv.rows(); ++row) {
      kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), dim_, key.data());
      if (!odd.add(row, key)) widen(key, ends.data() + 2 * dim_ * (row / page_ - first));
    }
    reserve_ahead(ends_, 2 * dim_ * pages);
    ends_.resize(static_cast<std::size_t>(2 * dim_ * first));
    ends_.insert(ends_.end(), ends.begin(), ends.end());
    odd_ = std::move(odd);
    rows_ = kv.rows();
    type_.took(kv);
  }

  /// Forgets the rows from `rows` on, and those before them in the same page.
  void forget(index_t rows) noexcept {
    if (rows >= rows_) return;
    rows_ = rows / page_ * page_;
    odd_.forget(rows_);
    ends_.resize(static_cast<std::size_t>(2 * dim_ * (rows_ / page_)));
  }

  static constexpr const char* kind = "page_bounds";
  template <class File>
  void exchange(File& file) {
    file.same("rows a page", page_);
    file.same("dimension", dim_);
    file.number(rows_);
    type_.exchange(file);
    file.numbers(ends_, 2 * dim_ * ((rows_ + page_ - 1) / page_));
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

  index_t page() const noexcept { return page_; }
  index_t dim() const noexcept { return dim_; }
  /// Maxima and minima of a page, bfloat16 `[2 d]`.
  const std::uint16_t* ends(index_t page) const noexcept { return ends_.data() + 2 * dim_ * page; }
  const odd_rows& odd() const noexcept { return odd_; }

private:
  /// Ends of a page without a finite key: the largest finite numbers, so that 0 times one is 0.
  static constexpr std::uint16_t none_below = 0xFF7F, none_above = 0x7F7F;

  void widen(const std::vector<float>& key, std::uint16_t* ends) const noexcept {
    for (std::size_t j = 0; j < key.size(); ++j) {
      std::uint16_t& high = ends[j];
      std::uint16_t& low = ends[key.size() + j];
      if (key[j] > kernels::bf16_to_float(high)) high = kernels::bf16_up(key[j]);
      if (key[j] < kernels::bf16_to_float(low))
        low = static_cast<std::uint16_t>(kernels::bf16_up(-key[j]) ^ 0x8000U);
    }
  }

  index_t page_, dim_, rows_ = 0;
  indexed_type type_;
  std::vector<std::uint16_t> ends_;
  odd_rows odd_;
};

/// Scores a row by what its page's keys can have as a logit at most: sum_j max(q_j max_j, q_j min_j), scaled, capped
/// and biased. Rows of a page score alike, ties go by row number, so whole pages are taken and of the last one a
/// part. Rows read already do not count.
/// Source: Quest, arXiv 2406.10774.
///
/// Sound but wide (a factor of 1e9 of a weight in the median of captured heads): of use for top-k alone, not for
/// bounds of the rest. Reads 4 d bytes a page.
///
/// Where its certificates end: on captured heads it finds a quarter of the best rows, and beside it a uniform sample
/// made errors of up to 58 % at epsilon 5 %.
class page_bounds {
public:
  using role = vattn::role::top_k;
  using index_type = page_bounds_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  /// Rows of a page, 1 to 4,096; k as rows, or as a share of the visible rows.
  /// @throws std::invalid_argument for another page size.
  page_bounds(index_t page, extent k) : page_(page), k_(k) {
    require(page >= 1 && page <= 4096, "page_bounds", "1 to 4096 rows a page", page);
  }

  page_bounds_index make_index(index_t key_dim) const { return {page_, key_dim}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const page_bounds_index& index, predictions& seen,
               workspace& ws) const noexcept {
    const index_t dim = index.dim();
    for (int h = 0; h < call.heads(); ++h)
      split(call.queries.data + h * call.queries.stride, dim, call.scale < 0.0F,
            ws.rotated.data() + 2 * dim * h);
    ws.workers.over_rows(call.visible, ws, [&](workspace& scratch, half_open rows) {
      const index_t last = (rows.last - 1) / page_ + 1;
      for (index_t page = rows.first / page_; page < last; page += workspace::block)
        score_pages(call, index, {page, std::min(last, page + workspace::block)}, rows, seen, ws,
                    scratch);
    });
  }

  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_top(call, k_.of(call.visible), ws);
  }

  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return (call.visible + page_ - 1) / page_ * 4 * call.kv.key_dim();
  }
  basis coverage() const noexcept { return basis::unmeasured; }

private:
  /// The parts of a query that maxima and minima are multiplied by; of its opposite if logits fall with q.k.
  static void split(const float* query, index_t dim, bool falls, float* out) noexcept {
    for (index_t j = 0; j < dim; ++j) {
      const float positive = query[j] > 0.0F ? query[j] : 0.0F, negative = query[j] - positive;
      out[j] = falls ? negative : positive;
      out[dim + j] = falls ? positive : negative;
    }
  }

  /// Scores of the rows of some pages, at most a block, that lie within `rows`.
  template <cache_view View>
  void score_pages(const attention_call<View>& call, const page_bounds_index& index,
                   half_open pages, half_open rows, predictions& seen, const workspace& ws,
                   workspace& scratch) const noexcept {
    for (index_t p = pages.first; p < pages.last; ++p)
      scratch.addresses[p - pages.first] = index.ends(p);
    float* bounds = scratch.weights.data();
    call.kernels.dot_rows(element::bf16, scratch.addresses.data(), pages.size(), 0, 2 * index.dim(),
                          ws.rotated.data(), 2 * index.dim(), call.heads(), bounds,
                          workspace::block);
    const index_t first = std::max(rows.first, pages.first * page_);
    const index_t last = std::min(rows.last, pages.last * page_);
    const bool by_page = call.scales_only(last);
    for (int h = 0; h < call.heads(); ++h, bounds += workspace::block) {
      float* score = seen.scores(h).data();
      // Where a logit is no more than scale times q.k, rows of a page have one logit.
      if (by_page) call.to_logits(h, bounds, pages.size(), [](index_t) { return 0; });
      for (index_t p = pages.first; p < pages.last; ++p) {
        const index_t from = std::max(first, p * page_), to = std::min(last, (p + 1) * page_);
        std::fill(score + from, score + to, bounds[p - pages.first]);
      }
      if (!by_page)
        call.to_logits(h, score + first, last - first, [=](index_t i) { return first + i; });
      index.odd().mark(first, last, score + first);
    }
  }

  index_t page_;
  extent k_;
};
static_assert(top_k_policy<page_bounds>);

}  // namespace vattn::top_k
