// SPDX-License-Identifier: Apache-2.0
#include "vattention/batch/dense.hpp"

#include <random>

#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/parallel/serial.hpp"

using namespace vattn;
using namespace vattn::test;

namespace {

constexpr index_t chunk = row_chunks::size;

struct prepared_batch {
  explicit prepared_batch(const std::vector<index_t>& lengths) : items(some_items(lengths)) {
    for (const auto& item : items) requests.push_back(request_for<void>(*item, nullptr, 0));
  }
  void forget() {
    for (const auto& item : items) item->forget();
  }
  bool written() const {
    return std::any_of(items.begin(), items.end(), [](const auto& i) { return i->written(); });
  }
  /// Every item holds what the serial call returns.
  bool agrees() const {
    workspace ws;
    return std::all_of(items.begin(), items.end(), [&](const auto& item) {
      return holds(*item, dense(item->cache.group(), item->cache.view(), ws));
    });
  }

  std::vector<std::unique_ptr<batch_item>> items;
  std::vector<request<kv_view>> requests;
};

/// Notes how many items its runs have.
struct watching {
  int workers() const noexcept { return 2; }
  template <item_body Body>
  void run(index_t count, const Body& body) noexcept {
    counts.push_back(count);
    for (index_t item = count; item-- > 0;) body(static_cast<int>(item % 2), item);
  }
  std::vector<index_t> counts;
};

}  // namespace

TEST_CASE("a dense batch has the bits of the serial calls, in any order, on any workers") {
  prepared_batch batch({3 * chunk + 17, 1, 300, chunk, chunk + 1, 2 * chunk - 1});
  std::vector<float> bias(static_cast<std::size_t>(3 * chunk + 17), 0.0F);
  std::fill_n(bias.begin() + 100, chunk + 300, -std::numeric_limits<float>::infinity());
  const float sinks[4] = {0.5F, -1.0F, 3.0F, 40.0F};
  batch.items[0]->cache.options.bias = bias.data();
  batch.items[0]->cache.options.sink_logits = sinks;
  batch.items[4]->cache.options.sink_logits = sinks;
  batch.items[5]->cache.options.visible_rows = chunk + 5;
  for (std::size_t i = 0; i < batch.items.size(); ++i)
    batch.requests[i].queries = batch.items[i]->cache.group();
  decode_workspace<> scratch;
  std::mt19937 any(1);
  for_each_executor([&](auto&& on, const char* name) {
    for (int round = 0; round < 3; ++round) {
      CAPTURE(name, on.workers(), round);
      batch.forget();
      dense(batch.requests, on, scratch);
      CHECK(batch.agrees());
      std::shuffle(batch.requests.begin(), batch.requests.end(), any);
    }
  });
}

TEST_CASE("one long request alone is shared by the workers") {
  prepared_batch batch({4 * chunk});
  watching on;
  decode_workspace<> scratch;
  dense(batch.requests, on, scratch);
  CHECK(on.counts == std::vector<index_t>{4, 1});
  CHECK(batch.agrees());
}

TEST_CASE("non-finite numbers are reported by the request that has them") {
  prepared_batch batch({2 * chunk, 500});
  batch_item& bad = *batch.items[0];
  bad.cache.values(chunk + 3, 2) = std::numeric_limits<float>::quiet_NaN();
  bad.cache.store();
  batch.requests[0].kv = bad.cache.view();
  decode_workspace<> scratch;
  parallel::thread_pool pool(2);
  dense(batch.requests, pool, scratch);
  CHECK(bad.certificates[0].status == status::non_finite);
  CHECK(batch.items[1]->certificates[0].status == status::exact);
  CHECK(batch.agrees());
}

TEST_CASE("a dense batch allocates nothing once its scratch has grown") {
  prepared_batch batch({2 * chunk + 9, 700, chunk});
  decode_workspace<> scratch;
  counting_pool pool(3);
  dense(batch.requests, pool, scratch);
  CHECK(pool.within == 0);
  std::reverse(batch.requests.begin(), batch.requests.end());
  CHECK(count_allocations([&] { dense(batch.requests, pool, scratch); }) == 0);
  CHECK(pool.within == 0);
}

TEST_CASE("an empty dense batch does nothing, a bad one is refused before anything is written") {
  decode_workspace<> scratch;
  prepared_batch none({});
  dense(none.requests, parallel::serial(), scratch);
  prepared_batch batch({40, 500, 60});
  batch.requests[2].queries.logits.visible_rows = 61;
  CHECK_THROWS_WITH(dense(batch.requests, parallel::serial(), scratch),
                    "vattention: dense: request 2: want visible rows within the cache, got 61, 60");
  CHECK_FALSE(batch.written());
  batch.requests[2].queries.logits.visible_rows = -1;
  batch.requests[1].output = nullptr;
  CHECK_THROWS_WITH(dense(batch.requests, parallel::serial(), scratch),
                    "vattention: dense: request 1: want memory for the output, got null");
  CHECK_FALSE(batch.written());
}
