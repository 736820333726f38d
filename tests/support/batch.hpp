// SPDX-License-Identifier: Apache-2.0
/// @file
/// Batches of requests over caches of different lengths, with memory for their results.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "support/allocations.hpp"
#include "support/random_cache.hpp"
#include "vattention/batch/request.hpp"
#include "vattention/parallel/thread_pool.hpp"

namespace vattn::test {

/// Bytes of what results are filled with before a batch: NaN in every type.
inline constexpr unsigned char untouched = 0xFF;

/// A cache, and the results of one request on it.
struct batch_item {
  explicit batch_item(const cache_plan& plan)
      : cache(plan),
        output(static_cast<std::size_t>(plan.heads * plan.value_dim)),
        log_sum_exp(static_cast<std::size_t>(plan.heads)),
        log_sum_exp_error(static_cast<std::size_t>(plan.heads)),
        certificates(static_cast<std::size_t>(plan.heads)) {
    forget();
  }
  void forget() {
    std::memset(output.data(), untouched, output.size() * sizeof(float));
    std::memset(log_sum_exp.data(), untouched, log_sum_exp.size() * sizeof(double));
    std::memset(log_sum_exp_error.data(), untouched, log_sum_exp_error.size() * sizeof(double));
    std::fill(certificates.begin(), certificates.end(), certificate{.looks = -99});
  }
  bool written() const {
    const auto any = [](const auto& numbers) {
      return std::any_of(numbers.begin(), numbers.end(), [](auto x) { return !std::isnan(x); });
    };
    return any(output) || any(log_sum_exp) || any(log_sum_exp_error) ||
           std::any_of(certificates.begin(), certificates.end(),
                       [](const certificate& c) { return c.looks != -99; });
  }

  random_cache cache;
  std::vector<float> output;
  std::vector<double> log_sum_exp, log_sum_exp_error;
  std::vector<certificate> certificates;
};

inline bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }
inline bool same_bits(const certificate& x, const certificate& y) {
  return x.status == y.status && x.basis == y.basis && x.quantity == y.quantity &&
         x.bound == y.bound && x.scale == y.scale && same_bits(x.unit, y.unit) &&
         same_bits(x.epsilon_asked, y.epsilon_asked) && same_bits(x.epsilon, y.epsilon) &&
         same_bits(x.delta, y.delta) && same_bits(x.max_logit, y.max_logit) &&
         same_bits(x.denominator, y.denominator) &&
         same_bits(x.denominator_error, y.denominator_error) && x.looks == y.looks &&
         x.rows_total == y.rows_total && x.rows_exact == y.rows_exact &&
         x.rows_sampled == y.rows_sampled && x.bounds_violated == y.bounds_violated &&
         x.bytes_touched == y.bytes_touched;
}
/// True if an item holds a result, bit for bit.
inline bool holds(const batch_item& item, const result& want) {
  if (std::memcmp(item.output.data(), want.output.data(), item.output.size() * sizeof(float)) != 0)
    return false;
  for (std::size_t h = 0; h < item.certificates.size(); ++h)
    if (!same_bits(item.log_sum_exp[h], want.log_sum_exp[h]) ||
        !same_bits(item.log_sum_exp_error[h], want.log_sum_exp_error[h]) ||
        !same_bits(item.certificates[h], want.certificates[h]))
      return false;
  return true;
}

/// Items of different lengths; shapes differ too.
inline std::vector<std::unique_ptr<batch_item>> some_items(const std::vector<index_t>& lengths) {
  std::vector<std::unique_ptr<batch_item>> items;
  for (std::size_t i = 0; i < lengths.size(); ++i) {
    const auto type = static_cast<element>(i % 3);
    items.push_back(std::make_unique<batch_item>(cache_plan{.rows = lengths[i],
                                                            .dim = 32 + 16 * index_t(i % 2),
                                                            .value_dim = 24 + 8 * index_t(i % 3),
                                                            .heads = 1 + static_cast<int>(i % 4),
                                                            .keys = type,
                                                            .values = type,
                                                            .seed = 5 + i}));
  }
  return items;
}

/// A request for an item's cache, into the item.
template <class Index>
request<kv_view, Index> request_for(batch_item& item, const Index* index, std::uint64_t sequence) {
  return {.queries = item.cache.group(),
          .kv = item.cache.view(),
          .index = index,
          .key = {.seed = 3, .sequence = sequence, .step = 7},
          .output = item.output.data(),
          .log_sum_exp = item.log_sum_exp.data(),
          .log_sum_exp_error = item.log_sum_exp_error.data(),
          .certificates = item.certificates.data()};
}

/// Runs items backwards on its caller, as if it were three workers.
struct backwards_executor {
  int workers() const noexcept { return 3; }
  template <item_body Body>
  void run(index_t count, const Body& body) const noexcept {
    for (index_t item = count; item-- > 0;) body(static_cast<int>(item % 3), item);
  }
};

/// A thread pool that counts the allocations of the items it runs.
struct counting_pool {
  explicit counting_pool(int workers) : pool(workers) { begin_counting(); }
  int workers() const noexcept { return pool.workers(); }
  template <item_body Body>
  void run(index_t count, const Body& body) noexcept {
    pool.run(count, [&](int worker, index_t item) noexcept {
      const std::int64_t before = allocations;
      body(worker, item);
      within += allocations - before;
    });
  }
  parallel::thread_pool pool;
  std::atomic<std::int64_t> within{0};
};

/// `check(executor, name)` with every executor of the library and of the tests.
template <class Check>
void for_each_executor(Check check) {
  check(backwards_executor(), "backwards");
  for (const int workers : {1, 2, 3, 8}) {
    parallel::thread_pool pool(workers);
    check(pool, "thread_pool");
  }
}

}  // namespace vattn::test
