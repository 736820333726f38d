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
    add_row(group, kept.view(), kept.queries);
  }
  /// The same with keys and values rounded to bf16.
  void add_narrow(const std::string& group, const vattn::synthetic_head& head) {
    const auto narrow = [&](const vattn::synthetic_head::matrix& m) {
      const auto& kept = narrow_.emplace_back(vattn::narrow<Eigen::bfloat16>(m));
      return vattn::rows_view(kept.data(), m.rows(), m.cols());
    };
    const vattn::rows_view keys = narrow(head.keys);
    add_row(group, {keys, narrow(head.values)}, head.queries);
  }
  const std::vector<bench_row>& rows() const noexcept { return rows_; }

private:
  void add_row(const std::string& group, const vattn::kv_view& kv,
               const vattn::synthetic_head::matrix& queries) {
    const float* q = queries.data();
    heads_.emplace_back(group, std::to_string(heads_.size()), kv,
                        std::vector<float>(q, q + queries.cols()));
    rows_.push_back({&heads_.back(), 0, 0});
  }

  std::deque<vattn::synthetic_head> data_;
  std::deque<std::vector<Eigen::bfloat16>> narrow_;
  std::deque<kv_head> heads_;
  std::vector<bench_row> rows_;
};

}  // namespace vattn_bench
