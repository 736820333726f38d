// SPDX-License-Identifier: Apache-2.0
#include "vattention/batch/decode.hpp"

#include <random>

#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/audit/audited.hpp"
#include "vattention/ledger/ledgered.hpp"
#include "vattention/parallel/serial.hpp"
#include "vattention/presets.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

const std::vector<index_t> lengths{1, 900, 2500, 40, 1700, 3000, 257, 2100};

/// Items with a functor's indices, and their requests.
template <class Functor>
struct prepared_batch {
  using index_type = typename Functor::index_type;

  explicit prepared_batch(const Functor& functor, const std::vector<index_t>& of = lengths)
      : items(some_items(of)) {
    for (const auto& item : items)
      indices.push_back(std::make_unique<index_type>(functor.make_index(item->cache.view())));
    for (std::size_t i = 0; i < items.size(); ++i)
      requests.push_back(request_for(*items[i], indices[i].get(), i));
  }
  void forget() {
    for (const auto& item : items) item->forget();
  }
  bool written() const {
    return std::any_of(items.begin(), items.end(), [](const auto& i) { return i->written(); });
  }
  index_t queries() const {
    index_t count = 0;
    for (const auto& r : requests) count += r.queries.heads;
    return count;
  }
  /// True if every item holds what the functor returns for its request.
  template <class Plain>
  bool agrees(const Plain& functor) const {
    workspace ws;
    for (std::size_t i = 0; i < items.size(); ++i) {
      const random_cache& c = items[i]->cache;
      const draw_key key{.seed = 3, .sequence = i, .step = 7};
      if (!holds(*items[i], functor(c.group(), c.view(), *indices[i], key, ws))) return false;
    }
    return true;
  }

  std::vector<std::unique_ptr<batch_item>> items;
  std::vector<std::unique_ptr<index_type>> indices;
  std::vector<request<kv_view, index_type>> requests;
};

struct no_workers {
  int workers() const noexcept { return 0; }
  template <class Body>
  void run(index_t, const Body&) const noexcept {}
};

const auto standard = presets::standard(epsilon{0.2}, delta{0.1});

template <class Functor>
void check_any_order(const Functor& functor) {
  prepared_batch batch(functor);
  decode_workspace<> scratch;
  std::mt19937 any(1);
  for_each_executor([&](auto&& on, const char* name) {
    for (int round = 0; round < 3; ++round) {
      CAPTURE(name, on.workers(), round);
      batch.forget();
      decode(functor, batch.requests, on, scratch);
      CHECK(batch.agrees(functor));
      std::shuffle(batch.requests.begin(), batch.requests.end(), any);
    }
  });
}

}  // namespace

TEST_CASE("a batch has the bits of its single calls, in any order, on any workers") {
  SECTION("standard") { check_any_order(standard); }
  SECTION("uniform_output") { check_any_order(presets::uniform_output(epsilon{0.3}, delta{0.1})); }
  SECTION("strict_output") { check_any_order(presets::strict_output(epsilon{0.2}, delta{0.1})); }
}

TEST_CASE("a sampled request and one that is read whole are both in the batch") {
  prepared_batch batch(standard);
  decode_workspace<> scratch;
  decode(standard, batch.requests, parallel::serial(), scratch);
  CHECK(batch.items[0]->certificates[0].status == status::exact);
  CHECK(batch.items[5]->certificates[0].status == status::met);
  CHECK(batch.items[5]->certificates[0].rows_sampled > 0);
}

TEST_CASE("results go where a request wants them, and nowhere else") {
  prepared_batch batch(standard, {1500});
  batch_item wide({.rows = 1, .value_dim = 100, .heads = 1});
  auto& r = batch.requests[0];
  r.log_sum_exp = nullptr;
  r.log_sum_exp_error = nullptr;
  r.certificates = nullptr;
  r.output_stride = 50;
  r.queries.heads = 1;
  decode_workspace<> scratch;
  r.output = wide.output.data();
  decode(standard, batch.requests, parallel::serial(), scratch);
  CHECK(all_finite(Eigen::Map<const Eigen::VectorXf>(wide.output.data(), 24)));
  for (std::size_t j = 24; j < 100; ++j) CHECK(std::isnan(wide.output[j]));
  CHECK_FALSE(batch.written());

  prepared_batch two(standard, {700, 1500});
  two.requests.erase(two.requests.begin());
  two.requests[0].output_stride = 60;
  two.requests[0].output = wide.output.data();
  decode(standard, two.requests, parallel::serial(), scratch);
  prepared_batch plain(standard, {700, 1500});
  decode(standard, plain.requests, parallel::serial(), scratch);
  for (std::size_t j = 0; j < 32; ++j) {
    CHECK(wide.output[j] == plain.items[1]->output[j]);
    CHECK(wide.output[60 + j] == plain.items[1]->output[32 + j]);
  }
  for (std::size_t j = 32; j < 60; ++j) CHECK(std::isnan(wide.output[j]));
}

TEST_CASE("an empty batch does nothing") {
  prepared_batch batch(standard, {});
  decode_workspace<> scratch;
  parallel::thread_pool pool(2);
  decode(standard, batch.requests, pool, scratch);
  CHECK(batch.queries() == 0);
}

