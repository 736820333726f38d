// SPDX-License-Identifier: Apache-2.0
#include "vattention/budget/within.hpp"

#include "support/budget_contract.hpp"
#include "support/fake_outlook.hpp"
#include "vattention/presets.hpp"
#include "vattention/testing/heads.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

certificate call(const auto& functor, const synthetic_head& head, std::uint64_t seed) {
  workspace ws;
  return functor(head.group(), head.view(), functor.make_index(head.view()), {.seed = seed}, ws)
      .certificates[0];
}

}  // namespace

TEST_CASE("the budget of a limit keeps the contract of budgets", "[budget]") {
  const double none = std::nan("");
  check_budget_contract(budget::within<>(at_most(rows(900)), delta{0.2}), none, 0.2,
                        quantity::output);
  check_budget_contract(budget::within<>(at_most_bytes(100'000)), none, 0.1, quantity::output);
  check_budget_contract(budget::within<error_scale::absolute>(read_limit(), delta{0.1}), none, 0.1,
                        quantity::output);
}

TEST_CASE("a limit is spent whatever the sample shows, and no limit reads everything", "[budget]") {
  fake_outlook look(2, 10000, 100);
  for (int h = 0; h < 2; ++h) {
    look.state(h).rows_total() = 10000.0;
    look.state(h).rows_sampled() = look.state(h).uncertain() = 100.0;
    look.judged(h) = {0.001, bound_kind::rank_quantile, true, 1.0};
  }
  CHECK(budget::within<>(at_most(rows(1000))).next(look) == decision::grow);
  CHECK(look.sizes()[0] > 600);
  CHECK(look.sizes()[0] < 1000);
  CHECK(look.sizes()[0] == look.sizes()[1]);
  CHECK(budget::within<>(at_most(rows(102))).next(look) == decision::stop);
  CHECK(budget::within<>(read_limit()).next(look) == decision::read_all);
  CHECK(budget::within<>(at_most(rows(10000))).next(look) == decision::read_all);
}

TEST_CASE("the status of a limit says that nothing was asked", "[budget]") {
  const budget::within<> policy(at_most(rows(100)));
  CHECK(policy.end({0.1, bound_kind::rank_quantile, true, 1.0}) == status::no_target);
  CHECK(policy.end({}) == status::sample_too_small);
}

TEST_CASE("calls keep a limit on rows or bytes and come near it, groups as well", "[budget]") {
  for (const int heads : {1, 4}) {
    const synthetic_head head = make_head(head_kind::mixed, 16384, 64, 64, heads, 3);
    const auto dense = 16384 * (key_bytes(head.view()) + value_bytes(head.view()));
    for (const double share : {0.05, 0.2}) {
      CAPTURE(heads, share);
      const auto of_rows = presets::within(at_most(fraction(share)), delta{0.1});
      const auto bytes = static_cast<index_t>((share + 0.1) * static_cast<double>(dense));
      const auto of_bytes = presets::within(at_most_bytes(bytes), delta{0.1});
      for (std::uint64_t seed = 0; seed < 10; ++seed) {
        const certificate r = call(of_rows, head, seed);
        CHECK(r.density() <= share);
        CHECK(r.density() > 0.9 * share);
        CHECK(r.status == status::no_target);
        CHECK(r.epsilon < 1.0);
        const certificate b = call(of_bytes, head, seed);
        CHECK(b.bytes_touched <= bytes);
        CHECK(b.bytes_touched > bytes - bytes / 10);
      }
    }
  }
}

TEST_CASE("more rows allow a smaller error", "[budget]") {
  const synthetic_head head = make_head(head_kind::mixed, 8192, 64, 64, 1, 3);
  double before = 1e9;
  for (const double share : {0.05, 0.1, 0.2, 0.4}) {
    const double now = call(presets::within(at_most(fraction(share)), delta{0.1}), head, 1).epsilon;
    CHECK(now < before);
    before = now;
  }
  const certificate whole = call(presets::within(at_most(fraction(1.0)), delta{0.1}), head, 1);
  CHECK(whole.status == status::exact);
}

TEST_CASE("a limit holds for a group that shares its heavy rows and nothing else", "[budget]") {
  synthetic_head head = make_head(head_kind::flat, 16384, 64, 64, 4, 3);
  const Eigen::VectorXf common = head.queries.colwise().mean().normalized();
  for (index_t row = 2000; row < 2060; ++row)
    head.keys.row(row) += 60.0F * common.transpose() + 0.02F * head.keys.row(row - 100);
  index_t above = 0;
  for (const double share : {0.03, 0.05, 0.15}) {
    const auto functor = presets::within(at_most(fraction(share)), delta{0.1});
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      const certificate c = call(functor, head, seed);
      CHECK(c.density() <= 1.01 * share);
      CHECK(c.density() > 0.75 * share);
      above += c.density() > share ? 1 : 0;
    }
  }
  CHECK(above <= 1);
}
