// SPDX-License-Identifier: Apache-2.0
/// @file
/// Every macro of the library. All of them may be defined before the first include.
#pragma once

#include <cassert>

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "vattention: -ffast-math and -ffinite-math-only delete the NaN checks a certificate rests on"
#endif

#if defined(_MSC_VER) && !defined(__clang__)
#error "vattention: needs GCC 11 or later, or clang 14 or later (per-function target attributes)"
#endif

/// Checks an internal invariant; a failure is a fault of the library, never of its user.
#ifndef VATTN_ASSERT
#define VATTN_ASSERT(condition) assert(condition)
#endif

/// Defined to 1 where the x86-64 kernel rows can be compiled. Define to 0 to get the portable row only.
#ifndef VATTN_X86_KERNELS
#if defined(__x86_64__)
#define VATTN_X86_KERNELS 1
#else
#define VATTN_X86_KERNELS 0
#endif
#endif

/// Defined to 1 where the AArch64 kernel row can be compiled. Define to 0 to get the portable row only.
#ifndef VATTN_NEON_KERNELS
#if defined(__aarch64__) && defined(__ARM_NEON) && !defined(__AARCH64EB__)
#define VATTN_NEON_KERNELS 1
#else
#define VATTN_NEON_KERNELS 0
#endif
#endif

/// VATTN_EXTERN_KERNELS: define it for a whole program to compile the kernel rows in one translation
/// unit instead of in each that attends, which saves several seconds each. That one says
/// `template struct vattn::kernels::compiled_rows<>;` after `#include <vattention/kernels/dispatch.hpp>`.

/// Compiles one function for an instruction set that the rest of the program does not assume.
#ifndef VATTN_TARGET
#define VATTN_TARGET(features) __attribute__((target(features)))
#endif

/// Unrolls the loop behind it, up to 16 times.
#if defined(__clang__)
#define VATTN_UNROLL _Pragma("clang loop unroll(full)")
#else
#define VATTN_UNROLL _Pragma("GCC unroll 16")
#endif

/// Keeps a function whose only effect is a prefetch from being taken for a pure one.
#ifndef VATTN_ALWAYS_INLINE
#define VATTN_ALWAYS_INLINE inline __attribute__((always_inline))
#endif

/// Gives a busy loop a function of its own, and so all registers.
#ifndef VATTN_NOINLINE
#define VATTN_NOINLINE __attribute__((noinline))
#endif
