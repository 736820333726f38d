// SPDX-License-Identifier: Apache-2.0
/// @file
/// The pipeline's state at a look, as budgets and cost policies see it.
#pragma once

#include <algorithm>
#include <optional>

#include "vattention/attention/squares.hpp"
#include "vattention/certify/output.hpp"
#include "vattention/core/prospect.hpp"

namespace vattn {

namespace detail {

/// What a budget sees: the partial results and the sampler behind the `outlook` concept.
template <class Drawing, class Sampler>
class pipeline_outlook {
public:
  pipeline_outlook(const Drawing& d, const Sampler& sampler, std::span<judgement> judged,
                   double fixed_bytes) noexcept
      : d_(d), sampler_(sampler), ws_(d.ws), judged_(judged), fixed_bytes_(fixed_bytes) {}

  int heads() const noexcept { return d_.call.heads(); }
  int look() const noexcept { return look_; }
  void next_look() noexcept { ++look_; }
  index_t population() const noexcept { return d_.rest.size(); }
  index_t drawn(int head) const noexcept { return sampler_.size(d_, head); }
  partial_view state(int head) const noexcept { return ws_.head(head); }
  judgement& judged(int head) noexcept { return judged_[static_cast<std::size_t>(head)]; }
  std::span<index_t> sizes() noexcept { return ws_.sizes.first(heads()); }
  double row_bytes() const noexcept {
    return static_cast<double>(key_bytes(d_.call.kv) + value_bytes(d_.call.kv));
  }
  double fixed_bytes() const noexcept { return fixed_bytes_; }

  /// What the sizes that a budget has written ask for: the sample grows by as much as that of the head which
  /// asks for most of its own, but by no more than all heads together.
  growth_prospect growth() noexcept {
    double most = 0.0, sum = 0.0;
    for (int h = 0; h < heads(); ++h) {
      const auto had = static_cast<double>(drawn(h));
      const double more = static_cast<double>(sizes()[static_cast<std::size_t>(h)]) - had;
      most = std::max(most, more / std::max(had, 1.0));
      sum += std::max(more, 0.0);
    }
    const auto all = static_cast<double>(ws_.drawn.size());
    const double left = static_cast<double>(population()) - all;
    return {ws_.drawn.size(), ws_.draws.refined, std::min({sum, most * all, left})};
  }

  double variance(int head, contribution what, index_t size, correction finite) noexcept {
    if constexpr (Sampler::scheme == design::fixed_size)
      return sampler_.variance_at(d_, head, total(head, what), size, finite);
    if (!formed_ || what != *formed_) {
      form_squares(d_.call, ws_, what);
      formed_ = what;
    }
    const std::span<const float> squares(ws_.squares_of(head),
                                         static_cast<std::size_t>(ws_.drawn.size()));
    return sampler_.variance_at(d_, head, {squares, 0.0}, size, finite);
  }
  /// For samplers that know it beforehand: how far a sum may be off after a look of `size` more rows, at
  /// once or exactly in O(n).
  double radius(int head, index_t size, double log_term, bool exactly) noexcept {
    return sampler_.radius_at(d_, head, size, log_term, exactly);
  }
  /// The squares of another look are out of date.
  void forget() noexcept { formed_.reset(); }

private:
  /// For equal probabilities the mean square follows from the present variance
  /// V = n^2 (1/b - 1/n) mean(y^2): no row is read again.
  contributions total(int head, contribution what) const noexcept {
    const auto n = static_cast<double>(population());
    const auto b = static_cast<double>(drawn(head));
    const double v = what == contribution::denominator ? state(head).denominator_variance()
                     : what == contribution::numerator ? state(head).numerator_variance()
                                                       : variance_at_output(state(head)).total;
    return {{}, v * b / (n * n * (1.0 / b - 1.0 / n))};
  }

  const Drawing& d_;
  const Sampler& sampler_;
  workspace& ws_;
  std::span<judgement> judged_;
  double fixed_bytes_;
  int look_ = 1;
  /// What ws.squares holds of this look.
  std::optional<contribution> formed_;
};

}  // namespace detail

}  // namespace vattn
