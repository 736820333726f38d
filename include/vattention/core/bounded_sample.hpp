// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling in proportion to sound upper bounds, with fresh random numbers at each look.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vattention/certify/strict.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/share_histogram.hpp"

namespace vattn {

/// Rows that an earlier look has drawn are certain; of the others row i is drawn with p_i = min(1, max_h c_h
/// z_hi), z = u for the denominator and z = u (a + b) for the output: u the upper bound of the row's weight
/// (in ws.seen, see `bound_residual`), a that of its value's norm, b the norm that the output may have. Notes
/// what `certify/strict.hpp` needs in each head's state. Not owning; O(n) a head and look.
template <quantity What, class Drawing>
class bounded_sample {
public:
  explicit bounded_sample(const Drawing& d) noexcept : d_(d), state_(d.ws.draws) {}

  /// The first look, of about `size` rows for each head; of none if that is 0.
  void begin(index_t size) noexcept {
    state_.ranks.reset(rows());
    state_.draws_made = 0;
    if constexpr (What == quantity::output)
      d_.predictor.value_norms(d_.index, rows(), state_.value_norms.data());
    for (int h = 0; h < heads(); ++h) {
      kept(h) = {};
      count_shares(h);
      set_scale(h, size);
    }
    draw();
  }

  /// A further look of about `sizes` rows beyond those drawn.
  void grow(std::span<const index_t> sizes) noexcept {
    for (threshold_t& threshold : d_.drawn.thresholds()) threshold = certain;
    for (int h = 0; h < heads(); ++h) set_scale(h, sizes[static_cast<std::size_t>(h)]);
    draw();
  }

  index_t size(int /*h*/) const noexcept { return d_.drawn.size(); }

  /// Sets what a head's state says of the look: V, R, and bounds that turned out wrong; then prepares the
  /// next one, for an output no longer than it is now by more than `aim`.
  void describe(int h, double aim) noexcept {
    const partial_view state = d_.ws.head(h);
    const double unit = unit_of(h);
    for (index_t row = 0; row < rows(); ++row)
      if (!state_.ranks.contains(static_cast<row_t>(row)) || fresh(row))
        add_row(state, h, row, unit);
    state.reference_norm() = kept(h).reference;
    state.violations() = static_cast<double>(count_violations(h, unit));
    VATTN_ASSERT(state.violations() == 0.0);
    if constexpr (What == quantity::output)
      kept(h).next_reference = numerator_norm(state) / state.denominator() + aim;
    count_shares(h);
  }

  /// The radius t that a next look of about `size` rows would give, in the unit of the state's weights, from
  /// the histogram; O(1).
  double radius_at(int h, index_t size, double log_term) const noexcept {
    const double scale = scale_for(h, static_cast<double>(size));
    if (std::isinf(scale)) return 0.0;
    const double largest = kept(h).largest;
    const double variance = largest * largest * shares(h).variance_at(scale * largest);
    return unit_of(h) * bernstein_radius(variance, 1.0 / scale, log_term);
  }
  /// The same from every row's bound; O(n).
  double exact_radius_at(int h, index_t size, double log_term) const noexcept {
    const double scale = scale_for(h, static_cast<double>(size));
    if (std::isinf(scale)) return 0.0;
    double variance = 0.0;
    for (index_t row = 0; row < rows(); ++row) {
      if (state_.ranks.contains(static_cast<row_t>(row))) continue;
      const double z = bound_of(h, row, kept(h).next_reference);
      if (scale * z < 1.0) variance += z * (1.0 / scale - z);
    }
    return unit_of(h) * bernstein_radius(variance, 1.0 / scale, log_term);
  }

private:
  int heads() const noexcept { return d_.call.heads(); }
  index_t rows() const noexcept { return d_.call.visible; }
  bounded_scale& kept(int h) const noexcept { return state_.bounded[h]; }
  share_histogram shares(int h) const noexcept {
    return share_histogram(state_.histograms.data() + std::ptrdiff_t{share_histogram::buckets} * h);
  }

  /// What a weight of 1 in ws.seen is in the unit of a head's state.
  double unit_of(int h) const noexcept {
    return std::exp(d_.ws.ranges[2 * h] - d_.ws.head(h).max_logit());
  }
  /// z of a row with b = `reference`; 0 for a row that is read anyway or hidden.
  double bound_of(int h, index_t row, double reference) const noexcept {
    const auto weight = static_cast<double>(d_.ws.seen.scores(h)[static_cast<std::size_t>(row)]);
    if (What != quantity::output || weight == 0.0) return weight;
    return weight * (static_cast<double>(state_.value_norms[row]) + reference);
  }
  /// p of a row in the last look; 0 if no head can draw it.
  double chance_of(index_t row) const noexcept {
    double chance = 0.0;
    for (int h = 0; h < heads(); ++h)
      if (const double z = bound_of(h, row, kept(h).reference); z > 0.0)
        chance = std::max(chance, kept(h).scale * z);
    return chance;
  }
  /// True for a row of the last look.
  bool fresh(index_t row) const noexcept { return state_.met.contains(static_cast<row_t>(row)); }

