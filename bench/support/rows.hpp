// SPDX-License-Identifier: Apache-2.0
/// @file
/// The rows a guarantee is judged on: one file, KV head, query head and position each.
#pragma once

#include <nlohmann/json_fwd.hpp>  // what capture.hpp needs, told to CMake

#include <atomic>
#include <deque>
#include <thread>
#include <vector>

#include "../../examples/support/capture.hpp"
#include "vattention/testing/reference.hpp"

namespace vattn_bench {

using vattn_examples::capture;
using vattn_examples::kv_head;

struct bench_row {
  const kv_head* head;
  int query_head;
  int position;
  /// Called together with the other query heads of its KV head, and judged for itself.
  bool in_group = false;

  vattn::query_group query() const noexcept {
    return in_group ? head->group(position) : head->query(query_head, position);
  }
  /// Which query of a call is this row's.
  int lane() const noexcept { return in_group ? query_head : 0; }
  vattn::index_t visible() const noexcept { return head->visible_rows(position); }
  std::string name() const { return head->row_name(query_head, position); }
  std::string head_name() const { return head->full_name(query_head); }
};

/// Captures in memory, and their rows.
class row_set {
public:
  /// Every `stride`-th position, the last one among them, of those rows whose names contain `part`; each
  /// query alone, or with its group.
  /// @throws std::runtime_error for a file that is no capture, without any file, and if no row is left.
  row_set(const std::vector<std::filesystem::path>& files, int stride, const std::string& part = "",
          bool groups = false) {
    if (files.empty()) throw std::runtime_error("no file given, and none in examples/data");
    for (const auto& file : files) captures_.emplace_back(file);
    for (const capture& file : captures_)
      for (const kv_head& head : file.heads()) {
        heads_.push_back(&head);
        for (int h = 0; h < head.query_heads(); ++h)
          for (int p = (head.positions() - 1) % stride; p < head.positions(); p += stride)
            if (head.row_name(h, p).find(part) != std::string::npos)
              rows_.push_back({&head, h, p, groups});
      }
    if (rows_.empty()) throw std::runtime_error("no row's name contains '" + part + "'");
  }
  const std::vector<const kv_head*>& heads() const noexcept { return heads_; }
  const std::vector<bench_row>& rows() const noexcept { return rows_; }

private:
  std::deque<capture> captures_;
  std::vector<const kv_head*> heads_;
  std::vector<bench_row> rows_;
};

/// How far a result is from the exact one.
struct deviation {
  double output = 0.0, denominator = 0.0;
};

/// Both relative errors; a NaN counts as infinite. `log_sum_exp` carries D^ / D.
template <class Output>
deviation deviation_of(const Output& output, double log_sum_exp,
                       const vattn::exact_attention& exact, int lane = 0) {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const double o = vattn::relative_error(output, exact.output.row(lane));
  const double d = std::fabs(std::expm1(log_sum_exp - exact.log_sum_exp[lane]));
  return {std::isnan(o) ? infinity : o, std::isnan(d) ? infinity : d};
}

/// Calls `body(thread, i)` for every i of [0, count), each once, in about ascending order, on
/// `threads` threads. An exception of one ends all and is thrown again.
template <class Body>
void for_each_parallel(std::size_t count, int threads, Body body) {
  std::atomic<std::size_t> next{0};
  std::exception_ptr thrown;
  std::atomic<bool> failed{false};
  const auto work = [&](int thread) {
    try {
      for (std::size_t i = next++; i < count && !failed; i = next++) body(thread, i);
    } catch (...) {
      if (!failed.exchange(true)) thrown = std::current_exception();
    }
  };
  std::vector<std::thread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work, t);
  work(0);
  for (std::thread& t : pool) t.join();
  if (thrown) std::rethrow_exception(thrown);
}

}  // namespace vattn_bench
