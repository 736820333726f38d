// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where the time of a call goes, told by policies that look at the clock when they are called.
///
/// The pipeline is nothing but calls of its policies and the passes over rows in between. A functor of
/// `timed` policies so knows when each part begins, without a hook in the library; the functor that is raced
/// is another type and does not know of clocks. A look takes some tenths of a microsecond, a call some ten to
/// thirty looks; the clock is the thread's CPU time, so that other programs do not count. Measuring prefixes of the pipeline as contenders of their own would need its inside
/// rebuilt here, and would not see what a growth costs.
#pragma once

#include <time.h>

#include <array>

#include "vattention/functor.hpp"

namespace vattn_bench {

/// selecting: static indices, prediction and top-k. sampling: drawing rows and growing the draw, with what
/// that reads of codes. estimating: variances, bounds, sizes: everything that a certificate costs.
/// attending: keys and values of exact and drawn rows, or of all.
enum class phase : std::uint8_t { selecting, sampling, estimating, attending };
inline constexpr std::array<const char*, 4> phase_names{"selecting", "sampling", "estimating",
                                                        "attending"};

/// Seconds a phase.
using phase_times = std::array<double, phase_names.size()>;

/// The clock of one thread.
class phase_clock {
public:
  static phase_clock& mine() noexcept {
    thread_local phase_clock clock;
    return clock;
  }
  void begin() noexcept {
    times_ = {};
    now_ = phase::selecting;
    since_ = look();
  }
  void enter(phase next) noexcept {
    const double at = look();
    times_[static_cast<std::size_t>(now_)] += at - since_;
    now_ = next;
    since_ = at;
  }
  const phase_times& end() noexcept {
    enter(now_);
    return times_;
  }

private:
  static double look() noexcept {
    std::timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
  }
  phase_times times_{};
  phase now_ = phase::selecting;
  double since_ = 0.0;
};

namespace detail {

/// Enters a phase, and another one when it is left.
class within_phase {
public:
  within_phase(phase during, phase after) noexcept : after_(after) {
    phase_clock::mine().enter(during);
  }
  within_phase(const within_phase&) = delete;
  within_phase& operator=(const within_phase&) = delete;
  ~within_phase() { phase_clock::mine().enter(after_); }

private:
  phase after_;
};

}  // namespace detail

/// A policy that tells the clock of its thread what it does.
template <class Policy, class Role = typename Policy::role>
class timed;

/// Static indices come first, with the clock's first phase.
template <class Policy>
class timed<Policy, vattn::role::static_indices> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
};

template <class Policy>
class timed<Policy, vattn::role::top_k> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
  template <class Call>
  void select(const Call& call, const vattn::predictions& seen,
              vattn::workspace& ws) const noexcept {
    const detail::within_phase timer(phase::selecting, phase::attending);
    Policy::select(call, seen, ws);
  }
};

template <class Policy>
class timed<Policy, vattn::role::base_sampling> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
  template <class Drawing>
  void draw(const Drawing& d) const noexcept {
    const detail::within_phase timer(phase::sampling, phase::attending);
    Policy::draw(d);
  }
};

template <class Policy>
class timed<Policy, vattn::role::budget> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
  vattn::judgement judge(const vattn::partial_view& state, vattn::workspace& ws) const noexcept {
    const detail::within_phase timer(phase::estimating, phase::estimating);
    return Policy::judge(state, ws);
  }
  /// What follows is a growth, which names itself, the end, or a pass over all rows.
  template <class Look>
  vattn::decision next(Look& look) const noexcept {
    const detail::within_phase timer(phase::estimating, phase::attending);
    return Policy::next(look);
  }
};

template <class Policy>
class timed<Policy, vattn::role::dynamic_sampling> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
  template <class Drawing>
  void grow(const Drawing& d, std::span<const vattn::index_t> sizes) const noexcept {
    const detail::within_phase timer(phase::sampling, phase::attending);
    Policy::grow(d, sizes);
  }
};

/// Decides in no time.
template <class Policy>
class timed<Policy, vattn::role::cost> : public Policy {
public:
  explicit timed(Policy policy) : Policy(std::move(policy)) {}
};

/// The functor that is raced, and its twin of timed policies.
template <class... Policies>
struct functor_pair {
  explicit functor_pair(Policies... policies)
      : plain(policies...), profiled(timed<Policies>(policies)...) {}
  vattn::vattention<Policies...> plain;
  vattn::vattention<timed<Policies>...> profiled;
};

}  // namespace vattn_bench
