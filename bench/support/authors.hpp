// SPDX-License-Identifier: Apache-2.0
/// @file
/// The authors' research implementation, as it is, in double precision: for comparison only.
///
/// Follows `AdaptiveSamplingMasker` after sink, local-window and oracle top-k maskers of
/// github.com/xAlg-ai/sparse-attention-hub (main, 1a048c9). What it does, and where that departs from
/// the paper (arXiv 2510.05688):
///   1. top-k: int(.02 n) largest scores among rows that sinks and window have not taken.
///   2. base sample: max(2, int(base R)) draws WITH replacement from [sinks, n - window), R = that
///      range. The top-k rows are in it, though the paper's population is the residual.
///   3. sigma = standard deviation (Bessel) of those draws' w = exp(l - max l), at least 1e-8.
///   4. D^ = sum of w over the previous mask + sum of w R / b0 over the DISTINCT base rows: top-k rows
///      count twice, duplicates once.
///   5. b = floor((z sigma R / max(epsilon D^, 1e-8))^2) clamped to [1, R], then to [b0, R], with the
///      ONE-SIDED z = quantile(1 - delta) and no finite-population correction.
///   6. b fresh draws WITH replacement from the same range; the base draws are thrown away. Every
///      distinct row gets p = b / R, although its inclusion probability is 1 - (1 - 1/R)^b.
///   7. merge: p adds to the previous mask and is clamped at 1.
///   8. output: N / D, both with weights w / (p + 1e-6).
/// No certificate comes out of it; epsilon and delta are inputs only. In 4 the code may add the 1e-6
/// of 8 too, which changes nothing that could be seen.
#pragma once

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "vattention/core/rng.hpp"
#include "vattention/stats/normal.hpp"
#include "vattention/testing/reference.hpp"

namespace vattn_bench {

/// One epsilon and delta.
struct asked {
  double epsilon, delta;
};

/// One query with its exact weights at hand, and trials of the authors' procedure on it.
class authors_row {
public:
  using index_t = vattn::index_t;
  static constexpr index_t sinks = 32, window = 64;
  static constexpr double top_k = 0.02, base = 0.01, tiny = 1e-6;

  /// What a trial gives for one (epsilon, delta).
  struct outcome {
    Eigen::VectorXd output;
    double log_sum_exp = 0.0;
    /// Rows with a non-zero mask: those whose K and V the output needs.
    index_t rows = 0;
  };

  authors_row(const vattn::query_group& query, const vattn::kv_view& kv)
      : weights_(vattn::logits(query, kv, 0)),
        top_(weights_.maxCoeff()),
        values_(weights_.size(), kv.value_dim()),
        taken_(static_cast<std::size_t>(weights_.size()), 0),
        seen_(taken_.size(), 0) {
    weights_ = (weights_.array() - top_).exp();
    for (index_t i = 0; i < rows(); ++i)
      values_.row(i) = vattn::detail::widen(kv.value_row(static_cast<vattn::row_t>(i)),
                                            kv.value_type(), kv.value_dim())
                           .cast<float>();
    take_fixed();
    sum_fixed();
  }

  index_t rows() const noexcept { return weights_.size(); }

  /// One trial for many (epsilon, delta) at once. They share the base sample, and the dynamic sample
  /// of b draws is the beginning of the longest one: each alone is distributed as it should be.
  /// `visit(i, outcome)` is called once for each.
  template <class Visit>
  void trial(const vattn::draw_key& key, const std::vector<asked>& cells, Visit visit) {
    const pilot p = draw_base(key);
    std::vector<index_t> budgets;
    for (const asked& a : cells) budgets.push_back(budget(p, a));
    std::vector<std::size_t> order(cells.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t i, std::size_t j) { return budgets[i] < budgets[j]; });
    const vattn::random_stream stream(key, dynamic_purpose);
    begin_pass();
    double sum = 0.0;
    Eigen::VectorXd numerator = Eigen::VectorXd::Zero(values_.cols());
    index_t drawn = 0;
    index_t distinct = 0;
    for (const std::size_t cell : order) {
      for (; drawn < budgets[cell]; ++drawn) {
        const index_t row = draw(stream, drawn);
        if (!first_time(row) || taken_[static_cast<std::size_t>(row)] != 0) continue;
        sum += weights_[row];
        numerator += weights_[row] * values_.row(row).transpose().cast<double>();
        ++distinct;
      }
      const double weight =
          1.0 / (static_cast<double>(drawn) / static_cast<double>(range()) + tiny);
      const double d = fixed_sum_ / (1.0 + tiny) + weight * sum;
      visit(cell, outcome{(fixed_numerator_ / (1.0 + tiny) + weight * numerator) / d,
                          top_ + std::log(d), fixed_rows_ + distinct});
    }
  }

private:
  /// Base sample: standard deviation of the weights and estimated denominator.
  struct pilot {
    double sigma, denominator;
    index_t size;
  };
  static constexpr std::uint32_t base_purpose = 101, dynamic_purpose = 102;

