// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sampling of rows whose hashes collide with the query's, with the probability that this had over the hash planes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>

#include "vattention/core/collision_rule.hpp"
#include "vattention/core/drawing.hpp"
#include "vattention/core/stream_reader.hpp"

namespace vattn {

/// Draws the rows that collide with the query in the most tables, and any other row with a small chance, by a
/// `collision_rule` with permanent random numbers: draws are nested. A drawn row's probability is that over the planes
/// too, from the angle between query and key, which is read anyway: an unlucky hash gives no row a large weight, and
/// that heavy rows are missed now and then is made up for by the weight of those that are not. Source: MagicPIG (arXiv
/// 2410.16179), which keeps rows that collide in two tables, and adds 1e-4 to the probability, so that its weights are
/// bounded but wrong; here they are bounded by the chance that every row has, and right.
///
/// How many collisions are asked for is up to the size: about so many rows, of a floor of .3 with equal chances. It is
/// found for either half of the rows from the counts of the other one, which other planes have hashed, so that the
/// rule is independent of the planes that it is for and probabilities are exact. The growth of a size asked beforehand
/// keeps sum y / p unbiased; one that a budget asks for after it has seen the sample biases it as that of any sampler.
///
/// What is random: the planes, i.e. the seed of the index, and, for the rows that miss by little, the draw key. Under
/// one index, calls with equal queries read mostly the same rows, and their errors do not average out.
/// Rows count as independent, see `lsh_planes` for how nearly they are. Not owning.
///
/// Costs a count and a random number a row, and an angle and two binomial tails a drawn row.
template <class Drawing>
class lsh_sample {
public:
  static constexpr double floor = 0.3;

  explicit lsh_sample(const Drawing& d) noexcept : d_(d), found_(d.state.collisions) {}

  /// The first draw, of about `size` rows.
  void begin(index_t size) noexcept {
    d_.predictor.collide(d_.call, d_.index, d_.ws);
    count();
    found_.size = size;
    draw();
  }

  /// Grows the sample to about as many rows as the head that asks for most.
  void grow(std::span<const index_t> sizes) noexcept {
    for (const index_t size : sizes) found_.size = std::max(found_.size, size);
    draw();
  }

  /// Rows that the sample was expected to have, for all heads.
  index_t size() const noexcept { return found_.size; }

  /// sum over the draw of y^2 (1 - p') / (p' p), with p' the probability at another size, to about 1 %.
  double variance_at(const contributions& y, index_t size, correction finite) const noexcept {
    const std::span<const threshold_t> thresholds = d_.drawn.thresholds();
    const std::array<chance_table, 2> chances = tables_at(size);
    double sum = 0.0;
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      const double p = probability(thresholds[i]);
      const double then = std::max(p, chances[half_of(i)].at(found_.same_side[index_t(i)]));
      const double missing = finite == correction::none ? 1.0 : 1.0 - then;
      sum += static_cast<double>(y.squares[i]) * missing / (then * p);
    }
    return sum;
  }

private:
  static constexpr index_t block = workspace::block;

  /// A rule's chances between two arguments, by linear interpolation of their logarithms.
  class chance_table {
  public:
    chance_table(const collision_rule& rule, double low, double high) noexcept
        : low_(low), per_unit_(high > low ? steps / (high - low) : 0.0) {
      for (int i = 0; i <= steps; ++i)
        logs_[i] = std::log(rule.chance(low + (high - low) * i / steps));
    }
    /// 1 for NaN.
    double at(double same_side) const noexcept {
      if (std::isnan(same_side)) return 1.0;
      const double place = std::clamp((same_side - low_) * per_unit_, 0.0, double{steps});
      const int i = std::min(static_cast<int>(place), steps - 1);
      return std::min(1.0, std::exp(logs_[i] + (place - i) * (logs_[i + 1] - logs_[i])));
    }

  private:
    static constexpr int steps = 32;
    double logs_[steps + 1] = {}, low_, per_unit_;
  };

  /// Half of a drawn row.
  std::size_t half_of(std::size_t at) const noexcept {
    return found_.half(static_cast<index_t>(d_.drawn.rows()[at]));
  }
  std::span<index_t> counts_of(std::size_t half) const noexcept {
    const auto entries = static_cast<std::size_t>(d_.predictor.tables()) + 1;
    return {found_.histogram.data() + half * entries, entries};
  }

