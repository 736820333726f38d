// SPDX-License-Identifier: Apache-2.0
/// @file
/// Channels of keys by their size, one by one.
#pragma once

#include <Eigen/Core>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vattention/kernels/convert.hpp"
#include "vattention/testing/heads.hpp"

namespace vattn::test {

/// Keys as floats `[n x d]`.
inline synthetic_head::matrix keys_of(const kv_view& kv) {
  synthetic_head::matrix keys(kv.rows(), kv.key_dim());
  for (index_t row = 0; row < kv.rows(); ++row)
    kernels::load_row(kv.key_type(), kv.key_row(static_cast<row_t>(row)), kv.key_dim(),
                      keys.row(row).data());
  return keys;
}

/// Channels of largest size one by one, ties by number.
inline std::vector<std::int32_t> by_size(Eigen::VectorXd size, index_t count) {
  std::vector<std::int32_t> out;
  for (index_t i = 0; i < std::min<index_t>(count, size.size()); ++i) {
    index_t best = 0;
    for (index_t j = 1; j < size.size(); ++j)
      if (size[j] > size[best]) best = j;
    out.push_back(static_cast<std::int32_t>(best));
    size[best] = -1.0;
  }
  return out;
}

/// Mean magnitudes of the columns.
inline Eigen::VectorXd magnitudes(const synthetic_head::matrix& m) {
  return m.cast<double>().cwiseAbs().colwise().mean().transpose();
}

}  // namespace vattn::test
