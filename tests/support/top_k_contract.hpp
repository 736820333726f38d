// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every predictor must do: `check_top_k_contract(make)`, with `make(k)` a policy that takes k.
#pragma once

#include <cmath>
#include <limits>
#include <sstream>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "vattention/base_sampling/uniform.hpp"
#include "vattention/budget/fixed.hpp"
#include "vattention/dynamic_sampling/uniform.hpp"
#include "vattention/functor.hpp"
#include "vattention/top_k/index_changes.hpp"
#include "vattention/top_k/index_file.hpp"
#include "vattention/top_k/none.hpp"

namespace vattn::test {

/// Predicts and selects on a call that has begun; returns the rows that are new in the exact set.
template <class P>
std::vector<row_t> newly_selected(const P& policy, const typename P::index_type& index,
                                  prepared_call& c, const std::vector<row_t>& already = {}) {
  const kv_view kv = c.view();
  const query_group queries = c.group();
  c.begin(P::scores_rows, already);
  const attention_call<kv_view> call(queries, kv, {});
  policy.predict(call, index, c.ws.seen, c.ws);
  policy.select(call, c.ws.seen, c.ws);
  c.ws.exact.list();
  return rows_without(c.ws.exact.rows(), already);
}

template <class P>
typename P::index_type index_of(const P& policy, prepared_call& c) {
  typename P::index_type index = policy.make_index(c.shape.dim);
  index.append(c.view());
  return index;
}
template <class P>
std::vector<row_t> newly_selected(const P& policy, prepared_call& c,
                                  const std::vector<row_t>& already = {}) {
  return newly_selected(policy, index_of(policy, c), c, already);
}

/// Key dimensions (powers of two and not), element types, and group sizes that predictors are run on.
inline std::vector<cache_shape> contract_shapes() {
  return {{501, 7, 1, element::f32, 1},   {504, 7, 4, element::bf16, 2},
          {502, 64, 2, element::f16, 3},  {503, 64, 3, element::f32, 4},
          {501, 80, 1, element::bf16, 5}, {504, 96, 4, element::f16, 6},
          {502, 96, 2, element::f32, 7},  {503, 128, 3, element::bf16, 8},
          {501, 64, 3, element::q8_0, 9}, {504, 128, 2, element::q8_0, 10}};
}

/// Inside the visible range, new, each once, at most k a head; the same again in any workspace.
template <class Make>
void check_rows_taken(Make make) {
  constexpr index_t k = 20;
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    const std::vector<row_t> already = row_range(3, 40);
    const auto policy = make(rows(k));
    const auto index = index_of(policy, c);
    for (const index_t visible : {index_t{-1}, index_t{300}, index_t{1}}) {
      c.options.visible_rows = visible;
      CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type), visible);
      const std::vector<row_t> taken = newly_selected(policy, index, c, already);
      CHECK(std::all_of(taken.begin(), taken.end(), [&](row_t r) { return r < c.visible(); }));
      CHECK(static_cast<index_t>(taken.size()) <= k * shape.heads);
      CHECK(c.ws.exact.size() == static_cast<index_t>(taken.size() + already.size()));
      CHECK(newly_selected(policy, index, c, already) == taken);
    }
    const std::vector<row_t> taken = newly_selected(policy, index, c, already);
    prepared_call other(shape);
    other.options = c.options;
    CHECK(newly_selected(make(rows(k)), other, already) == taken);
  }
}

/// One head takes exactly k of the free rows, or all of them; fixed rows do not count. k = 0 takes none.
template <class Make>
void check_how_many(Make make) {
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    const auto index = index_of(make(rows(0)), c);
    const std::vector<row_t> all = row_range(0, shape.rows);
    CHECK(newly_selected(make(rows(0)), index, c).empty());
    CHECK(newly_selected(make(rows(shape.rows)), index, c) == all);
    const std::vector<row_t> already = row_range(30, shape.rows);
    CHECK(newly_selected(make(rows(30)), index, c, already) == row_range(0, 30));
    CHECK(newly_selected(make(rows(77)), index, c, already) == row_range(0, 30));
    CHECK(newly_selected(make(fraction(1.0)), index, c, already) == row_range(0, 30));
    const auto taken =
        static_cast<index_t>(newly_selected(make(rows(10)), index, c, already).size());
    CHECK(taken >= 10);
    CHECK(taken <= std::min<index_t>(10 * shape.heads, 30));
  }
}

/// Keys with 20 query lengths along a head's query are among that head's 10 best of 500.
template <class Make>
void check_finds_heavy_rows(Make make) {
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    std::vector<row_t> heavy;
    for (int h = 0; h < shape.heads; ++h)
      for (const index_t row : {13 + h, 260 + 5 * h, 490 + h}) {
        c.head.keys.row(row) += 20.0F * c.head.queries.row(h).normalized();
        heavy.push_back(static_cast<row_t>(row));
      }
    std::sort(heavy.begin(), heavy.end());
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    // Queries of 7 dimensions are near each other: heavy rows of one head are heavy for another.
    const std::vector<row_t> taken = newly_selected(make(rows(16)), c);
    CHECK(rows_without(heavy, taken).empty());
  }
}