TEST_CASE("a bad request is named, and nothing of the batch is written") {
  prepared_batch batch(standard);
  using request_type = decltype(batch.requests)::value_type;
  decode_workspace<> scratch;
  parallel::thread_pool pool(2);
  const auto refuses = [&](std::size_t number, auto spoil, const std::string& why) {
    auto requests = batch.requests;
    spoil(requests[number]);
    const std::string message =
        "vattention: decode: request " + std::to_string(number) + ": want " + why;
    CHECK_THROWS_WITH(decode(standard, requests, pool, scratch), message);
    CHECK_THROWS_AS(decode(standard, requests, pool, scratch), std::invalid_argument);
    CHECK_FALSE(batch.written());
  };
  const kv_view none = batch.items[5]->cache.view().shard(0, 0);
  refuses(3, [&](request_type& r) { r.kv = none; }, "at least one key, got 0");
  refuses(7, [](request_type& r) { r.queries.heads = 0; }, "at least one query, got 0");
  refuses(
      0, [](request_type& r) { r.queries.dim = 31; }, "queries as long as the keys, got 31, 32");
  refuses(5, [](request_type& r) { r.index = nullptr; }, "an index, got null");
  refuses(
      2, [&](request_type& r) { r.index = batch.indices[4].get(); },
      "an index of the view's keys, their number, dimension and type (rows taken in, rows in view), got 1700, 2500");
  refuses(1, [](request_type& r) { r.output = nullptr; }, "memory for the output, got null");
  refuses(
      1, [](request_type& r) { r.output_stride = 31; },
      "output stride 0, or of at least one value, got 31, 32");
  refuses(
      6, [](request_type& r) { r.queries.logits.visible_rows = 258; },
      "visible rows within the cache, got 258, 257");

  CHECK_THROWS_WITH(decode(standard, batch.requests, no_workers(), scratch),
                    "vattention: decode: want an executor with a worker, got 0");
  decode(standard, batch.requests, pool, scratch);
  CHECK(batch.agrees(standard));
}

TEST_CASE("a batch allocates nothing once its scratch has grown") {
  prepared_batch batch(standard);
  decode_workspace<> scratch;
  counting_pool pool(3);
  decode(standard, batch.requests, pool, scratch);
  CHECK(pool.within == 0);  // not even then: each worker has room for every request beforehand
  std::mt19937 any(2);
  for (int round = 0; round < 5; ++round) {
    std::shuffle(batch.requests.begin(), batch.requests.end(), any);
    CHECK(count_allocations([&] { decode(standard, batch.requests, pool, scratch); }) == 0);
    CHECK(pool.within == 0);
  }
  batch.requests.erase(batch.requests.begin() + 3, batch.requests.end());
  CHECK(count_allocations([&] { decode(standard, batch.requests, pool, scratch); }) == 0);
}

TEST_CASE("a long request is shared by all workers, with the bits of its single call") {
  const std::vector<index_t> of{300, 40000, 17000};
  const auto check = [&](const auto& functor) {
    prepared_batch batch(functor, of);
    decode_workspace<> scratch;
    for (const int workers : {1, 3}) {
      counting_pool pool(workers);
      for (int round = 0; round < 2; ++round) {
        batch.forget();
        decode(functor, batch.requests, pool, scratch);
        CHECK(pool.within == 0);
        CHECK(batch.agrees(functor));
      }
    }
    for_each_executor([&](auto&& on, const char* name) {
      CAPTURE(name, on.workers());
      batch.forget();
      decode(functor, batch.requests, on, scratch);
      CHECK(batch.agrees(functor));
    });
  };
  SECTION("standard") { check(standard); }
  SECTION("proportional") { check(presets::proportional(epsilon{0.2}, delta{0.1})); }
  SECTION("uniform_output") { check(presets::uniform_output(epsilon{0.3}, delta{0.1})); }
  SECTION("strict_output") { check(presets::strict_output(epsilon{0.2}, delta{0.1})); }
  SECTION("read whole") { check(presets::standard(epsilon{1e-6}, delta{0.1})); }
}

TEST_CASE("requests are shared where a worker would otherwise be left alone with one") {
  decode_workspace<> scratch;
  const auto shared = [&](const std::vector<index_t>& of, int workers) {
    prepared_batch batch(standard, of);
    return detail::count_shared(batch.requests, scratch.order_by_size(batch.requests), workers);
  };
  CHECK(shared({300, 40000}, 1) == 0);
  CHECK(shared({300, 40000}, 2) == 1);
  CHECK(shared({300, 40000, 40000}, 16) == 2);
  CHECK(shared({300, 8000}, 2) == 0);  // too short to be cut
  CHECK(shared({17000, 17000, 17000, 17000, 17000, 17000, 17000, 17000}, 2) == 0);
}

