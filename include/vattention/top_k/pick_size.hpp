// SPDX-License-Identifier: Apache-2.0
/// @file
/// How many rows a predictor of log-weights picks: so many, a share of the rows, or a share of the mass.
#pragma once

#include "vattention/top_k/pick_mass.hpp"
#include "vattention/top_k/selection.hpp"

namespace vattn {

/// A share of the predicted weight of the rows that are not read yet, see `pick_size`.
class mass {
public:
  /// @throws std::invalid_argument outside [0, 1].
  explicit mass(double share) : share_(share) {
    require(share >= 0.0 && share <= 1.0, "mass", "0 <= share <= 1", share);
  }
  double share() const noexcept { return share_; }

private:
  double share_;
};

/// Rows that are picked for each query head: `rows(128)`, `fraction(0.02)`, or with `mass(0.9)` the fewest whose
/// predicted weights make up that share of what is left, ties by row number ("top-p").
class pick_size {
public:
  // NOLINTNEXTLINE(google-explicit-constructor): stands for either
  pick_size(extent rows) noexcept : rows_(rows), share_(-1.0) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  pick_size(mass of) noexcept : rows_(vattn::rows(0)), share_(of.share()) {}

  bool of_mass() const noexcept { return share_ >= 0.0; }
  /// Of mass only.
  double share() const noexcept { return share_; }
  /// Rows of a population; at most all of them where a mass is asked for.
  index_t most(index_t population) const noexcept {
    if (of_mass()) return share_ > 0.0 ? population : 0;
    return rows_.of(population);
  }

private:
  extent rows_;
  double share_;
};

/// Adds to ws.exact what `size` asks for, for each head, among the rows not in it yet. Fewer free rows: all.
template <cache_view View>
void select_sized(const attention_call<View>& call, const pick_size& size, workspace& ws) noexcept {
  if (!size.of_mass()) return select_top(call, size.most(call.visible), ws);
  ws.seen.exclude(ws.exact.rows());
  for (int h = 0; h < call.heads(); ++h) {
    const auto scores = ws.seen.scores(h).first(static_cast<std::size_t>(call.visible));
    const index_t count = pick_mass(scores, size.share(), ws);
    for (const row_t row : ws.picks.first(count)) ws.exact.add(row);
  }
}

}  // namespace vattn