/// A key that is not finite cannot be predicted, so its row is read, beyond k; rows fixed already stay
/// single.
template <class Make>
void check_takes_unpredictable_rows(Make make) {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    const std::vector<row_t> odd{0, 100, 255, 256, 499};
    for (const row_t row : odd) c.head.keys(row, row % shape.dim) = row % 2 == 0 ? nan : infinity;
    c.head.keys(256, 0) = -infinity;
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    const auto index = index_of(make(rows(0)), c);
    CHECK(newly_selected(make(rows(0)), index, c) == odd);
    CHECK(rows_without(odd, newly_selected(make(rows(5)), index, c)).empty());
    CHECK(newly_selected(make(rows(0)), index, c, {100, 256}) == std::vector<row_t>{0, 255, 499});
    c.options.visible_rows = 256;
    CHECK(newly_selected(make(rows(0)), index, c) == std::vector<row_t>{0, 100, 255});
  }
}

/// Rows that the bias hides are never taken, not even where k asks for all or the key holds a NaN.
template <class Make>
void check_leaves_hidden_rows(Make make) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    std::vector<float> bias(static_cast<std::size_t>(shape.rows), 0.25F);
    for (const std::size_t row : {0U, 17U, 300U, 301U}) bias[row] = -infinity;
    c.options.bias = bias.data();
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    const std::vector<row_t> hidden{0, 17, 300, 301};
    const std::vector<row_t> seen = rows_without(row_range(0, shape.rows), hidden);
    CHECK(newly_selected(make(rows(shape.rows)), c) == seen);
    c.head.keys(17, 0) = std::numeric_limits<float>::quiet_NaN();
    CHECK(newly_selected(make(rows(shape.rows)), c) == seen);
  }
}

/// A negative scale picks what the opposite queries pick with a positive one.
template <class Make>
void check_follows_the_scale(Make make) {
  for (const cache_shape& shape : contract_shapes()) {
    prepared_call c(shape);
    CAPTURE(shape.dim, shape.heads, static_cast<int>(shape.type));
    const auto policy = make(rows(20));
    const auto index = index_of(policy, c);
    c.options.scale = -0.25F;
    const std::vector<row_t> fallen = newly_selected(policy, index, c);
    c.options.scale = 0.25F;
    const std::vector<row_t> risen = newly_selected(policy, index, c);
    c.head.queries = -c.head.queries;
    CHECK(newly_selected(policy, index, c) == fallen);
    CHECK((risen != fallen || risen.empty()));
  }
}

/// predict() and select() allocate nothing once the workspace has been as large.
template <class Make>
void check_allocates_nothing(Make make) {
  for (const cache_shape& shape :
       {cache_shape{700, 80, 4, element::bf16, 3}, cache_shape{700, 64}}) {
    prepared_call c(shape);
    const auto policy = make(rows(50));
    const auto index = index_of(policy, c);
    newly_selected(policy, index, c);
    const kv_view kv = c.view();
    const query_group queries = c.group();
    CHECK(count_allocations([&] {
            c.begin(std::remove_cvref_t<decltype(policy)>::scores_rows);
            const attention_call<kv_view> call(queries, kv, {});
            policy.predict(call, index, c.ws.seen, c.ws);
            policy.select(call, c.ws.seen, c.ws);
          }) == 0);
  }
}

/// An index that got its rows one by one selects what one built at once does.
template <class Make>
void check_index_grows(Make make) {
  for (const index_t dim : {7, 80}) {
    prepared_call c({300, dim, 2, element::f32, 9});
    const auto policy = make(rows(12));
    auto grown = policy.make_index(dim);
    CHECK(grown.rows() == 0);
    const kv_view kv = c.view();
    for (index_t n = dim == 7 ? 0 : 245; n <= 300; ++n) {
      grown.append(kv.shard(0, n));
      REQUIRE(grown.rows() == n);
      REQUIRE(grown.matches(kv.shard(0, n)));
    }
    grown.append(kv);
    CHECK(grown.rows() == 300);
    CHECK(newly_selected(policy, grown, c) == newly_selected(policy, c));
  }
}

/// An index in a file, byte for byte.
template <class Index>
std::string saved_index(const Index& index) {
  std::ostringstream out;
  save_index(index, out);
  return out.str();
}