TEST_CASE("an audited batch has the functor's bits, and counts as single calls do") {
  const audit_plan plan{.every = 2, .layers = 1, .kv_heads = 1, .group = 4};
  const audited watched(standard, plan);
  const audited single(standard, plan);
  prepared_batch batch(watched);
  decode_workspace<audit_workspace> scratch;
  counting_pool pool(3);
  for (int round = 0; round < 2; ++round) {
    batch.forget();
    decode(watched, batch.requests, pool, scratch);
    CHECK(batch.agrees(standard));
  }
  CHECK(pool.within == 0);
  audit_workspace ws;
  for (int round = 0; round < 2; ++round)
    for (const auto& r : batch.requests)
      static_cast<void>(single(r.queries, r.kv, *r.index, r.key, ws));
  const audit_row got = watched.report().total;
  const audit_row want = single.report().total;
  CHECK(want.calls > 0);
  CHECK(got.calls == want.calls);
  CHECK(same_bits(got.mean_output_error(), want.mean_output_error()));
  CHECK(same_bits(got.mean_covered(), want.mean_covered()));

  batch.forget();
  batch.requests[4].key.layer = 1;
  CHECK_THROWS_WITH(decode(watched, batch.requests, pool, scratch),
                    "vattention: decode: request 4: want a layer of the plan (layer, planned), "
                    "got 1, 1");
  CHECK_FALSE(batch.written());
  CHECK(watched.report().total.calls == want.calls);
}

TEST_CASE("a ledger admits a batch whole, or not at all") {
  const prepared_batch shape(standard);
  const auto make = [](epsilon e, delta d) { return presets::standard(e, d); };
  const delta_plan plan{.query_heads = shape.queries(), .steps = 1};
  const ledgered spends(epsilon{0.2}, delta{0.1}, plan, make);
  prepared_batch batch(spends);
  decode_workspace<> scratch;
  parallel::thread_pool pool(3);
  decode(spends, batch.requests, pool, scratch);
  CHECK(batch.agrees(spends.functor()));
  const ledger_report first = spends.report();
  CHECK(first.issued == batch.queries());
  CHECK(first.exact > 0);
  CHECK(first.spent == batch.queries() - first.exact);
  CHECK(first.spent > 0);

  batch.forget();
  CHECK_THROWS_AS(decode(spends, batch.requests, pool, scratch), ledger_exhausted);
  CHECK_FALSE(batch.written());
  CHECK(spends.report().spent == first.spent);
  CHECK(spends.report().issued == first.issued);
  batch.requests.erase(batch.requests.begin() + 1,
                       batch.requests.end());  // of one row: read whole, and so free
  decode(spends, batch.requests, pool, scratch);
  CHECK(spends.report().spent == first.spent);
}

TEST_CASE("wrappers in either nesting decode a batch") {
  const delta_plan plan{.query_heads = 100, .steps = 2};
  const audit_plan every{.every = 1, .group = 4};
  const ledgered inside(epsilon{0.2}, delta{0.1}, plan, [&](epsilon e, delta d) {
    return audited(presets::standard(e, d), every);
  });
  const audited outside(ledgered(epsilon{0.2}, delta{0.1}, plan, presets::standard), every);
  parallel::thread_pool pool(2);
  decode_workspace<audit_workspace> scratch;
  prepared_batch batch(inside);
  decode(inside, batch.requests, pool, scratch);
  CHECK(batch.agrees(inside.functor().functor()));
  batch.forget();
  decode(outside, batch.requests, pool, scratch);
  CHECK(batch.agrees(inside.functor().functor()));
  CHECK(inside.functor().report().total.calls == batch.queries());
  CHECK(outside.report().total.calls == batch.queries());
  CHECK(inside.report().issued == batch.queries());
  CHECK(outside.functor().report().spent == inside.report().spent);
  CHECK(inside.report().spent > 0);
}

namespace {

/// A cache of every other row of another.
struct every_other {
  kv_view whole;
  index_t rows() const noexcept { return whole.rows() / 2; }
  index_t key_dim() const noexcept { return whole.key_dim(); }
  index_t value_dim() const noexcept { return whole.value_dim(); }
  element key_type() const noexcept { return whole.key_type(); }
  element value_type() const noexcept { return whole.value_type(); }
  const void* key_row(row_t i) const noexcept { return whole.key_row(2 * i); }
  const void* value_row(row_t i) const noexcept { return whole.value_row(2 * i); }
  index_t first_row() const noexcept { return 0; }
};
static_assert(cache_view<every_other>);

}  // namespace

TEST_CASE("a batch takes any view") {
  batch_item item({.rows = 4000, .dim = 32, .value_dim = 24, .heads = 2});
  const every_other kv{item.cache.view()};
  const auto index = standard.make_index(kv);
  const auto like = request_for(item, &index, 9);
  std::array<request<every_other, top_k::cascade_index>, 1> requests{
      {{.queries = like.queries,
        .kv = kv,
        .index = &index,
        .key = like.key,
        .output = like.output,
        .log_sum_exp = like.log_sum_exp,
        .log_sum_exp_error = like.log_sum_exp_error,
        .certificates = like.certificates}}};
  decode_workspace<> scratch;
  decode(standard, requests, parallel::serial(), scratch);
  workspace ws;
  CHECK(holds(item, standard(like.queries, kv, index, like.key, ws)));
}
