// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sound bounds of scores and values, and nothing else.
#pragma once

#include <algorithm>

#include "vattention/top_k/key_code.hpp"

namespace vattn::top_k {

/// Codes of the keys, and the values' norms as fp16 rounded up. Memory a key: that of `key_code_index` and 2
/// bytes, e.g. 72 bytes for 8 bits at d = 64.
class bounded_code_index {
public:
  bounded_code_index(int bits, index_t key_dim) : codes_(bits, key_dim) {}

  /// Takes in the rows [rows(), kv.rows()); allocates.
  /// @throws std::invalid_argument if the view has fewer rows than the index, or keys of another dimension or type.
  template <cache_view View>
  void append(const View& kv) {
    const index_t had = rows();
    std::vector<float> value(static_cast<std::size_t>(kv.value_dim()));
    std::vector<std::uint16_t> norms = norms_;
    for (index_t row = had; row < kv.rows(); ++row) {
      const double length = std::sqrt(value_square(kv, row, value));
      const auto norm = static_cast<float>(length * (1.0 + 0x1p-20));
      norms.push_back(std::isnan(norm) ? coded_key::infinite : kernels::f16_up(norm));
    }
    codes_.append(kv);
    norms_.swap(norms);
  }

  void forget(index_t rows) noexcept {
    codes_.forget(rows);
    norms_.resize(static_cast<std::size_t>(codes_.rows()));
  }

  static constexpr const char* kind = "bounded_code";
  template <class File>
  void exchange(File& file) {
    codes_.exchange(file);
    file.numbers(norms_, rows());
  }

  index_t rows() const noexcept { return codes_.rows(); }
  template <cache_view View>
  bool fits(const View& kv) const noexcept {
    return codes_.fits(kv);
  }
  template <cache_view View>
  bool matches(const View& kv) const noexcept {
    return codes_.matches(kv);
  }
  /// Mean of ||v||^2 over the rows.
  double mean_value_square() const noexcept { return codes_.mean_value_square(); }
  const key_code_index& codes() const noexcept { return codes_; }
  float value_norm(index_t row) const noexcept {
    return kernels::f16_to_float(norms_[static_cast<std::size_t>(row)]);
  }

private:
  key_code_index codes_;
  std::vector<std::uint16_t> norms_;
};

/// For `budget::strict`: takes no row (but those it cannot bound) and predicts nothing; bounds every logit
/// by a code of 8 or 6 bits, see `key_code::bounds`, and every value by its norm.
class bounded_code {
public:
  using role = vattn::role::top_k;
  using index_type = bounded_code_index;
  static constexpr bool scores_rows = true;
  static constexpr bool scores_are_log_weights = false;

  /// @throws std::invalid_argument for another width than 1, 2, 4, 6 or 8 bits.
  explicit bounded_code(int bits = 8) : code_(bits, rows(0)), bits_(bits) {}

  bounded_code_index make_index(index_t key_dim) const { return {bits_, key_dim}; }

  template <cache_view View>
  void predict(const attention_call<View>& call, const bounded_code_index& index, predictions& seen,
               workspace& /*ws*/) const noexcept {
    for (int h = 0; h < call.heads(); ++h)
      for (index_t row = 0; row < call.visible; ++row)
        seen.scores(h)[static_cast<std::size_t>(row)] =
            std::isnan(index.codes().factor(row)) ? std::numeric_limits<float>::quiet_NaN() : 0.0F;
  }
  template <cache_view View>
  void select(const attention_call<View>& call, const predictions& /*seen*/,
              workspace& ws) const noexcept {
    select_top(call, 0, ws);
  }
  template <cache_view View>
  void bounds(const attention_call<View>& call, const bounded_code_index& index, int head,
              std::span<float> lower, std::span<float> upper, workspace& ws) const noexcept {
    code_.bounds(call, index.codes(), head, lower, upper, ws);
  }
  void value_norms(const bounded_code_index& index, index_t rows, float* out) const noexcept {
    for (index_t row = 0; row < rows; ++row) out[row] = index.value_norm(row);
  }
  /// Codes, factors, error norms and value norms.
  template <cache_view View>
  index_t bytes_scanned(const attention_call<View>& call) const noexcept {
    return code_.bytes_scanned(call) + 4 * call.visible;
  }
  basis coverage() const noexcept { return basis::proved; }

private:
  key_code code_;
  int bits_;
};
static_assert(bounds_values<bounded_code>);

}  // namespace vattn::top_k
