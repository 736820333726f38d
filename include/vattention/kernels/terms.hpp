// SPDX-License-Identifier: Apache-2.0
/// @file
/// Arguments of kernels that come as a group.
#pragma once

namespace vattn::kernels {

/// What one head makes of the sums of a code scan, see `table::weigh_sums`.
struct weigh_terms {
  float slope, rise, kappa, offset;
};

/// One head's part in `table::within_reach` [binary logarithms, but for `shift`].
struct reach_terms {
  float shift, rise, floor, reach;
};
/// What one level of proposals makes of log-weights, see `table::proposal_logs` [natural logarithms].
struct proposal_terms {
  float offset, floor, reach;
};
/// Proposals whose logarithm is not below this are certain whatever their scale, and stand as the largest float.
inline constexpr float certain_log = 64.0F;
/// log2 e, and what makes `table::within_reach` take a hair too many rather than too few.
inline constexpr float log2_e = 1.44269504F, reach_margin = 0x1p-10F;

}  // namespace vattn::kernels
