// SPDX-License-Identifier: Apache-2.0
/// @file
/// Generated heads as rows of an experiment.
#pragma once

#include <deque>

#include "rows.hpp"
#include "vattention/testing/heads.hpp"

namespace vattn_bench {

/// Generated heads in memory, one row each, named `<group>/<number>.q0@0`.
class synthetic_rows {
public:
  void add(const std::string& group, vattn::synthetic_head head) {
    const auto number = std::to_string(heads_.size());
    const vattn::synthetic_head& kept = data_.emplace_back(std::move(head));
    const float* q = kept.queries.data();
    heads_.emplace_back(group, number, kept.view(), std::vector<float>(q, q + kept.queries.cols()));
    rows_.push_back({&heads_.back(), 0, 0});
    groups_.push_back(group);
  }
  const std::vector<bench_row>& rows() const noexcept { return rows_; }
  /// Of each row.
  const std::vector<std::string>& groups() const noexcept { return groups_; }

private:
  std::deque<vattn::synthetic_head> data_;
  std::deque<kv_head> heads_;
  std::vector<bench_row> rows_;
  std::vector<std::string> groups_;
};

}  // namespace vattn_bench
