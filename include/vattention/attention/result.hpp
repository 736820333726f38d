// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a call returns: outputs, log-sum-exp with its standard error, one certificate a query.
#pragma once

#include <Eigen/Core>

#include <span>

#include "vattention/core/certificate.hpp"
#include "vattention/core/workspace.hpp"

namespace vattn {

using row_major_matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// Refers into the workspace of the call; valid until the workspace is used again.
struct result {
  /// `[g x d_v]`.
  Eigen::Map<const row_major_matrix> output;
  /// Natural logarithm of sum exp(logit), `[g]`, and its standard error (first order: se(D) / D). The
  /// certificate does not cover it.
  std::span<const double> log_sum_exp;
  std::span<const double> log_sum_exp_error;
  std::span<const certificate> certificates;

  result(workspace& ws, int heads, index_t value_dim) noexcept
      : output(ws.output.data(), heads, value_dim),
        log_sum_exp(ws.log_sum_exp.first(heads)),
        log_sum_exp_error(ws.log_sum_exp_error.first(heads)),
        certificates(ws.certificates.first(heads)) {}
};

namespace detail {

/// Writes o = N / D as float (0 where D = 0) and says whether all of it is finite.
inline bool write_output(const double* numerator, double denominator, index_t value_dim,
                         float* out) noexcept {
  bool finite = true;
  for (index_t j = 0; j < value_dim; ++j) {
    out[j] = denominator == 0.0 ? 0.0F : static_cast<float>(numerator[j] / denominator);
    finite = finite && std::isfinite(out[j]);
  }
  return finite && std::isfinite(denominator);
}

}  // namespace detail

}  // namespace vattn
