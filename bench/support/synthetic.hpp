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
  void add(const std::string& group, const vattn::kv_view& kv,
           const vattn::synthetic_head::matrix& queries) {
    const float* q = queries.data();
    heads_.emplace_back(group, std::to_string(heads_.size()), kv,
                        std::vector<float>(q, q + queries.cols()));
    rows_.push_back({&heads_.back(), 0, 0});
    groups_.push_back(group);
  }
  std::deque<vattn::synthetic_head> data_;
  std::deque<std::vector<Eigen::bfloat16>> narrow_;
  std::deque<kv_head> heads_;
  std::vector<bench_row> rows_;
  std::vector<std::string> groups_;
};

}  // namespace vattn_bench
