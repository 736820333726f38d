// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which row of kernels this CPU can run, and which one the library uses; declared in kernels.hpp.
#pragma once

#include <cstdlib>
#include <string_view>

#include "vattention/config.hpp"
#include "vattention/kernels/avx2.hpp"
#include "vattention/kernels/avx2_array.hpp"
#include "vattention/kernels/avx2_codes.hpp"
#include "vattention/kernels/avx2_proposals.hpp"
#include "vattention/kernels/avx2_scan.hpp"
#include "vattention/kernels/avx2_sum.hpp"
#include "vattention/kernels/avx512.hpp"
#include "vattention/kernels/avx512_amx.hpp"
#include "vattention/kernels/avx512_array.hpp"
#include "vattention/kernels/avx512_bf16.hpp"
#include "vattention/kernels/avx512_codes.hpp"
#include "vattention/kernels/avx512_proposals.hpp"
#include "vattention/kernels/avx512_scan.hpp"
#include "vattention/kernels/avx512_sum.hpp"
#include "vattention/kernels/kernels.hpp"
#include "vattention/kernels/neon.hpp"
#include "vattention/kernels/neon_array.hpp"
#include "vattention/kernels/neon_scan.hpp"
#include "vattention/kernels/neon_sum.hpp"
#include "vattention/kernels/scalar.hpp"
#include "vattention/kernels/scalar_proposals.hpp"

#if VATTN_X86_KERNELS
#include <cpuid.h>
#endif

namespace vattn::kernels {

static_assert(code_block == scalar::block_keys);

namespace detail {

inline constexpr table scalar_row{isa::scalar,
                                  "scalar",
                                  scalar::dot_rows,
                                  scalar::sum_rows,
                                  scalar::max_of,
                                  scalar::exp_shifted,
                                  scalar::scan_codes,
                                  scalar::dot_codes,
                                  scalar::weigh_sums,
                                  scalar::byte_norms,
                                  scalar::within_reach,
                                  scalar::proposal_logs,
                                  scalar::scale_sums,
                                  scalar::not_below,
                                  scalar::count_reaching,
                                  scalar::mark_reaching,
                                  scalar::match_signs,
                                  scalar::match_halves,
                                  scalar::random_blocks};

#if VATTN_X86_KERNELS
inline constexpr table avx2_row{isa::avx2,
                                "avx2",
                                avx2::dot_rows,
                                avx2::sum_rows,
                                avx2::max_of,
                                avx2::exp_shifted,
                                avx2::scan_codes,
                                avx2::dot_codes,
                                avx2::weigh_sums,
                                avx2::byte_norms,
                                avx2::within_reach,
                                avx2::proposal_logs,
                                avx2::scale_sums,
                                avx2::not_below,
                                avx2::count_reaching,
                                avx2::mark_reaching,
                                avx2::match_signs,
                                avx2::match_halves,
                                avx2::random_blocks};

/// Dot products by tiles where there are any. By the bfloat16 instructions on AMD's CPUs only: where they were measured
/// on Intel's (Emerald Rapids), floats took two thirds of their time.
inline auto avx512_dot_rows() noexcept {
#if VATTN_AMX_KERNELS
  if (avx512::may_use_amx()) return avx512::dot_rows_amx<>;
#endif
  const bool bf16 = __builtin_cpu_is("amd") != 0 && __builtin_cpu_supports("avx512bf16") != 0;
  return bf16 ? avx512::dot_rows_bf16 : avx512::dot_rows;
}

/// The AVX-512 row with the extensions this CPU has.
inline table avx512_row() noexcept {
  const bool vnni = __builtin_cpu_supports("avx512vnni") != 0;
  const bool popcnt = __builtin_cpu_supports("avx512vpopcntdq") != 0;
  return {isa::avx512,
          "avx512",
          avx512_dot_rows(),
          avx512::sum_rows,
          avx512::max_of,
          avx512::exp_shifted,
          vnni ? avx512::scan_codes_vnni : avx512::scan_codes,
          vnni ? avx512::dot_codes_vnni : avx2::dot_codes,
          avx512::weigh_sums,
          avx512::byte_norms,
          avx512::within_reach,
          avx512::proposal_logs,
          avx512::scale_sums,
          avx512::not_below,
          avx512::count_reaching,
          avx512::mark_reaching,
          popcnt ? avx512::match_signs_popcnt : avx512::match_signs,
          popcnt ? avx512::match_halves_popcnt : avx2::match_halves,
          avx512::random_blocks};
}

/// AVX2 with FMA, F16C and POPCNT; clang 14 has no name for F16C, so that bit is read from CPUID.
inline bool has_avx2() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & (1u << 29)) != 0;
  return f16c && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("popcnt");
}
inline bool has_avx512() noexcept {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
#endif

#if VATTN_NEON_KERNELS
/// The NEON row with the dot product extension if this CPU has it. The portable row's loops serve where the
/// compiler makes vectors of them, and for codes of single keys.
inline table neon_row() noexcept {
  return {isa::neon,
          "neon",
          neon::dot_rows,
          neon::sum_rows,
          neon::max_of,
          neon::exp_shifted,
          neon::has_dot_product() ? neon::scan_codes_dot : neon::scan_codes,
          scalar::dot_codes,
          scalar::weigh_sums,
          scalar::byte_norms,
          scalar::within_reach,
          scalar::proposal_logs,
          neon::scale_sums,
          neon::not_below,
          neon::count_reaching,
          neon::mark_reaching,
          neon::match_signs,
          neon::match_halves,
          neon::random_blocks};
}
#endif

}  // namespace detail

template <class Void>
bool compiled_rows<Void>::supported(isa row) noexcept {
#if VATTN_X86_KERNELS
  __builtin_cpu_init();
  if (row == isa::avx512) return detail::has_avx512();
  if (row == isa::avx2) return detail::has_avx2();
#endif
#if VATTN_NEON_KERNELS
  if (row == isa::neon) return true;
#endif
  return row == isa::scalar;
}

template <class Void>
const table& compiled_rows<Void>::get(isa row) noexcept {
#if VATTN_X86_KERNELS
  static const table avx512_row = detail::avx512_row();
  if (row == isa::avx512) return avx512_row;
  if (row == isa::avx2) return detail::avx2_row;
#endif
#if VATTN_NEON_KERNELS
  static const table neon_row = detail::neon_row();
  if (row == isa::neon) return neon_row;
#endif
  VATTN_ASSERT(row == isa::scalar);
  return detail::scalar_row;
}

template <class Void>
isa compiled_rows<Void>::chosen() noexcept {
  const char* const name = std::getenv("VATTN_ISA");
  const std::string_view wanted = name == nullptr ? "" : name;
  isa best = isa::scalar;
  for (const isa row : all_isas) {
    if (!supported(row)) continue;
    if (wanted == get(row).name) return row;
    best = row;
  }
  return best;
}

template <class Void>
const table& compiled_rows<Void>::active() noexcept {
  static const table& row = get(chosen());
  return row;
}

}  // namespace vattn::kernels
