// SPDX-License-Identifier: Apache-2.0
#include "vattention/top_k/count_selection.hpp"

#include <random>

#include "support/allocations.hpp"
#include "support/catch.hpp"
#include "support/prepared_call.hpp"
#include "support/worker_spaces.hpp"
#include "vattention/parallel/thread_pool.hpp"

using namespace vattn;
using namespace vattn::test;
using list = std::vector<row_t>;
using counts_list = std::vector<std::uint16_t>;

namespace {

constexpr std::uint16_t not_free = predictions::not_free, must_read = predictions::must_read;

/// The rows of a call of one head that `select_most` adds; `already` are in the set.
list selected(const counts_list& counts, int most, index_t k, const list& already = {},
              bool together = false) {
  const auto n = static_cast<index_t>(counts.size());
  prepared_call c({n, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  static parallel::thread_pool pool(3);
  worker_spaces some;
  for (workspace& each : some.of) each.reserve(1, n, 2, 2, true);
  workspace& ws = some.of[0];
  if (together) ws.workers = team(pool, &some, worker_spaces::at);
  for (const row_t row : already) ws.exact.add(row);
  ws.exact.list();
  std::copy(counts.begin(), counts.end(), ws.seen.counts(0).begin());
  select_most(call, most, k, ws);
  ws.exact.list();
  return rows_without(ws.exact.rows(), already);
}

/// The same by a plain sort.
list by_sorting(const counts_list& counts, index_t k, const list& already = {}) {
  list free, taken;
  for (const row_t row : rows_without(row_range(0, static_cast<index_t>(counts.size())), already)) {
    if (counts[row] == must_read) taken.push_back(row);
    if (counts[row] != must_read && counts[row] != not_free) free.push_back(row);
  }
  std::stable_sort(free.begin(), free.end(),
                   [&](row_t a, row_t b) { return counts[a] > counts[b]; });
  free.resize(std::min(free.size(), static_cast<std::size_t>(k)));
  taken.insert(taken.end(), free.begin(), free.end());
  std::sort(taken.begin(), taken.end());
  return taken;
}

void compare(const counts_list& counts, int most) {
  const auto n = static_cast<index_t>(counts.size());
  for (const index_t k : {index_t{0}, index_t{1}, index_t{2}, n / 50, n / 3, n - 1, n, 10 * n}) {
    CAPTURE(n, most, k);
    CHECK(selected(counts, most, k) == by_sorting(counts, k));
  }
}

/// Counts as equal signs of random signatures have them, 1 at least.
counts_list binomial(index_t n, int bits, std::uint64_t seed = 3) {
  std::mt19937_64 engine(seed);
  std::binomial_distribution<int> equal(bits, 0.5);
  counts_list all(static_cast<std::size_t>(n));
  for (auto& count : all) count = static_cast<std::uint16_t>(1 + equal(engine));
  return all;
}

}  // namespace

TEST_CASE("the largest counts are those of a plain sort", "[selection]") {
  for (const index_t n : {1, 2, 63, 64, 65, 300, 4096, 5000, 20000})
    for (const int bits : {1, 32, 64, 256, 1022}) compare(binomial(n, bits), 1 + bits);
}

TEST_CASE("equal counts go to the lower row", "[selection]") {
  compare(counts_list(300, 1), 65);
  compare(counts_list(300, 65), 65);
  compare(counts_list(5000, 33), 65);
  CHECK(selected(counts_list(300, 7), 65, 10) == row_range(0, 10));
}

TEST_CASE("counts that must be read are taken beyond k, those not free never", "[selection]") {
  counts_list x = binomial(5000, 64);
  for (const std::size_t row : {0U, 100U, 4095U, 4096U, 4999U}) x[row] = must_read;
  for (const std::size_t row : {1U, 64U, 3000U, 4998U}) x[row] = not_free;
  compare(x, 65);
  CHECK(selected(x, 65, 0) == list{0, 100, 4095, 4096, 4999});
  CHECK(selected(x, 65, 5000).size() == 4996);
  compare(counts_list(70, must_read), 65);
  compare(counts_list(70, not_free), 65);
  // More that must be read than k asks for, and more than what is free.
  counts_list most(2000, must_read);
  for (std::size_t i = 0; i < most.size(); i += 40) most[i] = static_cast<std::uint16_t>(i % 60);
  compare(most, 65);
}

TEST_CASE("counts with a period do not deceive the guess", "[selection]") {
  // What is looked at first is every 64th count of 20000.
  for (const std::uint16_t odd : {std::uint16_t{1}, std::uint16_t{65}, not_free, must_read}) {
    counts_list x = binomial(20000, 64);
    for (std::size_t i = 0; i < x.size(); i += 64) x[i] = odd;
    compare(x, 65);
  }
}

TEST_CASE("rows in the set already do not count", "[selection]") {
  const counts_list x = binomial(3000, 64);
  const list already = row_range(5, 2000);
  for (const index_t k : {1, 50, 900, 1005, 3000})
    CHECK(selected(x, 65, k, already) == by_sorting(x, k, already));
}

TEST_CASE("any number of workers selects the same", "[selection]") {
  counts_list x = binomial(20000, 128);
  x[4097] = x[12000] = must_read;
  for (const index_t k : {0, 7, 400, 20000})
    CHECK(selected(x, 129, k, {}, true) == selected(x, 129, k));
}

TEST_CASE("selecting by counts allocates nothing", "[selection]") {
  prepared_call c({5000, 2});
  const kv_view kv = c.view();
  const query_group queries = c.group();
  const attention_call<kv_view> call(queries, kv, {});
  c.begin(true);
  const counts_list x = binomial(5000, 64);
  std::copy(x.begin(), x.end(), c.ws.seen.counts(0).begin());
  CHECK(count_allocations([&] { select_most(call, 65, 100, c.ws); }) == 0);
  CHECK(c.ws.exact.size() == 100);
}
