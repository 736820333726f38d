// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far ahead, and into which cache level, the row kernels prefetch.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"

#if VATTN_X86_KERNELS
#include <cpuid.h>
#endif

namespace vattn::kernels {

/// Software prefetch of cache rows: how many rows before they are used, a multiple of 16, and whether
/// to L1 or only to L2. Sums, which read rows 32 at a time, ask no later than 32 rows before.
struct prefetch_plan {
  index_t rows_ahead;
  bool to_l1;
};

/// L1 measured best on Zen 5; L2 on Zen 4 (there by two to three times for a gather) and on Emerald Rapids with all
/// cores at work (by a tenth for the dense kernel; a core alone is a little faster with L1).
inline constexpr prefetch_plan intel_plan{32, false}, zen4_plan{16, false}, zen5_plan{32, true};
/// AArch64, not measured: L1, which has 64 KiB and more there and so room for a block of rows.
inline constexpr prefetch_plan aarch64_plan{16, true};

/// The plan of this CPU, looked up once; Intel's for other CPUs not measured.
inline const prefetch_plan& active_plan() noexcept {
#if VATTN_X86_KERNELS
  static const prefetch_plan plan = [] {
    if (!__builtin_cpu_is("amd")) return intel_plan;
    unsigned a = 0, b = 0, c = 0, d = 0;
    // Families: 0x17 Zen to Zen 2, 0x19 Zen 3 and 4, 0x1a Zen 5.
    const bool known = __get_cpuid(1, &a, &b, &c, &d) != 0;
    const unsigned family = (a >> 8 & 0xfu) + (a >> 20 & 0xffu);
    return known && family >= 0x1a ? zen5_plan : zen4_plan;
  }();
  return plan;
#elif VATTN_NEON_KERNELS
  return aarch64_plan;
#else
  return intel_plan;
#endif
}

/// Asks for `Lines` cache lines from the address `at`, a number because lines reach over the ends of what a pointer may
/// point to. Always inlined: g++ 12 takes a function that only prefetches for one without effect and deletes its calls.
template <int Lines>
VATTN_ALWAYS_INLINE void prefetch_some(std::uintptr_t at, bool to_l1) noexcept {
  const auto line = [at](int l) { return reinterpret_cast<const void*>(at + 64u * unsigned(l)); };
  if (to_l1) {
    VATTN_UNROLL
    for (int l = 0; l < Lines; ++l) __builtin_prefetch(line(l), 0, 3);
  } else {
    VATTN_UNROLL
    for (int l = 0; l < Lines; ++l) __builtin_prefetch(line(l), 0, 2);
  }
}

/// Asks for the cache lines of `bytes` bytes from `at`, most of them four at a time: short loops are hard to
/// predict.
VATTN_ALWAYS_INLINE void prefetch_lines(const void* at, index_t bytes, bool to_l1) noexcept {
  auto line = reinterpret_cast<std::uintptr_t>(at);
  index_t left = bytes + static_cast<index_t>(line % 64);
  line -= line % 64;
  for (; left > 192; left -= 256, line += 256) prefetch_some<4>(line, to_l1);
  for (; left > 0; left -= 64, line += 64) prefetch_some<1>(line, to_l1);
}

/// The rows behind those at work, to prefetch. Each is asked for in one go, in the order of the list: that
/// is what hardware prefetchers follow best.
class rows_ahead {
public:
  /// None.
  rows_ahead() noexcept = default;
  /// Of a list of `known` rows those that lie `ahead` behind the ones named. Beyond the end it is the last.
  rows_ahead(const void* const* rows, index_t known, index_t ahead) noexcept
      : rows_(rows), last_(known - 1), ahead_(ahead), to_l1_(active_plan().to_l1) {}

  const char* address(index_t i) const noexcept {
    return static_cast<const char*>(rows_[std::min(i + ahead_, last_)]);
  }
  /// The `Count` rows behind rows i to i + Count - 1: the list's own addresses, or at its end `edge`.
  template <index_t Count>
  const void* const* block(index_t i, const void** edge) const noexcept {
    if (i + ahead_ + Count - 1 <= last_) return rows_ + i + ahead_;
    for (index_t k = 0; k < Count; ++k) edge[k] = address(i + k);
    return edge;
  }
  /// Asks for bytes [begin, end) of the row behind row i.
  VATTN_ALWAYS_INLINE void ask(index_t i, index_t begin, index_t end) const noexcept {
    if (i + ahead_ <= last_) prefetch_lines(address(i) + begin, end - begin, to_l1_);
  }
  bool to_l1() const noexcept { return to_l1_; }

private:
  const void* const* rows_ = nullptr;
  index_t last_ = -1, ahead_ = 0;
  bool to_l1_ = false;
};

/// A few of them, asked for one by one while others are worked on.
class rows_share {
public:
  /// None.
  rows_share() noexcept = default;
  /// Bytes [begin, end) of the rows behind rows i to i + count - 1. Refers to `list`.
  rows_share(const rows_ahead& list, index_t i, index_t count, index_t begin, index_t end) noexcept
      : list_(&list), at_(i), last_(i + count), begin_(begin), end_(end) {}

  VATTN_ALWAYS_INLINE void ask() noexcept {
    if (at_ < last_) list_->ask(at_++, begin_, end_);
  }
  VATTN_ALWAYS_INLINE void ask_rest() noexcept {
    while (at_ < last_) list_->ask(at_++, begin_, end_);
  }

private:
  const rows_ahead* list_ = nullptr;
  index_t at_ = 0, last_ = 0, begin_ = 0, end_ = 0;
};

}  // namespace vattn::kernels
