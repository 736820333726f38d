// SPDX-License-Identifier: Apache-2.0
#include "vattention/core/certificate.hpp"

#include <cmath>
#include <set>
#include <string>

#include "support/catch.hpp"

using namespace vattn;

TEST_CASE("a fresh certificate vouches for nothing") {
  const certificate fresh;
  CHECK_FALSE(fresh.holds());
  CHECK(fresh.status == status::not_met);
  CHECK(fresh.basis == basis::unmeasured);
  CHECK(fresh.quantity == quantity::none);
  CHECK(fresh.bound == bound_kind::none);
  CHECK(std::isnan(fresh.epsilon_asked));
  CHECK(fresh.epsilon == std::numeric_limits<double>::infinity());
  CHECK(fresh.density() == 0.0);
}

TEST_CASE("only met and exact hold") {
  CHECK(static_cast<std::size_t>(status::non_finite) + 1 == status_count);
  for (const status end :
       {status::exact, status::met, status::not_met, status::capped, status::sample_too_small,
        status::no_target, status::bound_violated, status::non_finite}) {
    certificate c;
    c.status = end;
    CAPTURE(to_string(end));
    CHECK(c.holds() == (end == status::exact || end == status::met));
  }
}

TEST_CASE("density is the share of visible rows that were read") {
  certificate c;
  c.rows_total = 200;
  c.rows_exact = 30;
  c.rows_sampled = 20;
  CHECK(c.density() == 0.25);
  c.rows_exact = 200;
  c.rows_sampled = 0;
  CHECK(c.density() == 1.0);
}

TEST_CASE("density of an empty cache is 0, not NaN") {
  certificate c;
  c.rows_total = 0;
  CHECK(c.density() == 0.0);
}

TEST_CASE("every enumerator has a name of its own") {
  CHECK(std::string(to_string(quantity::denominator)) == "denominator");
  CHECK(std::string(to_string(bound_kind::joint_normal)) == "joint_normal");
  CHECK(std::string(to_string(basis::measured_on_average)) == "measured_on_average");
  CHECK(std::string(to_string(status::sample_too_small)) == "sample_too_small");

  const auto distinct = [](auto last) {
    using e = decltype(last);
    std::set<std::string> names;
    const int count = static_cast<int>(last) + 1;
    for (int i = 0; i < count; ++i) names.insert(to_string(static_cast<e>(i)));
    return static_cast<int>(names.size()) == count && !names.contains("?");
  };
  CHECK(distinct(quantity::numerator));
  CHECK(distinct(bound_kind::rank_quantile));
  CHECK(distinct(basis::unmeasured));
  CHECK(distinct(status::non_finite));
}

TEST_CASE("a value outside an enumeration has no name and does no harm") {
  CHECK(std::string(to_string(static_cast<status>(200))) == "?");
  CHECK(std::string(to_string(static_cast<basis>(200))) == "?");
  CHECK(std::string(to_string(static_cast<quantity>(200))) == "?");
  CHECK(std::string(to_string(static_cast<bound_kind>(200))) == "?");
}

TEST_CASE("certificates are plain values") {
  STATIC_REQUIRE(std::is_trivially_copyable_v<certificate>);
  STATIC_REQUIRE(noexcept(certificate{}.density()));
}
