// SPDX-License-Identifier: Apache-2.0
/// @file
/// A cheap code of every key, and a better one for the keys that matter.
#pragma once

#include "vattention/top_k/code_records.hpp"
#include "vattention/top_k/key_code.hpp"

namespace vattn::top_k {

/// A code of every rotated, centred key, packed for a scan, and a code of what it leaves over of the key,
/// as records for single look-ups. Memory a key: that of `key_code_index`, and d bits / 8 + 5 bytes, e.g.
/// 21 + 37 bytes for 2 and 4 bits at d = 64.
class cascade_index {
public:
  cascade_index(int coarse_bits, int fine_bits, index_t key_dim)
      : coarse_(coarse_bits, key_dim), fine_(fine_bits, key_dim) {}

  /// Takes in the rows [rows(), kv.rows()). O(d log d) a key; allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    const auto dim = static_cast<std::size_t>(coarse_.dim());
    std::vector<float> left(dim);
    std::vector<std::uint8_t> scratch(dim);
    if (kv.rows() > rows()) fine_.reserve(kv.rows());
    coarse_.append(
        kv, [&](index_t row, const float* x, const std::uint8_t* codes, const coded_key& key) {
          const float factor = kernels::f16_to_float(key.factor);
          for (std::size_t j = 0; j < dim; ++j)
            left[j] = x[j] - factor * static_cast<float>(coarse_.book().level(codes[j]));
          if (row == 0) fine_.forget(0);
          fine_.store(row, left.data(), scratch.data());
        });
  }

  void forget(index_t rows) noexcept {
    if (rows >= this->rows()) return;
    coarse_.forget(rows);
    fine_.forget(coarse_.rows());
  }

  static constexpr const char* kind = "cascade";
  template <class File>
  void exchange(File& file) {
    coarse_.exchange(file);
    fine_.exchange(file, rows());
  }

  index_t rows() const noexcept { return coarse_.rows(); }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return coarse_.fits(kv);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return coarse_.matches(kv);
  }
  /// Mean of ||v||^2 over the rows.
  double mean_value_square() const noexcept { return coarse_.mean_value_square(); }
  const key_code_index& coarse() const noexcept { return coarse_; }
  const code_records& fine() const noexcept { return fine_; }

private:
  key_code_index coarse_;
  code_records fine_;
};

/// Proposals in two levels: the scan of a coarse code, and a code of what that leaves over for the rows
/// that it could not rule out. A row is refined if it would be drawn were it worth its proposal times
/// exp(z s), s the standard error of its predicted logit: z = 1.6 behind 2 bits, 1.5 behind 1 bit.
///
/// Reads d / 4 + 3 bytes a key for 2 bits (35 at d = 128, 7 % of a bf16 cache) and d bits / 8 + 4 for each
/// refined key. From 2 bits up certificates held on every captured (head, query) pair; with 1 bit first
/// on average only.
class cascade {
public:
  using role = vattn::role::top_k;
  using index_type = cascade_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = true;

  /// Bits of the scan, 1, 2 or 4, and of the refinement, 1, 2, 4 or 8; the k best by the scan are read
  /// exactly.
  /// @throws std::invalid_argument for other widths.
  explicit cascade(int coarse_bits = 2, int fine_bits = 4, pick_size k = rows(0))
      : coarse_(coarse_bits, k), fine_(fine_bits), coarse_bits_(coarse_bits) {
    require(coarse_bits <= 4, "cascade", "a scan of 1, 2 or 4 bits", coarse_bits);
    require(fine_bits != 6, "cascade", "a refinement of 1, 2, 4 or 8 bits", fine_bits);
  }

