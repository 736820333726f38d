// SPDX-License-Identifier: Apache-2.0
/// @file
/// What vattention in llama.cpp has done so far, for programs that link the engine statically.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "options.hpp"
#include "vattention/audit/audit_report.hpp"

struct vattn_llama;

namespace vattn_llama_cpp {

/// Counts of one KV head of one layer; rows are those of the whole group.
struct head_count {
  int layer = 0, kv_head = 0;
  vattn::index_t calls = 0, rows_read = 0, rows_total = 0, looks = 0, bytes = 0;
  /// Sum of the shares of rows read.
  double density = 0.0;
  /// Certificates by `vattn::status`.
  std::array<vattn::index_t, vattn::status_count> statuses{};
};

/// Shares of the rows that were read, summed over so many calls.
struct density_sum {
  double sum = 0.0;
  vattn::index_t calls = 0;

  density_sum operator-(const density_sum& before) const noexcept {
    return {sum - before.sum, calls - before.calls};
  }
  /// 1 where all was dense.
  double mean() const noexcept { return calls == 0 ? 1.0 : sum / static_cast<double>(calls); }
};

struct state_report {
  options asked;
  /// Heads that were called, by layer and KV head.
  std::vector<head_count> heads;
  /// Empty unless VATTN_AUDIT is set.
  vattn::audit_report audit;
  /// Operators run, and the time in them [s].
  vattn::index_t operators = 0;
  double seconds = 0.0;
  vattn::index_t rows_indexed = 0;
  /// Indices that differed from one built anew, if VATTN_VERIFY is set: 0 unless there is a mistake here.
  vattn::index_t stale = 0;

  density_sum density() const noexcept {
    density_sum all;
    for (const head_count& head : heads) {
      all.sum += head.density;
      all.calls += head.calls;
    }
    return all;
  }
};

/// States that are on and alive, the oldest first. Not while another thread makes or frees a context.
std::vector<vattn_llama*> live_states();
state_report report_of(const vattn_llama& state);
/// What topk, oracle and window read from the next step on, (0, 1].
void set_density(vattn_llama& state, double density) noexcept;
/// Sets the counts to zero.
void forget_counts(vattn_llama& state);

}  // namespace vattn_llama_cpp
