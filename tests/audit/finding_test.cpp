// SPDX-License-Identifier: Apache-2.0
#include "vattention/audit/finding.hpp"

#include <set>
#include <string>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("every finding has a name and an advice of its own", "[finding]") {
  std::set<std::string> names;
  std::set<std::string> advices;
  for (int i = 0; i <= static_cast<int>(finding::error_far_below); ++i) {
    names.insert(to_string(static_cast<finding>(i)));
    advices.insert(advice(static_cast<finding>(i)));
  }
  CHECK(names.size() == 6);
  CHECK(advices.size() == 6);
  CHECK(names.count("?") == 0);
  CHECK(std::string(to_string(finding::recall_failing)) == "recall_failing");
  CHECK(std::string(advice(finding::recall_failing)).find("larger k") != std::string::npos);
  CHECK(std::string(to_string(static_cast<finding>(99))) == "?");
  CHECK(std::string(advice(static_cast<finding>(99))) == "?");
}