  cascade_index make_index(index_t key_dim) const { return {coarse_bits_, fine_.bits(), key_dim}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const cascade_index& index, predictions& seen,
               workspace& ws) const noexcept {
    coarse_.predict(call, index.coarse(), seen, ws);
  }
  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& seen,
              workspace& ws) const noexcept {
    coarse_.select(call, seen, ws);
  }
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return coarse_.bytes_scanned(call);
  }
  /// That of the refinement.
  template <cache_view View>
  double doubt(const attention_call<View>& call, const cascade_index& index, int h) const noexcept {
    return std::sqrt(static_cast<double>(error_scale(call, h)) * index.fine().error_square());
  }
  basis coverage() const noexcept {
    return coarse_bits_ >= 2 ? basis::measured_per_row : basis::measured_on_average;
  }

  static constexpr int levels = 2;
  proposal_level level(int number) const noexcept { return {.floor = number == 0 ? 0.1 : 0.05}; }
  template <cache_view View>
  index_t picks(const attention_call<View>& call) const noexcept {
    return coarse_.picks(call);
  }
  template <cache_view View>
  void prepare(const attention_call<View>& call, const cascade_index& index,
               workspace& ws) const noexcept {
    coarse_.prepare(call, index.coarse(), ws);
  }
  template <cache_view View>
  void propose(const attention_call<View>& call, const cascade_index& index, index_t at,
               index_t count, float* out, index_t stride, const workspace& ws,
               workspace& scratch) const noexcept {
    coarse_.propose(call, index.coarse(), at, count, out, stride, ws, scratch);
  }
  void expect(const cascade_index& index, index_t at, index_t count) const noexcept {
    coarse_.expect(index.coarse(), at, count);
  }
  template <cache_view View>
  float reach(const attention_call<View>& call, int h) const noexcept {
    return (coarse_bits_ == 1 ? 1.5F : 1.6F) * std::sqrt(error_scale(call, h));
  }
  void spread(const cascade_index& index, index_t at, index_t count, float* out) const noexcept {
    index.coarse().error_norms(at, count, out);
  }
  void spread(const cascade_index& index, std::span<const row_t> rows, float* out) const noexcept {
    index.coarse().error_norms(rows, out);
  }
  template <cache_view View>
  void refine(const attention_call<View>& call, const cascade_index& index,
              std::span<const row_t> rows, const float* first, index_t first_stride, float* out,
              index_t stride, const workspace& ws, workspace& scratch) const noexcept {
    for (std::size_t at = 0; at < rows.size(); at += batch) {
      const std::size_t end = std::min(at + batch, rows.size());
      refine_batch(call, index, rows.subspan(at, end - at),
                   rows.subspan(end, std::min<std::size_t>(workspace::upcoming, rows.size() - end)),
                   first + at, first_stride, out + at, stride, ws, scratch);
    }
  }
  template <cache_view View>
  index_t bytes_proposed(const attention_call<View>& call, index_t refined) const noexcept {
    return coarse_.bytes_proposed(call, 0) + refined * (4 * fine_.words(0, call.kv.key_dim()) + 4);
  }

private:
  static constexpr std::size_t batch = workspace::block;
  static constexpr float fine_kappa = 0.5F;

  template <cache_view View>
  void refine_batch(const attention_call<View>& call, const cascade_index& index,
                    std::span<const row_t> rows, std::span<const row_t> next, const float* first,
                    index_t first_stride, float* out, index_t stride, const workspace& ws,
                    workspace& scratch) const noexcept {
    const code_records& fine = index.fine();
    const code_book& book = fine.book();
    const auto count = static_cast<index_t>(rows.size());
    const void** records = scratch.addresses.data();
    for (const row_t row : rows) *records++ = fine.record(row);
    for (const row_t row : next) *records++ = fine.record(row);
    call.kernels.dot_codes(book.bits(), scratch.addresses.data(), count,
                           static_cast<index_t>(next.size()), fine.words(), book.lookup(),
                           ws.query_codes.data(), key_code::padded(call.kv.key_dim()), call.heads(),
                           scratch.code_dots.data(), batch);
    std::uint16_t factors[batch], errors[batch];
    float norms[batch], spreads[batch];
    for (std::size_t i = 0; i < rows.size(); ++i) {
      factors[i] = fine.factor(rows[i]);
      errors[i] = fine.error(rows[i]);
    }
    constexpr std::int32_t unused[batch] = {};
    call.kernels.scale_sums(unused, errors, count, 0, 1, 1.0F, 0.0F, norms);
    spread(index, rows, spreads);
    for (int h = 0; h < call.heads(); ++h) {
      float* t = out + h * stride;
      const float* terms = ws.query_terms.data() + 4 * h;
      call.kernels.scale_sums(scratch.code_dots.data() + h * static_cast<index_t>(batch), factors,
                              count, book.level_times(),
                              book.level_plus() * static_cast<std::int32_t>(terms[1]), terms[0],
                              0.0F, t);
      add_fine(call, h, rows, spreads, norms, terms[3], first + h * first_stride, t);
    }
  }

  /// From products of what the scan's code leaves over to log-weights.
  template <cache_view View>
  void add_fine(const attention_call<View>& call, int h, std::span<const row_t> rows,
                const float* spreads, const float* norms, float per_square, const float* first,
                float* t) const noexcept {
    float logit[batch];
    const tempering by = coarse_.tempered();
    for (std::size_t i = 0; i < rows.size(); ++i)
      logit[i] = untempered(first[i], spreads[i], by, per_square);
    if (call.queries.logits.softcap == 0.0F) {
      for (std::size_t i = 0; i < rows.size(); ++i) t[i] = logit[i] + call.scale * t[i];
    } else {
      for (std::size_t i = 0; i < rows.size(); ++i)
        t[i] = call.moved_logit(h, rows[i], logit[i], t[i]);
    }
    const float kappa = fine_kappa * per_square;
    for (std::size_t i = 0; i < rows.size(); ++i) t[i] += kappa * (norms[i] * norms[i]);
  }

  key_code coarse_;
  code_book fine_;
  int coarse_bits_;
};
static_assert(proposes_weights<cascade>);

}  // namespace vattn::top_k