  /// Counts the residual rows of either half by their collisions.
  void count() noexcept {
    for (const std::size_t half : {0U, 1U})
      std::fill_n(counts_of(half).data(), counts_of(half).size(), 0);
    const auto add = [&](index_t row, index_t times) {
      if (!found_.must_read(row))
        counts_of(found_.half(row))[static_cast<std::size_t>(found_.tables(row))] += times;
    };
    for (index_t row = 0; row < d_.call.visible; ++row) add(row, 1);
    for (const row_t row : d_.ws.exact.rows()) add(static_cast<index_t>(row), -1);
  }

  /// Of either half, from the counts of the other one.
  std::array<collision_rule, 2> rules_at(index_t size) const noexcept {
    std::array<collision_rule, 2> rules;
    const double share =
        static_cast<double>(size) / static_cast<double>(std::max<index_t>(d_.rest.size(), 1));
    for (const std::size_t half : {0U, 1U}) {
      rules[half].tables = d_.predictor.tables();
      rules[half].bits = d_.predictor.bits();
      rules[half].set(share, floor, counts_of(1 - half));
    }
    return rules;
  }
  std::array<chance_table, 2> tables_at(index_t size) const noexcept {
    double low = 1.0, high = 0.0;
    for (index_t i = 0; i < d_.drawn.size(); ++i) {
      low = std::min(low, found_.same_side[i]);
      high = std::max(high, found_.same_side[i]);
    }
    const std::array<collision_rule, 2> rules = rules_at(size);
    return {chance_table(rules[0], low, high), chance_table(rules[1], low, high)};
  }

  void draw() noexcept {
    const std::array<collision_rule, 2> rules = rules_at(found_.size);
    const random_stream stream(d_.call.key, static_cast<std::uint32_t>(purpose::sampling));
    d_.drawn.begin_growth();
    const index_t had = d_.drawn.size();
    for (index_t at = 0; at < d_.call.visible; at += block)
      draw_from(at, std::min(d_.call.visible, at + block), rules, stream);
    for (index_t i = had; i < d_.drawn.size(); ++i) {
      const row_t row = d_.drawn.rows()[static_cast<std::size_t>(i)];
      d_.state.met.add(row);
      found_.same_side[i] = found_.must_read(static_cast<index_t>(row))
                                ? std::numeric_limits<double>::quiet_NaN()
                                : d_.predictor.same_side(d_.call, d_.index, row, d_.ws);
    }
    set_probabilities(rules);
  }

  /// Appends the rows of [first, last) that are drawn now and were not before.
  void draw_from(index_t first, index_t last, const std::array<collision_rule, 2>& rules,
                 const random_stream& stream) noexcept {
    const auto from = static_cast<std::uint64_t>(d_.call.kv.first_row() + first);
    std::uint16_t high[block];
    fill_high_halves(stream, from, {high, static_cast<std::size_t>(last - first)});
    for (index_t i = 0; i < last - first; ++i) {
      const index_t at = first + i;
      const threshold_t most =
          found_.must_read(at) ? certain : rules[found_.half(at)].threshold(found_.tables(at));
      if (high[i] > most >> 16U) continue;
      const auto row = static_cast<row_t>(at);
      if (d_.ws.exact.contains(row) || d_.state.met.contains(row)) continue;
      if (sampling_number(stream, from + static_cast<std::uint64_t>(i)) > most) continue;
      d_.drawn.append(row, 0);
    }
  }

  /// Gives every drawn row its probability under the rules, which never falls.
  void set_probabilities(const std::array<collision_rule, 2>& rules) noexcept {
    const std::span<threshold_t> thresholds = d_.drawn.thresholds();
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      const double chance = rules[half_of(i)].chance(found_.same_side[static_cast<index_t>(i)]);
      const threshold_t threshold = std::isnan(chance) ? certain : threshold_of(chance);
      thresholds[i] = std::max(thresholds[i], threshold);
    }
  }

  const Drawing& d_;
  collision_counts& found_;
};

}  // namespace vattn
