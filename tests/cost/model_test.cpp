// SPDX-License-Identifier: Apache-2.0
#include "vattention/cost/model.hpp"

#include <set>

#include "support/batch.hpp"
#include "support/cost_contract.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/audit/diagnosis.hpp"
#include "vattention/batch/decode.hpp"
#include "vattention/ledger/ledgered.hpp"
#include "vattention/parallel/serial.hpp"
#include "vattention/presets.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

/// Prices at which all of a sparse call takes `factor` times as long as by default.
cost_profile sparse_times(double factor) {
  cost_profile prices;
  for (std::size_t i = dense_items; i < cost_items.size(); ++i)
    prices.*cost_items[i].price *= factor;
  return prices;
}
const cost::model sparse_is_free(sparse_times(1e-9));
const cost::model sparse_is_dear(sparse_times(1e9));

/// Prices at which a look at the base sample of a call of this cache just pays, and one at a larger sample does
/// not.
cost::model growth_is_dear(const random_cache& c) {
  const cache_plan& plan = c.plan;
  const auto heads = static_cast<double>(plan.heads);
  call_prospect call{
      .heads = plan.heads,
      .rows = plan.rows,
      .key_dim = plan.dim,
      .value_dim = plan.value_dim,
      .row_bytes = row_bytes(plan.keys, plan.dim) + row_bytes(plan.values, plan.value_dim)};
  cost_profile prices = sparse_times(1e-9);
  prices.drawn_row =
      0.9 * 0.95 * cost::model().dense_time(call) / (64.0 * std::pow(heads, 0.8) * heads);
  return cost::model(prices, 0.0);
}

/// A policy of one's own: short calls at once, longer ones at their first growth.
struct by_length {
  using role = vattn::role::cost;
  bool dense_at_once(const call_prospect& call) const noexcept { return call.rows < 1000; }
  bool dense_from_here(const call_prospect& call, const growth_prospect&) const noexcept {
    return call.rows < 2600;
  }
};

auto standard(double asked = 0.1) { return presets::standard(epsilon{asked}, delta{0.1}); }

template <class Functor>
result attend_to(const Functor& functor, const random_cache& c, workspace& ws) {
  const kv_view kv = c.view();
  return functor(c.group(), kv, functor.make_index(kv), {.seed = 3}, ws);
}

/// The result is the dense one bit for bit, and the certificates say so in the functor's terms.
template <class Functor>
void check_dense(const Functor& functor, const random_cache& c, int looks) {
  workspace ws, other;
  const result got = attend_to(functor, c, ws);
  const result want = dense(c.group(), c.view(), other);
  CHECK(std::memcmp(got.output.data(), want.output.data(),
                    static_cast<std::size_t>(got.output.size()) * sizeof(float)) == 0);
  for (std::size_t h = 0; h < got.certificates.size(); ++h) {
    const certificate& said = got.certificates[h];
    CHECK(same_bits(got.log_sum_exp[h], want.log_sum_exp[h]));
    CHECK(said.status == status::exact);
    CHECK(said.basis == basis::exact);
    CHECK(said.bound == bound_kind::exact);
    CHECK(said.epsilon == 0.0);
    CHECK(same_bits(said.epsilon_asked, functor.budget().asked()));
    CHECK(said.delta == functor.budget().delta());
    CHECK(said.quantity == functor.budget().guarantees());
    CHECK(said.looks == looks);
    CHECK(said.rows_exact == said.rows_total);
    CHECK(said.rows_sampled == 0);
    if (looks == 0) CHECK(said.bytes_touched == want.certificates[h].bytes_touched);
    if (looks > 0) CHECK(said.bytes_touched > want.certificates[h].bytes_touched);
  }
}

