// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/audit_report.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace vattn;

namespace {

audit_row head(int layer) {
  audit_row row;
  row.layer = layer;
  row.kv_head = 1;
  row.query = 2;
  row.calls = 200;
  row.claims = 200;
  row.within_asked = 190;
  row.within_bound = 180;
  row.looks = 300;
  row.density = 30.0;
  row.drawn = 20.0;
  row.visible = 200000;
  row.unsampled = 0;
  row.output_error = 8.0;
  row.denominator_error = 1.0;
  row.largest_output_error = 0.15 + layer;
  row.weighed = 200;
  row.covered = 100.0;
  row.attainable = 120.0;
  row.statuses[static_cast<std::size_t>(status::met)] = 150;
  row.statuses[static_cast<std::size_t>(status::exact)] = 50;
  return row;
}

}  // namespace

TEST_CASE("shares and means of a row", "[audit_report]") {
  audit_row row = head(0);
  CHECK(row.coverage() == 0.95);
  CHECK(row.bound_coverage() == 0.9);
  CHECK(row.exact_share() == 0.25);
  CHECK(row.mean_density() == 0.15);
  CHECK(row.mean_looks() == 1.5);
  CHECK(row.mean_output_error() == 0.04);
  CHECK(row.mean_denominator_error() == 0.005);
  CHECK(row.mean_covered() == 0.5);
  CHECK(row.mean_attainable() == 0.6);
  row.unsampled = 20;
  CHECK(row.sampled_density() == Approx(10.0 / 180));
  const proportion_interval range = row.coverage_interval();
  CHECK(range.lower == clopper_pearson(190, 200, 0.01).lower);
  CHECK(range.upper == clopper_pearson(190, 200, 0.01).upper);
  CHECK(range.lower < 0.95);
}

TEST_CASE("an empty row has no shares", "[audit_report]") {
  const audit_row row;
  CHECK(std::isnan(row.coverage()));
  CHECK(std::isnan(row.mean_density()));
  CHECK(std::isnan(row.sampled_density()));
  CHECK(std::isnan(row.mean_covered()));
  CHECK(row.coverage_interval().lower == 0.0);
  CHECK(row.coverage_interval().upper == 1.0);
}

TEST_CASE("rows add up", "[audit_report]") {
  audit_row sum;
  sum += head(0);
  sum += head(1);
  CHECK(sum.layer == -1);
  CHECK(sum.calls == 400);
  CHECK(sum.count(status::exact) == 100);
  CHECK(sum.coverage() == 0.95);
  CHECK(sum.mean_output_error() == 0.04);
  CHECK(sum.largest_output_error == 1.15);
  CHECK(sum.mean_drawn() == 0.1);
  CHECK(sum.visible == 400000);
  CHECK(sum.looks == 600);
  CHECK(sum.mean_covered() == 0.5);
  CHECK(sum.bound_coverage() == 0.9);
}
