// SPDX-License-Identifier: Apache-2.0
/// @file
/// The method's failure signatures by name, each with the knob that mends it.
#pragma once

#include <cstdint>

namespace vattn {

/// Failure signatures: low sparsity at a high epsilon, a predictor that fails, epsilon and error
/// apart (arXiv 2510.05688, discussion), told apart by what mends them. `diagnosis_rules` says when
/// each is found.
enum class finding : std::uint8_t {
  low_sparsity,           ///< most rows are read although much error is allowed
  base_sample_too_large,  ///< the first sample is more than is needed, or than the cache bears
  recall_failing,         ///< the rows read exactly are not the heavy ones
  output_not_covered,     ///< only the denominator was promised, and only it keeps epsilon
  promise_broken,   ///< the certified quantity is beyond epsilon in more than delta of the calls
  error_far_below,  ///< errors far below epsilon, paid for with rows
};

inline const char* to_string(finding what) noexcept {
  switch (what) {
    case finding::low_sparsity: return "low_sparsity";
    case finding::base_sample_too_large: return "base_sample_too_large";
    case finding::recall_failing: return "recall_failing";
    case finding::output_not_covered: return "output_not_covered";
    case finding::promise_broken: return "promise_broken";
    case finding::error_far_below: return "error_far_below";
  }
  return "?";
}

/// The knob that mends it, in one sentence.
inline const char* advice(finding what) noexcept {
  switch (what) {
    case finding::low_sparsity:
      return "ask for a larger epsilon or delta, or sample in proportion to predicted weights; a "
             "flat head whose output is small beside its values needs that many rows";
    case finding::base_sample_too_large:
      return "take a smaller base sample: the first look is content with less";
    case finding::recall_failing:
      return "take a larger k, more bits a key or another predictor: heavy rows are left to chance";
    case finding::output_not_covered:
      return "certify another quantity: budget::output in place of the denominator";
    case finding::promise_broken:
      return "take a larger base sample or a better predictor, or ask for a smaller epsilon: the "
             "sample does not know of the rows it has not met";
    case finding::error_far_below:
      return "ask for a larger epsilon, or take a budget with a tighter bound";
  }
  return "?";
}

}  // namespace vattn