template <class A, class B>
bool agree(const A& a, const B& b, const random_cache& c) {
  workspace one, two;
  const result x = attend_to(a, c, one), y = attend_to(b, c, two);
  for (std::size_t h = 0; h < x.certificates.size(); ++h)
    if (!same_bits(x.certificates[h], y.certificates[h])) return false;
  return x.output == y.output;
}

}  // namespace

TEST_CASE("the cost model keeps the contract of costs") {
  check_cost_contract(cost::model());
  check_cost_contract(cost::model({}, 0.0));
  check_cost_contract(sparse_is_free);
  check_cost_contract(sparse_is_dear);
}

TEST_CASE("short contexts and small epsilons are dense, and there is one border") {
  const cost::model model;
  for (const int heads : {1, 2, 4, 8})
    for (const index_t dim : {64, 128, 256}) {
      CHECK(model.dense_at_once(some_call(400, heads, 0.1, dim)));
      if (heads <= 4)
        CHECK_FALSE(model.dense_at_once(some_call(index_t{1} << 20, heads, 0.1, dim)));
      bool sparse = false;
      for (index_t rows = 256; rows <= index_t{1} << 24; rows += rows / 7) {
        const bool now = !model.dense_at_once(some_call(rows, heads, 0.1, dim));
        CHECK((now || !sparse));
        sparse = now;
      }
      bool dense = false;
      for (double asked = 0.9; asked > 1e-4; asked *= 0.8) {
        const bool now = model.dense_at_once(some_call(200000, heads, asked, dim));
        CHECK((now || !dense));
        dense = now;
      }
      CHECK(dense);
    }
}

TEST_CASE("harder queries are dense sooner, and larger groups too") {
  const auto first_sparse = [](double hardness, int heads) {
    const cost::model model({}, hardness);
    index_t rows = 256;
    while (model.dense_at_once(some_call(rows, heads))) rows += rows / 16;
    return rows;
  };
  CHECK(first_sparse(0.0, 1) <= first_sparse(1.0, 1));
  CHECK(first_sparse(1.0, 1) < first_sparse(4.0, 1));
  CHECK(first_sparse(1.0, 1) < first_sparse(1.0, 8));
}

TEST_CASE("a larger growth is dense sooner") {
  const cost::model model;
  const call_prospect call = some_call(100000);
  bool dense = false;
  for (double more = 1.0; more < 1e5; more *= 1.5) {
    const bool now = model.dense_from_here(call, {.drawn = 200, .refined = 2000, .more = more});
    CHECK((now || !dense));
    dense = now;
  }
  CHECK(dense);
  CHECK_FALSE(model.dense_from_here(call, {.drawn = 200, .refined = 2000, .more = 1.0}));
}

TEST_CASE("a price or a hardness that is none is refused by name") {
  for (const cost_item& item : cost_items)
    for (const double bad : {0.0, -2.0, std::numeric_limits<double>::quiet_NaN()}) {
      cost_profile prices;
      prices.*item.price = bad;
      CHECK_THROWS_AS(cost::model(prices), std::invalid_argument);
      CHECK_THROWS_WITH(
          cost::model(prices),
          Catch::Matchers::StartsWith(
              std::string("vattention: cost::model: want a positive finite ") + item.name));
    }
  CHECK_THROWS_WITH(cost::model({}, -1.0),
                    "vattention: cost::model: want a finite hardness >= 0, got -1");
  CHECK_THROWS_AS(cost::model({}, std::numeric_limits<double>::quiet_NaN()), std::invalid_argument);
}

TEST_CASE("only the ratios of prices decide") {
  cost_profile seconds;
  for (const cost_item& item : cost_items) seconds.*item.price *= 0x1p-30;
  const cost::model a, b(seconds);
  for (const call_prospect& call : many_calls())
    CHECK(a.dense_at_once(call) == b.dense_at_once(call));
}

