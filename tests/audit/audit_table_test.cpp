// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/audit_table.hpp"

#include <sstream>
#include <string>

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

TEST_CASE("a report prints a head a line and all together", "[audit_report]") {
  audit_report report{0.1, 0.1, quantity::output, 8, {head(0), audit_row{}, head(3)}, {}};
  for (const audit_row& row : report.rows) report.total += row;
  std::ostringstream out;
  out << report;
  const std::string text = out.str();
  CAPTURE(text);
  CHECK(text.find("audit of about one call in 8") != std::string::npos);
  CHECK(text.find("output error <= 0.1 in 90 % of calls") != std::string::npos);
  CHECK(text.find("\n  3   1  2    200  95.0 [89.6  98.1]  90.0  15.0  1.5  25.0 0.0400") !=
        std::string::npos);
  CHECK(text.find("\nall heads     400  95.0") != std::string::npos);
  CHECK(text.find("ends: 100 exact, 300 met") != std::string::npos);
  std::istringstream lines(text);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) CHECK(line.size() <= 100);
  CHECK(count == 7);
}

TEST_CASE("an audit of nothing says so", "[audit_report]") {
  std::ostringstream out;
  out << audit_report{};
  CHECK(out.str().find("no call has been audited") != std::string::npos);
}
