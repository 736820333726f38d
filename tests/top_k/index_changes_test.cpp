// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/index_changes.hpp"

#include "support/top_k_contract.hpp"
#include "vattention/top_k/key_code.hpp"

using namespace vattn;

TEST_CASE("what is not a shorter view, or not the range's, is refused and changes nothing") {
  test::prepared_call c({400, 16, 2});
  test::prepared_call other({300, 17});
  const top_k::key_code policy(4, rows(12));
  auto index = policy.make_index(16);
  const kv_view kv = c.view();
  index.append(kv.shard(0, 300));
  c.options.visible_rows = 300;
  const auto before = test::newly_selected(policy, index, c);
  CHECK_THROWS_AS(truncate(index, kv), std::invalid_argument);
  CHECK_THROWS_AS(truncate(index, other.view()), std::invalid_argument);
  CHECK_THROWS_AS(evict(index, kv.shard(0, 290), 5, 16), std::invalid_argument);
  CHECK_THROWS_AS(evict(index, kv.shard(0, 290), -1, 9), std::invalid_argument);
  CHECK_THROWS_AS(evict(index, kv.shard(0, 290), 295, 305), std::invalid_argument);
  CHECK_THROWS_AS(evict(index, kv.shard(0, 310), 20, 10), std::invalid_argument);
  CHECK_THROWS_AS(evict(index, other.view().shard(0, 290), 5, 15), std::invalid_argument);
  CHECK_THROWS_AS(refresh(index, kv, 301), std::invalid_argument);
  CHECK_THROWS_AS(refresh(index, kv, -1), std::invalid_argument);
  CHECK_THROWS_AS(refresh(index, kv.shard(0, 200), 201), std::invalid_argument);
  CHECK_THROWS_AS(refresh(index, other.view(), 5), std::invalid_argument);
  CHECK(index.rows() == 300);
  CHECK(test::newly_selected(policy, index, c) == before);
}

TEST_CASE("an index refreshed from the first changed row on equals one built at once") {
  test::prepared_call c({700, 64, 2});
  const top_k::key_code policy(4, rows(12));
  for (const index_t first : {699, 640, 300, 256, 100, 0})
    for (const index_t count : {700, 650, 640}) {
      if (first > count) continue;
      auto index = policy.make_index(64);
      index.append(c.view().shard(0, 680));
      if (first > index.rows()) continue;
      c.head.keys.bottomRows(700 - first) *= -1.5F;
      c.head.values.row(first) *= 3.0F;
      refresh(index, c.view().shard(0, count), first);
      auto built = policy.make_index(64);
      built.append(c.view().shard(0, count));
      CAPTURE(first, count);
      CHECK(index.rows() == count);
      CHECK(test::saved_index(index) == test::saved_index(built));
    }
}

TEST_CASE("a truncation reads 16 keys at most, of a cache long enough") {
  test::prepared_call c({1000, 64, 1});
  const top_k::key_code policy(4, rows(12));
  auto index = policy.make_index(64);
  index.append(c.view());
  c.head.keys.topRows(976).setConstant(std::nanf(""));  // were they read, they would be odd
  truncate(index, c.view().shard(0, 990));
  c.options.visible_rows = 990;
  CHECK(test::newly_selected(policy, index, c).size() == 12);
}