TEST_CASE("where a sparse call is dear the answer is the dense one, before anything is looked at") {
  for (const element type : {element::f32, element::bf16, element::f16})
    for (const int heads : {1, 3}) {
      const random_cache c(
          {.rows = 5000, .dim = 48, .value_dim = 40, .heads = heads, .keys = type, .values = type});
      check_dense(standard().with_cost(sparse_is_dear), c, 0);
      check_dense(presets::uniform_output(epsilon{0.2}, delta{0.1}).with_cost(sparse_is_dear), c,
                  0);
      check_dense(presets::strict_output(epsilon{0.2}, delta{0.1}).with_cost(sparse_is_dear), c, 0);
    }
}

TEST_CASE("the default prices send a short context to the dense kernel, and a long one not") {
  check_dense(standard().with_cost(cost::model()), random_cache({.rows = 700, .heads = 4}), 0);
  const random_cache c({.rows = 150000, .dim = 96, .value_dim = 96});
  workspace ws;
  const result got = attend_to(standard(0.3).with_cost(cost::model()), c, ws);
  CHECK(got.certificates[0].status == status::met);
  CHECK(agree(standard(0.3).with_cost(cost::model()), standard(0.3), c));
}

TEST_CASE("where a sparse call is free it has the bits of one that does not think of cost") {
  for (const double asked : {0.3, 0.02}) {
    const random_cache c({.rows = 3000, .dim = 48, .value_dim = 40, .heads = 2});
    CHECK(agree(standard(asked).with_cost(sparse_is_free), standard(asked), c));
    CHECK(agree(standard(asked).with_cost(cost::none()), standard(asked), c));
  }
}

TEST_CASE("a growth that is too dear turns dense at the look that asks for it") {
  const random_cache c({.rows = 4000, .dim = 48, .value_dim = 40, .heads = 2});
  workspace ws;
  const int looks = attend_to(standard(0.05), c, ws).certificates[0].looks;
  REQUIRE(looks > 1);
  check_dense(standard(0.05).with_cost(growth_is_dear(c)), c, 1);
  // The same prices leave a call alone whose base sample does.
  const random_cache easy = cache_with_logits([] {
    std::vector<float> l(4000, 0.0F);
    std::fill_n(l.begin() + 2000, 20, 14.0F);
    return l;
  }());
  REQUIRE(attend_to(standard(0.3), easy, ws).certificates[0].looks == 1);
  CHECK(agree(standard(0.3).with_cost(growth_is_dear(easy)), standard(0.3), easy));
}

