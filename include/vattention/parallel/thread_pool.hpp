// SPDX-License-Identifier: Apache-2.0
/// @file
/// Threads that live as long as the pool and share each run item by item.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "vattention/config.hpp"
#include "vattention/core/errors.hpp"
#include "vattention/parallel/executor.hpp"

namespace vattn::parallel {

/// Worker 0 is the thread that calls `run`; the others are the pool's own and sleep between runs. Each takes
/// the next item when it is done with one, by one atomic step: no lock, no allocation, nothing thrown. A run
/// does not wait for threads that come too late to find an item. Waking costs some microseconds a run.
///
/// One run at a time; none from within a body.
class thread_pool {
public:
  /// Makes `workers` - 1 threads.
  /// @throws std::invalid_argument unless there is a worker; std::system_error if a thread cannot be made.
  explicit thread_pool(int workers) {
    require(workers >= 1, "thread_pool", "at least one worker", workers);
    threads_.reserve(static_cast<std::size_t>(workers) - 1);
    try {
      for (int worker = 1; worker < workers; ++worker)
        threads_.emplace_back([this, worker] { serve(worker); });
    } catch (...) {
      shut_down();
      throw;
    }
  }
  thread_pool(const thread_pool&) = delete;
  thread_pool& operator=(const thread_pool&) = delete;
  ~thread_pool() { shut_down(); }

  int workers() const noexcept { return static_cast<int>(threads_.size()) + 1; }

  /// Calls body(worker, item) for items 0 .. count - 1, fewer than 2^32, begun in this order.
  template <item_body Body>
  void run(index_t count, const Body& body) noexcept {
    VATTN_ASSERT(count >= 0 && count < (index_t{1} << 32));
    if (threads_.empty() || count <= 1) {
      for (index_t item = 0; item < count; ++item) body(0, item);
      return;
    }
    body_ = &body;
    call_ = [](const void* of, int worker, index_t item) noexcept {
      (*static_cast<const Body*>(of))(worker, item);
    };
    count_ = static_cast<std::uint32_t>(count);
    done_.store(0, std::memory_order_relaxed);
    const std::uint32_t run = run_.load(std::memory_order_relaxed) + 1;
    left_.store(std::uint64_t{run} << 32U | count_, std::memory_order_release);
    run_.store(run, std::memory_order_release);
    run_.notify_all();
    work(0, run);
    for (std::uint32_t done = await_change(done_, ~count_); done != count_;
         done = await_change(done_, done)) {
    }
  }

private:
  /// Looks this often at a number before it sleeps: some 20 us, so that runs that follow each other closely, as
  /// those of one call do, wake nobody.
  static constexpr int looks = 1000;

  /// The number once it is another one than `old`.
  static std::uint32_t await_change(const std::atomic<std::uint32_t>& number,
                                    std::uint32_t old) noexcept {
    for (int look = 0; look < looks; ++look) {
      const std::uint32_t now = number.load(std::memory_order_acquire);
      if (now != old) return now;
      pause();
    }
    number.wait(old, std::memory_order_acquire);
    return number.load(std::memory_order_acquire);
  }
  /// Lets the other thread of the core work.
  static void pause() noexcept {
#if VATTN_X86_KERNELS
    __builtin_ia32_pause();
#elif VATTN_NEON_KERNELS
    asm volatile("yield");
#endif
  }

  /// What a thread does all its life.
  void serve(int worker) noexcept {
    std::uint32_t seen = 0;
    for (;;) {
      seen = await_change(run_, seen);
      if (closing_.load(std::memory_order_acquire)) return;
      work(worker, seen);
    }
  }

  /// Takes items of the run until none is left. The run's number is part of what is taken from: a thread
  /// that wakes late takes nothing of a later run, whose body it may not know. What describes a run
  /// stays as it is until all items that were taken are done.
  void work(int worker, std::uint32_t run) noexcept {
    std::uint64_t left = left_.load(std::memory_order_acquire);
    while (left >> 32U == run && static_cast<std::uint32_t>(left) != 0) {
      if (!left_.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel,
                                       std::memory_order_acquire))
        continue;
      const std::uint32_t count = count_;
      call_(body_, worker, index_t{count} - static_cast<std::uint32_t>(left));
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) done_.notify_one();
      left = left_.load(std::memory_order_acquire);
    }
  }

  void shut_down() noexcept {
    closing_.store(true, std::memory_order_release);
    run_.fetch_add(1, std::memory_order_release);
    run_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // Of the run in progress.
  const void* body_ = nullptr;
  void (*call_)(const void* body, int worker, index_t item) noexcept = nullptr;
  std::uint32_t count_ = 0;
  /// Its number, in the upper half, and the items that nobody has taken yet.
  alignas(64) std::atomic<std::uint64_t> left_{0};
  alignas(64) std::atomic<std::uint32_t> done_{0};
  /// Number of the latest run; sleeping threads wait for it to change.
  alignas(64) std::atomic<std::uint32_t> run_{0};
  std::atomic<bool> closing_{false};
  std::vector<std::thread> threads_;
};
static_assert(executor<thread_pool>);

}  // namespace vattn::parallel
