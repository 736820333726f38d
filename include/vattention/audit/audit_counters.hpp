// SPDX-License-Identifier: Apache-2.0
/// @file
/// Counters of one query head that any number of threads may add to, without a lock.
#pragma once

#include <atomic>
#include <cmath>

#include "vattention/audit/audit_report.hpp"
#include "vattention/audit/comparison.hpp"

namespace vattn {

/// A sum of non-negative numbers in steps of 2^-30: whole numbers add up to the same bits in any
/// order. Numbers above 1024, and NaN, count as 1024; room for 2^24 of those.
class fixed_point_sum {
public:
  void add(double x) noexcept {
    const double kept = x < 1024.0 ? x : 1024.0;
    steps_.fetch_add(static_cast<std::uint64_t>(kept * 0x1p30 + 0.5), std::memory_order_relaxed);
  }
  double value() const noexcept {
    return static_cast<double>(steps_.load(std::memory_order_relaxed)) * 0x1p-30;
  }

private:
  std::atomic<std::uint64_t> steps_{0};
};

/// The largest of non-negative numbers; NaN counts as infinite.
class running_largest {
public:
  void add(double x) noexcept {
    const double seen = std::isnan(x) ? std::numeric_limits<double>::infinity() : x;
    double top = top_.load(std::memory_order_relaxed);
    while (seen > top && !top_.compare_exchange_weak(top, seen, std::memory_order_relaxed)) {
    }
  }
  double value() const noexcept { return top_.load(std::memory_order_relaxed); }

private:
  std::atomic<double> top_{0.0};
};

/// The counters behind one `audit_row`. Adding is wait-free but for the maxima; all of it relaxed,
/// so a row taken while calls are under way may hold half of one.
class alignas(64) audit_counters {
public:
  void add(const certificate& c, double asked, const comparison& error) noexcept {
    count(calls_, true);
    count(statuses_[static_cast<std::size_t>(c.status)], true);
    count(unsampled_, c.looks == 0);
    looks_.fetch_add(c.looks, std::memory_order_relaxed);
    visible_.fetch_add(c.rows_total, std::memory_order_relaxed);
    density_.add(c.density());
    if (c.rows_total > 0)
      drawn_.add(static_cast<double>(c.rows_sampled) / static_cast<double>(c.rows_total));
    if (std::isfinite(error.mass.covered)) {
      count(weighed_, true);
      covered_.add(error.mass.covered);
      attainable_.add(error.mass.attainable);
    }
    if (c.status == status::non_finite) return;
    const bool of_denominator = c.quantity == quantity::denominator;
    const double certified = of_denominator ? error.denominator : error.output;
    const double of_output = audit_row::rounding * error.size;
    const double room = of_denominator ? audit_row::rounding : of_output;
    count(claims_, true);
    count(within_asked_, certified <= asked + room);
    count(within_bound_, certified <= c.epsilon + room);
    count(output_within_asked_, error.output <= asked + of_output);
    output_error_.add(error.output);
    denominator_error_.add(error.denominator);
    largest_output_error_.add(error.output);
    largest_denominator_error_.add(error.denominator);
  }

  audit_row row(int layer, int kv_head, int query) const noexcept {
    audit_row row;
    row.layer = layer;
    row.kv_head = kv_head;
    row.query = query;
    for (std::size_t i = 0; i < row.statuses.size(); ++i) row.statuses[i] = get(statuses_[i]);
    row.calls = get(calls_);
    row.claims = get(claims_);
    row.unsampled = get(unsampled_);
    row.within_asked = get(within_asked_);
    row.within_bound = get(within_bound_);
    row.output_within_asked = get(output_within_asked_);
    row.looks = get(looks_);
    row.visible = get(visible_);
    row.weighed = get(weighed_);
    row.density = density_.value();
    row.drawn = drawn_.value();
    row.output_error = output_error_.value();
    row.denominator_error = denominator_error_.value();
    row.covered = covered_.value();
    row.attainable = attainable_.value();
    row.largest_output_error = largest_output_error_.value();
    row.largest_denominator_error = largest_denominator_error_.value();
    return row;
  }

private:
  using counter = std::atomic<index_t>;
  static void count(counter& c, bool one) noexcept {
    if (one) c.fetch_add(1, std::memory_order_relaxed);
  }
  static index_t get(const counter& c) noexcept { return c.load(std::memory_order_relaxed); }

  counter calls_{0}, claims_{0}, unsampled_{0}, within_asked_{0}, within_bound_{0};
  counter output_within_asked_{0}, looks_{0}, visible_{0}, weighed_{0};
  std::array<counter, status_count> statuses_{};
  fixed_point_sum density_, drawn_, output_error_, denominator_error_, covered_, attainable_;
  running_largest largest_output_error_, largest_denominator_error_;
};

}  // namespace vattn
