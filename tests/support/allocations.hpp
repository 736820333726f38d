// SPDX-License-Identifier: Apache-2.0
/// @file
/// Counts the memory allocations of a piece of code: `new`, `malloc`, and Eigen's.
///
/// Under a sanitizer its allocator reports them; elsewhere, with glibc, the functions of the malloc
/// family are replaced by counting ones that forward (weak, so that a program may include this header
/// in several translation units). With another C library nothing is counted, see
/// `counts_allocations`.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define VATTN_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define VATTN_TEST_SANITIZED 1
#endif

#if defined(VATTN_TEST_SANITIZED)
// From sanitizer/allocator_interface.h, which not every compiler installs.
extern "C" int __sanitizer_install_malloc_and_free_hooks(
    void (*allocated)(const volatile void* memory, std::size_t size),
    void (*freed)(const volatile void* memory));
#endif

namespace vattn::test {

/// Allocations of the present thread since it began, as far as they are counted.
inline constinit thread_local std::int64_t allocations = 0;

#if defined(VATTN_TEST_SANITIZED)
inline constexpr bool counts_allocations = true;
inline void count_one(const volatile void* /*memory*/, std::size_t /*size*/) { ++allocations; }
inline void ignore_one(const volatile void* /*memory*/) {}
inline void begin_counting() {
  static const int installed = __sanitizer_install_malloc_and_free_hooks(count_one, ignore_one);
  static_cast<void>(installed);
}
#elif defined(__GLIBC__)
inline constexpr bool counts_allocations = true;
inline void begin_counting() {}
#else
inline constexpr bool counts_allocations = false;
inline void begin_counting() {}
#endif

/// How often `function()` allocates, in this thread; 0 where nothing is counted.
template <class Function>
std::int64_t count_allocations(Function&& function) {
  begin_counting();
  const std::int64_t before = allocations;
  function();
  return allocations - before;
}

}  // namespace vattn::test

#if !defined(VATTN_TEST_SANITIZED) && defined(__GLIBC__)
extern "C" {
void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t count, std::size_t size) noexcept;
void* __libc_realloc(void* memory, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;

__attribute__((weak)) void* malloc(std::size_t size) noexcept {
  ++vattn::test::allocations;
  return __libc_malloc(size);
}
__attribute__((weak)) void* calloc(std::size_t count, std::size_t size) noexcept {
  ++vattn::test::allocations;
  return __libc_calloc(count, size);
}
__attribute__((weak)) void* realloc(void* memory, std::size_t size) noexcept {
  ++vattn::test::allocations;
  return __libc_realloc(memory, size);
}
__attribute__((weak)) void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept {
  ++vattn::test::allocations;
  return __libc_memalign(alignment, size);
}
__attribute__((weak)) int posix_memalign(void** memory, std::size_t alignment,
                                         std::size_t size) noexcept {
  ++vattn::test::allocations;
  void* const made = __libc_memalign(alignment, size);
  if (made == nullptr) return 12;  // ENOMEM
  *memory = made;
  return 0;
}
}
#endif
