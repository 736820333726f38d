// SPDX-License-Identifier: Apache-2.0
#include "vattention/batch/decode_workspace.hpp"

#include <cstdint>

#include "support/batch.hpp"
#include "support/catch.hpp"
#include "vattention/audit/audited.hpp"

using namespace vattn;
using namespace vattn::test;

TEST_CASE("the order is by bytes of keys and values, equal ones by number") {
  std::vector<std::unique_ptr<batch_item>> items;
  for (const index_t rows : {300, 500, 300, 40})
    items.push_back(std::make_unique<batch_item>(cache_plan{.rows = rows, .dim = 16}));
  items.push_back(std::make_unique<batch_item>(
      cache_plan{.rows = 500, .dim = 16, .keys = element::bf16, .values = element::bf16}));
  items.push_back(std::make_unique<batch_item>(cache_plan{.rows = 9000, .dim = 16}));
  items.back()->cache.options.visible_rows = 39;
  std::vector<request<>> requests;
  for (const auto& item : items) requests.push_back(request_for<void>(*item, nullptr, 0));
  decode_workspace<> scratch;
  const auto order = scratch.order_by_size(requests);
  CHECK(std::vector<index_t>(order.begin(), order.end()) == std::vector<index_t>{1, 0, 2, 4, 3, 5});
  CHECK(count_allocations([&] { scratch.order_by_size(requests); }) == 0);
  requests.clear();
  CHECK(scratch.order_by_size(requests).empty());
}

TEST_CASE("workers have workspaces of their own, which stay") {
  decode_workspace<audit_workspace> scratch;
  scratch.reserve_workers(3);
  scratch.worker(2).call.reserve(1, 10, 4, 4, false);
  const float* output = scratch.worker(2).call.output.data();
  scratch.reserve_workers(2);
  scratch.reserve_workers(5);
  CHECK(scratch.worker(2).call.output.data() == output);
  for (int a = 0; a < 5; ++a)
    for (int b = 0; b < a; ++b) CHECK(&scratch.worker(a) != &scratch.worker(b));
  CHECK(reinterpret_cast<std::uintptr_t>(&scratch.worker(1)) % 64 == 0);
}

TEST_CASE("room is made where there was none, for each user") {
  decode_workspace<int> scratch;
  scratch.reserve_workers(2);
  using user = decode_workspace<int>::user;
  const user one{&scratch, nullptr};
  const user other{&scratch, &scratch};
  std::vector<index_t> rows;
  const auto room = [&](int worker, const user& by, const call_shape& shape) {
    const std::size_t before = rows.size();
    scratch.make_room(worker, by, shape, [&](const call_shape& made, int& ws) {
      CHECK(shape.fits(made));
      CHECK(&ws == &scratch.worker(worker));
      rows.push_back(made.rows);
    });
    return rows.size() - before;
  };
  call_shape shape{.heads = 2, .rows = 1500, .key_dim = 64, .value_dim = 64};
  CHECK(room(0, one, shape) == 1);
  CHECK(room(0, one, shape) == 0);
  shape.rows = 2048;  // a cache that grows
  CHECK(room(0, one, shape) == 0);
  CHECK(room(1, one, shape) == 1);
  shape.rows = 2049;
  CHECK(room(0, one, shape) == 1);
  CHECK(room(0, other, shape) == 1);
  CHECK(room(0, one, shape) == 1);
  shape.heads = 3;
  CHECK(room(0, one, shape) == 1);
  shape.rows = 5;
  CHECK(room(0, one, shape) == 0);
  CHECK(rows == std::vector<index_t>{2048, 2048, 3072, 3072, 3072, 3072});
}
