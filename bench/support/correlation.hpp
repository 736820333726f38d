// SPDX-License-Identifier: Apache-2.0
/// @file
/// Pearson's correlation.
#pragma once

#include <Eigen/Core>

#include <cmath>
#include <vector>

namespace vattn_bench {

/// Of as many x as y; NaN where either does not vary.
inline double correlation(const std::vector<double>& x, const std::vector<double>& y) {
  const auto centred = [](const std::vector<double>& v) -> Eigen::ArrayXd {
    const Eigen::Map<const Eigen::ArrayXd> a(v.data(), static_cast<Eigen::Index>(v.size()));
    return a - a.mean();
  };
  const Eigen::ArrayXd a = centred(x);
  const Eigen::ArrayXd b = centred(y);
  return (a * b).sum() / std::sqrt(a.square().sum() * b.square().sum());
}

}  // namespace vattn_bench