  index_t range() const noexcept { return rows() - sinks - window; }
  index_t draw(const vattn::random_stream& stream, index_t i) const noexcept {
    return sinks + static_cast<index_t>(stream.below(static_cast<std::uint64_t>(i),
                                                     static_cast<std::uint64_t>(range())));
  }
  void begin_pass() noexcept { ++pass_; }
  bool first_time(index_t row) noexcept {
    return std::exchange(seen_[static_cast<std::size_t>(row)], pass_) != pass_;
  }

  void take_fixed() {
    vattn::require(range() >= 2, "authors", "a sampling range of 2 rows", range());
    std::fill_n(taken_.begin(), sinks, char{1});
    std::fill_n(taken_.rbegin(), window, char{1});
    std::vector<index_t> free(static_cast<std::size_t>(range()));
    std::iota(free.begin(), free.end(), sinks);
    const auto k = std::min<std::ptrdiff_t>(
        static_cast<std::ptrdiff_t>(top_k * static_cast<double>(rows())), range());
    std::nth_element(free.begin(), free.begin() + k, free.end(), [&](index_t a, index_t b) {
      return weights_[a] > weights_[b] || (weights_[a] == weights_[b] && a < b);
    });
    for (std::ptrdiff_t i = 0; i < k; ++i)
      taken_[static_cast<std::size_t>(free[static_cast<std::size_t>(i)])] = 1;
  }

  void sum_fixed() {
    fixed_numerator_ = Eigen::VectorXd::Zero(values_.cols());
    for (index_t i = 0; i < rows(); ++i) {
      if (taken_[static_cast<std::size_t>(i)] == 0) continue;
      fixed_sum_ += weights_[i];
      fixed_numerator_ += weights_[i] * values_.row(i).transpose().cast<double>();
      ++fixed_rows_;
    }
  }

  pilot draw_base(const vattn::draw_key& key) {
    const vattn::random_stream stream(key, base_purpose);
    const auto n = static_cast<double>(range());
    const index_t size = std::max<index_t>(2, static_cast<index_t>(base * n));
    begin_pass();
    double sum = 0.0;
    double squares = 0.0;
    double distinct_sum = 0.0;
    for (index_t i = 0; i < size; ++i) {
      const index_t row = draw(stream, i);
      const double w = weights_[row];
      sum += w;
      squares += w * w;
      if (first_time(row)) distinct_sum += w;
    }
    const auto b = static_cast<double>(size);
    const double variance = std::max(0.0, (squares - sum * sum / b) / (b - 1.0));
    return {std::max(1e-8, std::sqrt(variance)), fixed_sum_ + distinct_sum * n / b, size};
  }

  index_t budget(const pilot& p, const asked& a) const noexcept {
    const auto n = static_cast<double>(range());
    const double z = vattn::normal_upper_quantile(a.delta);
    const double root = z * p.sigma * n / std::max(a.epsilon * p.denominator, 1e-8);
    const auto size = static_cast<index_t>(std::clamp(root * root, 1.0, n));
    return std::clamp(size, p.size, range());
  }

  Eigen::VectorXd weights_;
  double top_;
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> values_;
  std::vector<char> taken_;
  std::vector<int> seen_;
  int pass_ = 0;
  double fixed_sum_ = 0.0;
  Eigen::VectorXd fixed_numerator_;
  index_t fixed_rows_ = 0;
};

}  // namespace vattn_bench