/// An index that was cut, grown again, copied, lost a range or was read from a file equals one built at once.
template <class Make>
void check_index_lives(Make make) {
  for (const index_t dim : {7, 64}) {
    prepared_call c({700, dim, 2, element::bf16, 9});
    c.head.keys(20, 3) = c.head.keys(400, 1) = std::numeric_limits<float>::quiet_NaN();
    c.head.values.row(350) *= 100.0F;
    c.head.values.row(500) *= 100.0F;
    const auto policy = make(rows(12));
    const kv_view kv = c.view();
    const auto built = [&](const kv_view& view) {
      auto index = policy.make_index(dim);
      index.append(view);
      return saved_index(index);
    };
    auto index = policy.make_index(dim);
    index.append(kv);
    const auto whole = index;
    for (const index_t n : {700, 699, 689, 640, 639, 400, 300, 257, 256, 255, 90, 1, 0}) {
      CAPTURE(dim, n);
      truncate(index, kv.shard(0, n));
      REQUIRE(index.rows() == n);
      REQUIRE(index.matches(kv.shard(0, n)));
      REQUIRE(saved_index(index) == built(kv.shard(0, n)));
      auto forked = index;
      forked.append(kv);
      REQUIRE(saved_index(forked) == built(kv));
      REQUIRE(saved_index(index) == built(kv.shard(0, n)));
    }
    REQUIRE(saved_index(whole) == built(kv));
    prepared_call without({640, dim, 2, element::bf16, 9});
    for (const index_t first : {0, 30, 300, 640}) {
      without.head.keys.topRows(first) = c.head.keys.topRows(first);
      without.head.values.topRows(first) = c.head.values.topRows(first);
      without.head.keys.bottomRows(640 - first) = c.head.keys.bottomRows(640 - first);
      without.head.values.bottomRows(640 - first) = c.head.values.bottomRows(640 - first);
      auto shifted = whole;
      evict(shifted, without.view(), first, first + 60);
      CAPTURE(dim, first);
      REQUIRE(saved_index(shifted) == built(without.view()));
    }
    auto read = policy.make_index(dim);
    std::istringstream in(saved_index(whole));
    load_index(read, in);
    REQUIRE(read.matches(kv));
    CHECK(newly_selected(policy, read, c) == newly_selected(policy, whole, c));
    read.append(kv);
    CHECK(saved_index(read) == saved_index(whole));
  }
}

/// The functor refuses an index of another length or dimension; the index refuses what it cannot take.
template <class Make>
void check_index_is_checked(Make make) {
  prepared_call c({300, 16});
  prepared_call other({300, 17});
  const auto policy = make(rows(12));
  const vattention functor(policy, base_sampling::uniform(rows(20)), budget::fixed(rows(30)),
                           dynamic_sampling::uniform());
  const kv_view kv = c.view();
  const kv_view shorter = kv.shard(0, 299);
  auto index = functor.make_index(kv);
  const query_group queries = c.group();
  CHECK_NOTHROW(functor(queries, kv, index, draw_key{}, c.ws));
  CHECK_THROWS_AS(functor(queries, shorter, index, draw_key{}, c.ws), std::invalid_argument);
  CHECK_THROWS_AS(functor(queries, kv, functor.make_index(shorter), draw_key{}, c.ws),
                  std::invalid_argument);
  CHECK_THROWS_AS(functor(queries, kv, functor.make_index(other.view()), draw_key{}, c.ws),
                  std::invalid_argument);
  CHECK_THROWS_AS(index.append(shorter), std::invalid_argument);
  CHECK_THROWS_AS(index.append(other.view()), std::invalid_argument);
  prepared_call rounded({300, 16, 1, element::bf16});
  const kv_view narrow = rounded.view();
  CHECK_FALSE(index.matches(narrow));
  CHECK_THROWS_AS(functor(queries, narrow, index, draw_key{}, c.ws), std::invalid_argument);
  CHECK_THROWS_AS(index.append(narrow), std::invalid_argument);
  CHECK_THROWS_AS(truncate(index, narrow.shard(0, 290)), std::invalid_argument);
  CHECK(index.matches(kv));
  auto emptied = index;
  truncate(emptied, kv.shard(0, 0));
  emptied.append(narrow);
  CHECK(emptied.matches(narrow));
}

/// The whole contract. For predictors that score no row (k = 0) what is said of scores is void.
template <class Make>
void check_top_k_contract(Make make) {
  using policy = decltype(make(rows(1)));
  STATIC_REQUIRE(top_k_policy<policy>);
  check_rows_taken(make);
  check_allocates_nothing(make);
  check_index_grows(make);
  STATIC_REQUIRE(living_index<typename policy::index_type>);
  STATIC_REQUIRE(stored_index<typename policy::index_type>);
  check_index_lives(make);
  if constexpr (policy::scores_rows) {
    check_how_many(make);
    check_finds_heavy_rows(make);
    check_takes_unpredictable_rows(make);
    check_leaves_hidden_rows(make);
    check_follows_the_scale(make);
  }
  if constexpr (!std::same_as<typename policy::index_type, top_k::no_index>)
    check_index_is_checked(make);
}

}  // namespace vattn::test