TEST_CASE("a limit is kept, whatever a sparse call costs") {
  const random_cache c({.rows = 5000, .dim = 48, .value_dim = 40, .heads = 2});
  const auto keeps = [&](const auto& functor) {
    CHECK(agree(functor.with_cost(sparse_is_dear), functor, c));
    CHECK(agree(functor.with_cost(growth_is_dear(c)), functor, c));
  };
  keeps(presets::standard(epsilon{0.02}, delta{0.1}, at_most(fraction(0.1))));
  keeps(presets::standard(epsilon{0.02}, delta{0.1}, at_most_bytes(200'000)));
  keeps(presets::within(at_most(fraction(0.1)), delta{0.1}));
  // One that allows everything is none.
  check_dense(presets::standard(epsilon{0.02}, delta{0.1}, at_most(fraction(1.0)))
                  .with_cost(sparse_is_dear),
              c, 0);
}

TEST_CASE("hidden rows do not count, and stay unread") {
  random_cache c({.rows = 3000, .dim = 32, .value_dim = 24, .heads = 2});
  std::vector<float> bias(3000, 0.0F);
  for (std::size_t i = 100; i < 2500; ++i) bias[i] = -std::numeric_limits<float>::infinity();
  c.values.middleRows(100, 2400).setConstant(std::nanf(""));
  c.store();
  c.options.bias = bias.data();
  check_dense(standard().with_cost(sparse_is_dear), c, 0);
  workspace ws;
  CHECK(attend_to(standard().with_cost(sparse_is_dear), c, ws).certificates[0].rows_total == 600);
}

TEST_CASE("a call with a cost model allocates nothing once its workspace has grown") {
  const random_cache c({.rows = 4000, .dim = 48, .value_dim = 40, .heads = 3});
  const auto check = [&](const auto& functor) {
    const kv_view kv = c.view();
    const query_group q = c.group();
    const auto index = functor.make_index(kv);
    workspace ws;
    static_cast<void>(functor(q, kv, index, {0}, ws));
    CHECK(count_allocations([&] {
            for (std::uint64_t step = 1; step < 6; ++step)
              static_cast<void>(functor(q, kv, index, {.seed = 0, .step = step}, ws));
          }) == 0);
  };
  check(standard(0.05).with_cost(cost::model()));
  check(standard(0.05).with_cost(growth_is_dear(c)));
  check(standard(0.05).with_cost(sparse_is_free));
}

TEST_CASE("a batch with a cost policy has the bits of its single calls on any workers") {
  const auto functor = standard(0.05).with_cost(by_length());
  using index_type = decltype(functor)::index_type;
  const auto items = some_items({1, 900, 2500, 40, 1700, 3000});
  std::vector<std::unique_ptr<index_type>> indices;
  std::vector<request<kv_view, index_type>> requests;
  for (std::size_t i = 0; i < items.size(); ++i) {
    indices.push_back(std::make_unique<index_type>(functor.make_index(items[i]->cache.view())));
    requests.push_back(request_for(*items[i], indices[i].get(), i));
  }
  decode_workspace<> scratch;
  std::set<int> looks;  // of dense answers: some at once, some later
  for_each_executor([&](auto&& on, const char* name) {
    CAPTURE(name);
    for (const auto& item : items) item->forget();
    decode(functor, requests, on, scratch);
    workspace ws;
    for (const auto& item : items) {
      const auto& r = requests[static_cast<std::size_t>(&item - items.data())];
      CHECK(holds(*item, functor(r.queries, r.kv, *r.index, r.key, ws)));
      looks.insert(item->certificates[0].status == status::exact ? item->certificates[0].looks
                                                                 : -1);
    }
  });
  CHECK(looks == std::set<int>{-1, 0, 1});
}

TEST_CASE("wrappers take a functor with a cost model") {
  const random_cache c({.rows = 3000, .dim = 32, .value_dim = 24, .heads = 2});
  const kv_view kv = c.view();

  // A dense answer spends nothing of a ledger.
  const ledgered spends(
      epsilon{0.1}, delta{0.1}, {.query_heads = 2, .steps = 2},
      [](epsilon e, delta d) { return presets::standard(e, d).with_cost(sparse_is_dear); });
  workspace ws;
  const auto index = spends.make_index(kv);
  for (int i = 0; i < 5; ++i) static_cast<void>(spends(c.group(), kv, index, {1}, ws));
  CHECK(spends.report().spent == 0);
  CHECK(spends.report().exact == 10);

  const audited watched(standard().with_cost(sparse_is_dear), {.every = 1, .group = 2});
  audit_workspace audit;
  for (std::uint64_t i = 0; i < 5; ++i)
    static_cast<void>(watched(c.group(), kv, index, {i}, audit));
  const audit_report report = watched.report();
  CHECK(report.total.calls == 10);
  CHECK(report.total.mean_output_error() == 0.0);
  static_cast<void>(diagnose(report, {.calls = 5}));

  const auto functor = standard().with_cost(sparse_is_dear);
  const explanation all = functor.explain(c.group(), kv, index, {1}, ws);
  CHECK(all.all_read());
  CHECK(all.looks.empty());
  CHECK(all.drawn.empty());
  const explanation turned =
      standard(0.02).with_cost(growth_is_dear(c)).explain(c.group(), kv, index, {1}, ws);
  CHECK(turned.all_read());
  CHECK(turned.looks.size() == 1);
}
