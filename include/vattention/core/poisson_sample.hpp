// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson sampling in proportion to predicted weight, with permanent random numbers.
#pragma once

#include "vattention/core/candidate_rows.hpp"

namespace vattn {

/// Row i is drawn if its own random number u_i, the same for the whole call and for all heads of a group,
/// is at most p_i = min(1, max_h c_h g_hi): g_hi is its proposal for head h, c_h the head's scale. Scales
/// only grow, so draws are nested, and each row is read once and counts for every head. Proposals are
/// known for every row that can be drawn: a predictor of two levels is asked for the second one of the
/// rows with u_i <= c_h a_hi g1_hi alone, a its reach, and g_hi = min(a_hi g1_hi, g2_hi).
///
/// A row costs its prediction, a random number and one comparison of logarithms a head in each search for rows
/// within reach, mostly one a call. For these alone the logarithm of g is kept, and p_i is formed for those that
/// a comparison with their number lets through. Not owning.
template <class Drawing>
class poisson_sample {
public:
  explicit poisson_sample(const Drawing& d) noexcept : d_(d), c_(d) {}

  /// The first draw, after the predictor's `prepare`: `size` rows expected for every head.
  void begin(index_t size) noexcept {
    c_.begin(size);
    for (int h = 0; h < heads(); ++h) c_.set_size(h, static_cast<double>(size));
    extend();
    draw();
  }

  /// Raises the scales of the heads that ask for more than they have.
  void grow(std::span<const index_t> wanted) noexcept {
    for (int h = 0; h < heads(); ++h) {
      const auto size = static_cast<double>(wanted[static_cast<std::size_t>(h)]);
      if (size > c_.kept(h).size) c_.set_size(h, size);
    }
    extend();
    draw();
  }

  /// Rows a head's own sample is expected to have.
  index_t size(int h) const noexcept { return static_cast<index_t>(c_.kept(h).size); }

  /// sum over the draw of y^2 (1 - p') / (p' p), with p' the probability at the head's other size.
  double variance_at(int h, const contributions& y, index_t size,
                     correction finite) const noexcept {
    const double scale = c_.scale_for(h, static_cast<double>(size));
    const float* shares = c_.shares_of(h);
    const std::span<const threshold_t> thresholds = d_.drawn.thresholds();
    double sum = 0.0;
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      const double p = probability(thresholds[i]);
      const double then = std::max(p, probability_at(scale, shares[i]));
      const double missing = finite == correction::none ? 1.0 : 1.0 - then;
      sum += static_cast<double>(y.squares[i]) * missing / (then * p);
    }
    return sum;
  }

private:
  /// Shares above it are certain at any scale.
  static constexpr float certain_share = 1e30F;
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  static constexpr index_t block = workspace::block;

  int heads() const noexcept { return c_.heads(); }
  /// Finds and settles what the scales at hand may take.
  void extend() noexcept {
    if (!c_.sees_enough()) c_.search();
    c_.settle();
  }
  /// min(1, c g), and 0 for g = 0 whatever c.
  static double probability_at(double scale, float share) noexcept {
    return share > 0.0F ? std::min(1.0, scale * static_cast<double>(share)) : 0.0;
  }

  /// Takes the waiting rows whose number says so into the draw, and raises the probabilities of those
  /// drawn before.
  void draw() noexcept {
    kernels::reach_terms by[workspace::most_heads];
    for (int h = 0; h < heads(); ++h)
      by[h] = {0.0F, static_cast<float>(std::log2(c_.kept(h).scale)), -infinity, 0.0F};
    d_.drawn.begin_growth();
    row_t hits[block];
    for (index_t at = 0; at < c_.settled().count; at += block) {
      const index_t count = std::min(block, c_.settled().count - at);
      const index_t size =
          d_.call.kernels.within_reach(c_.settled().logs_of(0) + at, c_.settled().stride, heads(),
                                       by, nullptr, c_.settled().numbers.data() + at, count, hits);
      draw_of(at, {hits, static_cast<std::size_t>(size)});
    }
    const std::span<threshold_t> thresholds = d_.drawn.thresholds();
    for (index_t i = 0; i < d_.drawn.fresh(); ++i)
      thresholds[static_cast<std::size_t>(i)] =
          threshold_of(chance_of(c_.shares_of(0) + i, c_.rows()));
  }
  /// The same for rows that are likely to be drawn: `hits`, counted from waiting row `first`.
  void draw_of(index_t first, std::span<const row_t> hits) noexcept {
    float* shares = d_.ws.weights.data();
    for (int h = 0; h < heads(); ++h) {
      c_.gather(c_.settled().logs_of(h) + first, hits, shares + h * block);
      d_.call.kernels.exp_shifted(shares + h * block, static_cast<index_t>(hits.size()), 0.0F,
                                  shares + h * block);
    }
    for (std::size_t i = 0; i < hits.size(); ++i, ++shares) {
      const index_t at = first + hits[i];
      const double chance = chance_of(shares, block);
      if (chance == 0.0 || !c_.at_most(at, threshold_of(chance))) continue;
      const index_t place = d_.drawn.size();
      d_.drawn.append(c_.settled().rows[at], threshold_of(chance));
      for (int h = 0; h < heads(); ++h) {
        c_.shares_of(h)[place] = std::min(shares[h * block], certain_share);
        c_.settled().logs_of(h)[at] = -infinity;
      }
    }
  }
  /// max_h min(1, c_h g_h) of one row, from its shares.
  double chance_of(const float* share, index_t stride) const noexcept {
    double chance = 0.0;
    for (int h = 0; h < heads(); ++h)
      chance = std::max(chance, probability_at(c_.kept(h).scale, share[h * stride]));
    return chance;
  }

  const Drawing& d_;
  candidate_rows<Drawing> c_;
};

}  // namespace vattn