  /// The bounds of the rows not drawn yet, relative to the largest of them.
  void count_shares(int h) noexcept {
    float* z = d_.ws.lower.data();
    float largest = 0.0F;
    for (index_t row = 0; row < rows(); ++row) {
      const bool had = state_.ranks.contains(static_cast<row_t>(row));
      z[row] = had ? 0.0F : static_cast<float>(bound_of(h, row, kept(h).next_reference));
      if (z[row] < std::numeric_limits<float>::infinity()) largest = std::max(largest, z[row]);
    }
    const float inverse = largest > 0.0F ? 1.0F / largest : 0.0F;
    for (index_t row = 0; row < rows(); ++row) z[row] = std::min(1.0F, z[row] * inverse);
    kept(h).largest = static_cast<double>(largest);
    shares(h).clear();
    shares(h).add_all(d_.ws.lower.first(rows()));
  }
  void set_scale(int h, index_t size) noexcept {
    kept(h).scale = scale_for(h, static_cast<double>(size));
    kept(h).reference = kept(h).next_reference;
  }
  double scale_for(int h, double size) const noexcept {
    if (size <= 0.0) return 0.0;
    return shares(h).scale_for(size) / kept(h).largest;
  }

  void draw() noexcept {
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    const auto first = static_cast<std::uint64_t>(d_.call.kv.first_row()) +
                       (static_cast<std::uint64_t>(state_.draws_made++) << 40U);
    d_.drawn.begin_growth();
    state_.met.reset(rows());
    for (index_t row = 0; row < rows(); ++row) {
      if (state_.ranks.contains(static_cast<row_t>(row))) continue;
      const double chance = chance_of(row);
      if (chance == 0.0) continue;
      const threshold_t most = threshold_above(chance);
      if (stream.u32(first + static_cast<std::uint64_t>(row)) > most) continue;
      d_.drawn.append(static_cast<row_t>(row), most);
      state_.met.add(static_cast<row_t>(row));
    }
    for (const row_t row : d_.drawn.rows_from(d_.drawn.fresh())) state_.ranks.add(row);
  }

  /// Adds a row that the last look might have drawn to V and R.
  void add_row(const partial_view& state, int h, index_t row, double unit) const noexcept {
    const auto weight = static_cast<double>(d_.ws.seen.scores(h)[static_cast<std::size_t>(row)]);
    if (weight == 0.0) return;
    const threshold_t most = threshold_above(chance_of(row));
    if (most == certain) return;
    const double p = probability(most);
    const double square = unit * unit * weight * weight * (1.0 - p) / p;
    const double norm =
        What == quantity::output ? static_cast<double>(state_.value_norms[row]) : 0.0;
    state.spread(0) += square;
    state.spread(1) += square * norm;
    state.spread(2) += square * norm * norm;
    state.largest_term() =
        std::max(state.largest_term(), unit * bound_of(h, row, kept(h).reference) / p);
  }

  /// Drawn rows whose weight or value is above its bound, beyond rounding.
  index_t count_violations(int h, double unit) const noexcept {
    constexpr double room = 1.0 + 0x1p-12;
    const double largest = d_.ws.head(h).max_logit();
    index_t count = 0;
    for (index_t at = 0; at < d_.drawn.size(); ++at) {
      const auto row = static_cast<index_t>(d_.drawn.rows()[static_cast<std::size_t>(at)]);
      const double weight = std::exp(static_cast<double>(d_.ws.logits_of(h)[at]) - largest);
      const auto bound = static_cast<double>(d_.ws.seen.scores(h)[static_cast<std::size_t>(row)]);
      bool wrong = weight > room * unit * bound + 0x1p-126;
      if constexpr (What == quantity::output) {
        const auto norm = static_cast<double>(state_.value_norms[row]);
        wrong = wrong || static_cast<double>(d_.ws.sample_norms[at]) > room * norm * norm;
      }
      count += wrong ? 1 : 0;
    }
    return count;
  }

  const Drawing& d_;
  draw_state& state_;
};

}  // namespace vattn
