// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far ahead, and into which cache level, the row kernels prefetch.
#pragma once

#include <cstdint>

#include "vattention/config.hpp"
#include "vattention/core/kv_view.hpp"

namespace vattn::kernels {

/// Software prefetch of cache rows: how many blocks of rows (16 to 32 rows each, see the kernels)
/// before they are used, and whether to L1 or only to L2.
struct prefetch_plan {
  index_t blocks_ahead;
  bool to_l1;
};

/// L1 measured best on Sapphire Rapids, L2 on Zen 4 (there by two to three times for a gather).
inline constexpr prefetch_plan intel_plan{1, true}, amd_plan{1, false};
/// AArch64, not measured: L1, which has 64 KiB and more there and so room for a block of rows.
inline constexpr prefetch_plan aarch64_plan{1, true};

/// The plan of this CPU, looked up once; Intel's for other CPUs not measured.
inline const prefetch_plan& active_plan() noexcept {
#if VATTN_X86_KERNELS
  static const prefetch_plan plan = __builtin_cpu_is("amd") ? amd_plan : intel_plan;
  return plan;
#elif VATTN_NEON_KERNELS
  return aarch64_plan;
#else
  return intel_plan;
#endif
}

/// Asks for the cache lines of `bytes` bytes from `at`. Always inlined: g++ 12 takes a function
/// that only prefetches for one without effect and deletes its calls.
VATTN_ALWAYS_INLINE void prefetch_lines(const void* at, index_t bytes, bool to_l1) noexcept {
  constexpr std::uintptr_t line = 64;
  const auto first = reinterpret_cast<std::uintptr_t>(at) & ~(line - 1);
  const auto last = reinterpret_cast<std::uintptr_t>(at) + static_cast<std::uintptr_t>(bytes);
  if (to_l1) {
    for (std::uintptr_t p = first; p < last; p += line)
      __builtin_prefetch(reinterpret_cast<const void*>(p), 0, 3);
  } else {
    for (std::uintptr_t p = first; p < last; p += line)
      __builtin_prefetch(reinterpret_cast<const void*>(p), 0, 2);
  }
}

/// Prefetch of the next block of rows, dealt out over the passes that the heads make over the
/// present one: of the rows a pass names, it asks for every `every`-th, `wait` of them later.
struct row_prefetch {
  const void* const* rows;
  index_t count, wait, every;
  bool to_l1;

  /// Row i is due: `bytes` bytes of it from byte `first`.
  VATTN_ALWAYS_INLINE void due(index_t i, index_t first, index_t bytes) noexcept {
    if (i >= count || wait-- > 0) return;
    wait = every - 1;
    prefetch_lines(static_cast<const char*>(rows[i]) + first, bytes, to_l1);
  }
  /// The same of `size` values from value `first`, which may be part of a block.
  template <element Type>
  VATTN_ALWAYS_INLINE void due_values(index_t i, index_t first, index_t size) noexcept {
    constexpr index_t more = block_values(Type) - 1;
    const index_t begin = row_bytes(Type, first), end = row_bytes(Type, first + size + more);
    due(i, begin, end - begin);
  }
};

}  // namespace vattn::kernels
