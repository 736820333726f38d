// SPDX-License-Identifier: Apache-2.0
/// @file
/// What running sums were some rows ago.
#pragma once

#include <cstdint>
#include <vector>

#include "vattention/top_k/index_growth.hpp"

namespace vattn::top_k {

/// A state at every 16th row, before that row counted: a sum in the order of the rows can go back to any of them and
/// go on from there as if the rows behind had never been.
template <class State>
class milestones {
public:
  static constexpr index_t apart = 16;

  /// Makes room for `rows` rows; allocates.
  void reserve(index_t rows) { reserve_ahead(states_, (rows + apart - 1) / apart); }
  /// Before row `row` counts, the next one. Allocates unless there is room.
  void pass(index_t row, const State& state) {
    if (row % apart == 0) states_.push_back(state);
  }
  /// The state before row `rows`, a multiple of 16; `now` if that row has not come yet. What is behind is forgotten.
  State back_to(index_t rows, const State& now) noexcept {
    const auto at = static_cast<std::size_t>(rows / apart);
    if (at >= states_.size()) return rows == 0 ? State{} : now;
    const State then = states_[at];
    states_.resize(at);
    return then;
  }

  template <class File>
  void exchange(File& file) {
    auto count = static_cast<std::uint64_t>(states_.size());
    file.number(count);
    if (count != states_.size()) states_.clear();
    for (std::uint64_t i = 0; i < count; ++i) {
      if (i >= states_.size()) states_.emplace_back();
      states_[static_cast<std::size_t>(i)].exchange(file);
    }
  }

private:
  std::vector<State> states_;
};

}  // namespace vattn::top_k
