// SPDX-License-Identifier: Apache-2.0
#include "vattention/ledger/delta_ledger.hpp"

#include <array>
#include <string>
#include <thread>
#include <vector>

#include "support/catch.hpp"

using namespace vattn;

namespace {

certificate with(status end, basis grounds) {
  certificate c;
  c.status = end;
  c.basis = grounds;
  return c;
}
const certificate proved = with(status::met, basis::proved);
const certificate measured = with(status::met, basis::measured_per_row);
const certificate exact = with(status::exact, basis::exact);

void issue(delta_ledger& ledger, const std::vector<certificate>& certificates) {
  auto shares = ledger.reserve(static_cast<index_t>(certificates.size()));
  shares.settle(certificates);
}

}  // namespace

TEST_CASE("a plan is a number of certificates", "[delta_ledger]") {
  CHECK(delta_plan{.layers = 30, .query_heads = 9, .steps = 1000}.certificates() == 270000);
  CHECK_THROWS_AS((delta_plan{.layers = 0}.certificates()), std::invalid_argument);
  CHECK_THROWS_AS((delta_plan{.steps = -1}.certificates()), std::invalid_argument);
  CHECK_THROWS_AS(
      (delta_plan{.layers = 1 << 20, .query_heads = 1 << 20, .steps = 1 << 20}.certificates()),
      std::invalid_argument);
}

TEST_CASE("shares are spent by what is not exact", "[delta_ledger]") {
  delta_ledger ledger(delta{0.1}, {.layers = 1, .query_heads = 2, .steps = 5});
  CHECK(ledger.share() == 0.1 / 10);
  issue(ledger, {measured, exact});
  issue(ledger, {exact, exact});
  issue(ledger, {with(status::capped, basis::measured_per_row), measured});
  const ledger_report r = ledger.report();
  CHECK(r.total == 0.1);
  CHECK(r.share == 0.1 / 10);
  CHECK(r.planned == 10);
  CHECK(r.issued == 6);
  CHECK(r.exact == 3);
  CHECK(r.spent == 3);
  CHECK(r.not_held == 1);
  CHECK(r.spent_delta() == Approx(0.03));
  CHECK(r.expected_violations() == Approx(0.03));
}

TEST_CASE("a total is proved only if every certificate is", "[delta_ledger]") {
  delta_ledger ledger(delta{0.1}, {.steps = 10});
  CHECK(ledger.report().proved());
  issue(ledger, {exact});
  CHECK(ledger.report().weakest == basis::exact);
  issue(ledger, {proved, proved});
  CHECK(ledger.report().weakest == basis::proved);
  CHECK(ledger.report().proved());
  issue(ledger, {measured});
  issue(ledger, {proved});
  CHECK(ledger.report().weakest == basis::measured_per_row);
  CHECK_FALSE(ledger.report().proved());
}

TEST_CASE("a ledger refuses with what was spent, and changes nothing", "[delta_ledger]") {
  delta_ledger ledger(delta{0.5}, {.steps = 4});
  issue(ledger, {measured, measured, exact});
  std::string message;
  try {
    static_cast<void>(ledger.reserve(3));
  } catch (const ledger_exhausted& e) {
    message = e.what();
  }
  CHECK(message ==
        "vattention: ledgered: want 3 more shares of delta, got 2 of 4 planned ones spent (delta "
        "0.125 each, 0.5 in all; 3 certificates issued, 1 of them exact)");
  CHECK(ledger.report().spent == 2);
  issue(ledger, {measured, measured});
  CHECK(ledger.report().spent == 4);
  CHECK_THROWS_AS(ledger.reserve(1), std::runtime_error);
  CHECK_NOTHROW(ledger.reserve(0));
}

TEST_CASE("a reservation that is not settled returns", "[delta_ledger]") {
  delta_ledger ledger(delta{0.5}, {.steps = 4});
  {
    const auto shares = ledger.reserve(4);
    CHECK(ledger.report().spent == 4);
    CHECK_THROWS_AS(ledger.reserve(1), ledger_exhausted);
  }
  CHECK(ledger.report().spent == 0);
  CHECK(ledger.report().issued == 0);
}

TEST_CASE("threads never spend more than was planned", "[delta_ledger]") {
  delta_ledger ledger(delta{0.1}, {.layers = 10, .query_heads = 10, .steps = 10});
  const std::array<certificate, 3> three{measured, exact, measured};
  std::atomic<index_t> done{0};
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      try {
        for (;;) {
          auto shares = ledger.reserve(3);
          shares.settle(three);
          ++done;
        }
      } catch (const ledger_exhausted&) {
      }
    });
  for (std::thread& thread : threads) thread.join();
  const ledger_report r = ledger.report();
  CHECK(r.spent == 2 * done);
  CHECK(r.issued == 3 * done);
  CHECK(r.spent <= 1000);
  CHECK(r.spent >= 1000 - 3 * 4);
}

TEST_CASE("shares that are kept return as their certificates are settled", "[delta_ledger]") {
  delta_ledger ledger(delta{0.1}, {.steps = 5});
  {
    auto shares = ledger.reserve(4);
    shares.keep();
  }
  CHECK(ledger.report().spent == 4);
  CHECK(ledger.report().issued == 0);
  ledger.settle(std::array<certificate, 2>{measured, exact});
  CHECK(ledger.report().spent == 3);
  ledger.settle(std::array<certificate, 2>{exact, proved});
  CHECK(ledger.report().spent == 2);
  CHECK(ledger.report().issued == 4);
  CHECK(ledger.report().exact == 2);
  CHECK_THROWS_AS(ledger.reserve(4), ledger_exhausted);
}

TEST_CASE("a ledger's report says what may be claimed", "[delta_ledger]") {
  const auto text = [](const std::vector<certificate>& certificates) {
    delta_ledger ledger(delta{0.5}, {.steps = 4});
    issue(ledger, certificates);
    std::ostringstream out;
    out << ledger.report();
    return out.str();
  };
  CHECK(text({proved, exact}) ==
        "ledger: delta 0.5 in 4 shares of 0.125; 2 certificates issued, 1 exact, 1 shares spent; 0 "
        "do not vouch for the asked epsilon\n"
        "  all stated bounds hold together, but with probability 0.125 (proved, union bound)\n");
  CHECK(text({proved, measured})
            .find("  expected number of bounds that do not hold: 0.25 if each keeps its share; no "
                  "proof, weakest grounds: measured_per_row\n") != std::string::npos);
}
