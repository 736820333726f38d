// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/audit_counters.hpp"

#include <thread>

#include "support/catch.hpp"

using namespace vattn;

namespace {

certificate met(double bound, quantity what = quantity::output) {
  certificate c;
  c.status = status::met;
  c.quantity = what;
  c.epsilon = bound;
  c.looks = 2;
  c.rows_total = 100;
  c.rows_exact = 10;
  c.rows_sampled = 15;
  return c;
}

}  // namespace

TEST_CASE("a certificate's errors are held against what was asked and what it states",
          "[audit_counters]") {
  audit_counters counters;
  counters.add(met(0.08), 0.1, {0.05, 0.3, {0.4, 0.6}});
  counters.add(met(0.08), 0.1, {0.09, 0.2, {0.2, 0.5}});
  counters.add(met(0.08), 0.1, {0.20, 0.1, {std::nan(""), std::nan("")}});
  const audit_row row = counters.row(1, 2, 3);
  CHECK(row.layer == 1);
  CHECK(row.kv_head == 2);
  CHECK(row.query == 3);
  CHECK(row.calls == 3);
  CHECK(row.claims == 3);
  CHECK(row.count(status::met) == 3);
  CHECK(row.within_asked == 2);
  CHECK(row.output_within_asked == 2);
  CHECK(row.within_bound == 1);
  CHECK(row.unsampled == 0);
  CHECK(row.mean_looks() == 2.0);
  CHECK(row.visible == 300);
  CHECK(row.mean_density() == Approx(0.25).margin(1e-9));
  CHECK(row.mean_drawn() == Approx(0.15).margin(1e-9));
  CHECK(row.mean_output_error() == Approx(0.34 / 3).margin(1e-9));
  CHECK(row.mean_denominator_error() == Approx(0.2).margin(1e-9));
  CHECK(row.largest_output_error == 0.2);
  CHECK(row.largest_denominator_error == 0.3);
  CHECK(row.weighed == 2);
  CHECK(row.mean_covered() == Approx(0.3).margin(1e-9));
  CHECK(row.mean_attainable() == Approx(0.55).margin(1e-9));
}

TEST_CASE("a denominator's certificate is held against the denominator", "[audit_counters]") {
  audit_counters counters;
  counters.add(met(0.08, quantity::denominator), 0.1, {0.5, 0.05, {}});
  const audit_row row = counters.row(0, 0, 0);
  CHECK(row.within_asked == 1);
  CHECK(row.within_bound == 1);
  CHECK(row.output_within_asked == 0);
}

TEST_CASE("no claim is no miss, a NaN under a claim is one", "[audit_counters]") {
  audit_counters counters;
  certificate none = met(0.1);
  none.status = status::non_finite;
  counters.add(none, 0.1, {std::nan(""), std::nan(""), {}});
  counters.add(met(0.1), 0.1, {std::nan(""), std::nan(""), {}});
  const audit_row row = counters.row(0, 0, 0);
  CHECK(row.calls == 2);
  CHECK(row.claims == 1);
  CHECK(row.within_asked == 0);
  CHECK(row.within_bound == 0);
  CHECK(row.mean_output_error() == 1024.0);
  CHECK(row.largest_output_error == std::numeric_limits<double>::infinity());
}

TEST_CASE("float rounding is no violation", "[audit_counters]") {
  audit_counters counters;
  certificate exact = met(0.0);
  exact.status = status::exact;
  exact.looks = 0;
  counters.add(exact, 0.1, {2e-6, 3e-7, {1.0, 1.0}});
  CHECK(counters.row(0, 0, 0).within_bound == 1);
  CHECK(counters.row(0, 0, 0).unsampled == 1);
  CHECK(counters.row(0, 0, 0).exact_share() == 1.0);
}

TEST_CASE("threads add up to the same bits as one", "[audit_counters]") {
  const auto add = [](audit_counters& counters, int first, int step) {
    for (int i = first; i < 4000; i += step)
      counters.add(met(0.05), 0.1, {i * 1e-4 / 3.0, i * 1e-5 / 7.0, {1.0 / (i + 1), 0.9}});
  };
  audit_counters alone;
  add(alone, 0, 1);
  audit_counters together;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t) threads.emplace_back([&, t] { add(together, t, 4); });
  for (std::thread& thread : threads) thread.join();
  const audit_row a = alone.row(0, 0, 0);
  const audit_row b = together.row(0, 0, 0);
  CHECK(a.within_asked == b.within_asked);
  CHECK(a.within_bound == b.within_bound);
  CHECK(a.output_error == b.output_error);
  CHECK(a.denominator_error == b.denominator_error);
  CHECK(a.covered == b.covered);
  CHECK(a.largest_output_error == b.largest_output_error);
}

TEST_CASE("a fixed-point sum", "[audit_counters]") {
  fixed_point_sum sum;
  for (int i = 0; i < 1000; ++i) sum.add(0.125);
  CHECK(sum.value() == 125.0);
  sum.add(1e300);
  sum.add(std::nan(""));
  CHECK(sum.value() == 125.0 + 2048.0);
}

TEST_CASE("room for rounding is of the exact quantity, whatever the unit", "[audit_counters]") {
  audit_counters counters;
  comparison tiny{3e-6, 0.0, {}};  // asked for an absolute 1e-6 of an output of norm .01
  tiny.size = 0.01;
  counters.add(met(1e-6), 1e-6, tiny);
  comparison large{1.5, 0.0, {}};  // asked for an absolute 1 of an output of norm 1e6
  large.size = 1e6;
  counters.add(met(1.0), 1.0, large);
  CHECK(counters.row(0, 0, 0).within_asked == 1);
  CHECK(counters.row(0, 0, 0).within_bound == 1);
}
