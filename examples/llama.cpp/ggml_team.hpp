// SPDX-License-Identifier: Apache-2.0
/// @file
/// The threads that ggml sends into one operator, as an executor of the library.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

#include "vattention/parallel/executor.hpp"

namespace vattn_llama_cpp {

using vattn::index_t;

/// Thread 0 drives and calls `run`, all others call `help` and stay there until it calls `end`. A thread that comes
/// late is not waited for. Nothing is allocated or locked.
class ggml_team {
public:
  /// Before the threads meet in an operator again; by one thread, while no other is here.
  void begin(int threads) noexcept { threads_ = threads; }

  int workers() const noexcept { return threads_; }

  template <class Body>
  void run(index_t count, const Body& body) noexcept {
    if (threads_ == 1 || count <= 1 || count >= most) {
      for (index_t item = 0; item < count; ++item) body(0, item);
      return;
    }
    call_ = [](const void* what, int worker, index_t item) noexcept {
      (*static_cast<const Body*>(what))(worker, item);
    };
    body_ = &body;
    done_.store(0, std::memory_order_relaxed);
    // round, count and next item in one word, so that a late thread never takes an item of another run
    round_ = (round_ + 1) & 0xFFFFU;
    ticket_.store(std::uint64_t{round_} << 48 | static_cast<std::uint64_t>(count) << 24,
                  std::memory_order_release);
    take_items(0);
    for (int tries = 0; done_.load(std::memory_order_acquire) < count; ++tries) pause(tries);
  }

  void end() noexcept { over_.store(true, std::memory_order_release); }
  /// Works until `end`. The thread that leaves last makes the team ready for the next operator.
  void help(int worker) noexcept {
    for (int tries = 0; !over_.load(std::memory_order_acquire); ++tries)
      if (take_items(worker))
        tries = 0;
      else
        pause(tries);
  }
  /// Every thread, the driver too, as the last thing it does; `threads` as in `begin`.
  void leave(int threads) noexcept {
    if (left_.fetch_add(1, std::memory_order_acq_rel) + 1 != threads) return;
    left_.store(0, std::memory_order_relaxed);
    over_.store(false, std::memory_order_release);
  }

private:
  static constexpr index_t most = index_t{1} << 23;

  static void pause(int tries) noexcept {
    if (tries > 256) std::this_thread::yield();
  }

  /// Takes items of the present run; false if there was none.
  bool take_items(int worker) noexcept {
    bool any = false;
    for (;;) {
      std::uint64_t seen = ticket_.load(std::memory_order_acquire);
      if (!left_of(seen)) return any;
      if (!ticket_.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel)) continue;
      call_(body_, worker, static_cast<index_t>(seen & 0xFFFFFFU));
      done_.fetch_add(1, std::memory_order_release);
      any = true;
    }
  }
  static bool left_of(std::uint64_t ticket) noexcept {
    return (ticket & 0xFFFFFFU) < (ticket >> 24 & 0xFFFFFFU);
  }

  int threads_ = 1;
  std::uint32_t round_ = 0;
  const void* body_ = nullptr;
  void (*call_)(const void* body, int worker, index_t item) noexcept = nullptr;
  alignas(64) std::atomic<std::uint64_t> ticket_{0};
  alignas(64) std::atomic<index_t> done_{0};
  std::atomic<bool> over_{false};
  std::atomic<int> left_{0};
};
static_assert(vattn::executor<ggml_team>);

}  // namespace vattn_llama_cpp
