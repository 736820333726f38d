// SPDX-License-Identifier: Apache-2.0
/// @file
/// One line for prototypes: sparse attention on Eigen matrices.
#pragma once

#include <vector>

#include "vattention/presets.hpp"

namespace vattn {

/// A result that owns its memory.
struct owned_result {
  /// `[g x d_v]`, log-sum-exp `[g]` and its standard error, one certificate a query.
  row_major_matrix output;
  std::vector<double> log_sum_exp, log_sum_exp_error;
  std::vector<certificate> certificates;

  explicit owned_result(const result& r)
      : output(r.output),
        log_sum_exp(r.log_sum_exp.begin(), r.log_sum_exp.end()),
        log_sum_exp_error(r.log_sum_exp_error.begin(), r.log_sum_exp_error.end()),
        certificates(r.certificates.begin(), r.certificates.end()) {}
};

/// Sparse attention with the default composition: `q` `[g x d]` (or one query as a vector of d), `keys`
/// `[n x d]`, `values` `[n x d_v]`, any storage order and scalar.
///
/// It copies what is not row-major float, codes the keys and allocates its scratch on every call: for
/// prototypes. In a loop keep a functor, its index and a workspace. Coding the keys alone takes longer than a
/// dense call, so with a cost policy it shows what a decoder would get, and is no faster itself.
/// @throws std::invalid_argument for shapes that do not fit.
template <class Q, class K, class V, cost_policy Cost = cost::none>
owned_result attend(const Eigen::MatrixBase<Q>& q, const Eigen::MatrixBase<K>& keys,
                    const Eigen::MatrixBase<V>& values, epsilon asked = epsilon{0.1},
                    delta miss = delta{0.1}, draw_key key = {}, Cost cost = {}) {
  row_major_matrix queries = q.template cast<float>();
  if (Q::ColsAtCompileTime == 1) queries.transposeInPlace();
  const row_major_matrix k = keys.template cast<float>();
  const row_major_matrix v = values.template cast<float>();
  const auto functor = presets::standard(asked, miss).with_cost(std::move(cost));
  const kv_view kv(k, v);
  workspace ws;
  return owned_result(functor(query_group(queries), kv, functor.make_index(kv), key, ws));
}

}  // namespace vattn
