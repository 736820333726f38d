// SPDX-License-Identifier: Apache-2.0
/// @file
/// Threads that stay, so that a timed pass does not pay for starting any.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>
#include <vector>

namespace vattn_bench {

/// `threads` - 1 sleeping threads and the caller. One `for_each` at a time.
class workers {
public:
  explicit workers(int threads) {
    for (int t = 1; t < threads; ++t) pool_.emplace_back([this, t] { serve(t); });
  }
  workers(const workers&) = delete;
  workers& operator=(const workers&) = delete;
  ~workers() {
    quit_ = true;
    begin();
    for (std::thread& t : pool_) t.join();
  }

  int threads() const noexcept { return static_cast<int>(pool_.size()) + 1; }

  /// Calls `body(thread, i)` for every i of [0, count), each once, in about ascending order. `body` must
  /// not throw where there are threads beside the caller.
  void for_each(std::size_t count, const std::function<void(int, std::size_t)>& body) {
    body_ = &body;
    count_ = count;
    next_ = 0;
    if (pool_.empty()) return work(0);
    busy_ = static_cast<int>(pool_.size());
    begin();
    work(0);
    for (int busy = busy_; busy != 0; busy = busy_) busy_.wait(busy);
  }

private:
  void begin() {
    ++turn_;
    turn_.notify_all();
  }
  void work(int thread) {
    for (std::size_t i = next_++; i < count_; i = next_++) (*body_)(thread, i);
  }
  void serve(int thread) {
    for (std::uint32_t seen = 0;;) {
      turn_.wait(seen);
      seen = turn_;
      if (quit_) return;
      work(thread);
      if (--busy_ == 0) busy_.notify_one();
    }
  }

  std::vector<std::thread> pool_;
  const std::function<void(int, std::size_t)>* body_ = nullptr;
  std::size_t count_ = 0;
  std::atomic<std::size_t> next_{0};
  std::atomic<std::uint32_t> turn_{0};
  std::atomic<int> busy_{0};
  std::atomic<bool> quit_{false};
};

}  // namespace vattn_bench
